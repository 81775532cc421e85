"""configs/tensorrt.pbtxt differs from config.pbtxt only in where the scorer runs."""

import re

import pytest

from operations.records.contract import (
    MODEL_REPOSITORY,
    NAMED,
    SAMPLER,
    SCORER,
    read_config,
    read_contract,
    tensors,
)
from operations.records.manifest import ContractRecord
from operations.releases.models.configs import NAME, part_config

NAMES = sorted(MODEL_REPOSITORY.glob(f"*/{NAMED}/*.pbtxt"))
TENSORRT = read_config(MODEL_REPOSITORY / SCORER / NAMED / "tensorrt.pbtxt")
(ACCELERATOR,) = TENSORRT.optimization.execution_accelerators.gpu_execution_accelerator


@pytest.mark.parametrize("path", NAMES, ids=lambda path: path.stem)
def test_a_named_config_tells_its_name(path) -> None:
    """`cesta release` learns from it which config a server was started with."""
    assert read_config(path).parameters[NAME].string_value == path.stem


@pytest.mark.parametrize("path", NAMES, ids=lambda path: path.stem)
def test_a_named_config_has_the_tensors_and_the_batches_of_config_pbtxt(path) -> None:
    named, config = read_config(path), read_config(path.parents[1] / "config.pbtxt")
    assert (named.name, named.backend) == (config.name, config.backend)
    assert (tensors(named.input), tensors(named.output)) == (tensors(config.input), tensors(config.output))
    assert named.max_batch_size == config.max_batch_size
    assert named.dynamic_batching == config.dynamic_batching


def test_the_engine_is_built_for_every_batch_that_triton_forms() -> None:
    """One to max_batch_size rows of every input: another shape would have it built again, which takes a
    minute.
    """
    inputs = tensors(TENSORRT.input)
    for key, rows in {"min": 1, "opt": 16, "max": TENSORRT.max_batch_size}.items():
        text = ACCELERATOR.parameters[f"trt_profile_{key}_shapes"]
        shapes = {name: [*map(int, dims.split("x"))] for name, dims in re.findall(r"(\w+):([\dx]+)", text)}
        assert shapes == {name: [rows, *dims] for name, (_, dims) in inputs.items()}


def test_no_engine_outlives_its_release() -> None:
    """The engine's file is not named after the weights in it."""
    assert ACCELERATOR.parameters["trt_engine_cache_enable"] == "false"
    assert ACCELERATOR.parameters["trt_timing_cache_enable"] == "true"


def test_a_config_is_chosen_by_its_name_and_pinned() -> None:
    """A part without a config of that name has config.pbtxt, as with Triton's --model-config-name."""
    contract = ContractRecord.of(read_contract())
    chosen = part_config(SCORER, contract, {2, 1}, "tensorrt")
    assert chosen.parameters[NAME].string_value == "tensorrt"
    assert list(chosen.version_policy.specific.versions) == [1, 2]
    assert part_config(SAMPLER, contract, {1}, "tensorrt") == part_config(SAMPLER, contract, {1})
