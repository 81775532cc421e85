"""Models that the `onnxruntime` backends refuse to load, each with a reason."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from onnx import TensorProto
from tritonclient.utils import InferenceServerException

from tests.building.toy_models import identity
from tests.running.toy_server import ONE_INSTANCE, Toys

pytestmark = [pytest.mark.triton, pytest.mark.timeout(60)]

BATCHING = "max_batch_size: 4\n"
XY = """
    input { name: "x" data_type: TYPE_FP32 dims: [ 3 ] }
    output { name: "y" data_type: TYPE_FP32 dims: [ 3 ] }
"""


def parameter(key: str, value: str) -> str:
    return f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}\n{XY}'


REFUSED = {
    "output dims that are not the graph's": (
        identity(),
        BATCHING + 'input { name: "x" data_type: TYPE_FP32 dims: [ 3 ] }\n'
        'output { name: "y" data_type: TYPE_FP32 dims: [ -1 ] }',
        r"output 'y': dims are \[-1\]; expected the graph's \[3\]",
    ),
    "output dims closed where the graph's are open": (
        identity(shape=("n", "m")),
        BATCHING + XY,
        r"output 'y': dims are \[3\]; expected the graph's \[-1\]",
    ),
    "input dims that the graph does not take": (
        identity(),
        BATCHING + XY.replace("dims: [ 3 ]", "dims: [ 4 ]", 1),
        r"input 'x': dims are \[4\]; expected the graph's \[3\]",
    ),
    "batching on a fixed axis": (
        identity(shape=(1, 3)),
        BATCHING + XY,
        r"input 'x': max_batch_size is 4 and the graph's shape is \[1, 3\]; expected a first dimension of -1",
    ),
    "batching on a fixed axis, to be completed": (
        identity(shape=(1, 3)),
        BATCHING,
        r"max_batch_size is 4 and the batch axis of 'x' \[1, 3\], 'y' \[1, 3\] is fixed",
    ),
    "unknown input": (
        identity(),
        BATCHING + XY.replace('"x"', '"z"'),
        "input 'z': not in the graph; expected one of x",
    ),
    "unknown output": (
        identity(),
        BATCHING + XY.replace('"y"', '"z"'),
        "output 'z': not in the graph; expected one of y",
    ),
    "another data type": (
        identity(),
        BATCHING + XY.replace("TYPE_FP32", "TYPE_INT32", 1),
        "input 'x': data_type is TYPE_INT32; expected the graph's TYPE_FP32",
    ),
    "too many inputs": (
        identity(),
        BATCHING + XY + 'input { name: "more" data_type: TYPE_FP32 dims: [ 3 ] }',
        "has 2 inputs that are not optional; expected 1: x",
    ),
    "optional and batching": (
        identity(),
        BATCHING + XY.replace("dims: [ 3 ]", "dims: [ 3 ] optional: true", 1),
        "does not serve optional input 'x' in a model that batches",
    ),
    "ragged": (
        identity(shape=("n", "m")),
        BATCHING + XY.replace("dims: [ 3 ]", "dims: [ -1 ] allow_ragged_batch: true", 1),
        "does not serve allow_ragged_batch of 'x'",
    ),
    "bfloat16": (
        identity(TensorProto.BFLOAT16),
        "",
        r"tensor 'x': the graph has tensor\(bfloat16\); expected one of",
    ),
    "execution mode": (
        identity(),
        parameter("execution_mode", "2"),
        "parameter execution_mode is 2; expected 0 or 1",
    ),
    "thread count": (
        identity(),
        parameter("intra_op_thread_count", "two"),
        'parameter intra_op_thread_count is "two"; expected an integer',
    ),
    "thread count beyond an int": (
        identity(),
        parameter("intra_op_thread_count", "4294967297"),
        'parameter intra_op_thread_count is "4294967297"; expected an integer',
    ),
    "no boolean": (
        identity(),
        parameter("enable_mem_arena", ""),
        'parameter enable_mem_arena is ""; expected true or false',
    ),
    "boolean": (
        identity(),
        parameter("enable_mem_arena", "perhaps"),
        'parameter enable_mem_arena is "perhaps"; expected true or false',
    ),
    "missing file": (
        identity(),
        'default_model_filename: "gone.onnx"\n',
        r"there is no .*1/gone\.onnx",
    ),
}


@pytest.fixture(scope="module")
def refusals(toys: Toys) -> dict[str, str]:
    """Triton's reason not to load each model of `REFUSED`. All load at once: a load is mostly waiting."""

    def load(number: int, case: str) -> str:
        model, config, _ = REFUSED[case]
        with pytest.raises(InferenceServerException) as raised:
            toys.load(f"refused_{number}", model, f"{config}\n{ONE_INSTANCE}")
        return str(raised.value)

    with ThreadPoolExecutor() as pool:
        return dict(zip(REFUSED, pool.map(load, range(len(REFUSED)), REFUSED), strict=True))


@pytest.mark.parametrize("case", REFUSED)
def test_a_model_is_refused_with_a_reason(refusals: dict[str, str], case: str) -> None:
    """The C++ backend refuses them, too. The sentence has model, tensor, value and expectation."""
    number = list(REFUSED).index(case)

    assert re.search(rf"model 'refused_{number}'.*{REFUSED[case][-1]}", refusals[case])


def test_a_gpu_instance_is_refused_without_a_gpu(toys: Toys) -> None:
    """Triton or the backend refuses at load, rather than serving from the CPU without notice."""
    with pytest.raises(InferenceServerException, match=r"(?i)gpu"):
        toys.load("on_gpu", identity(), "instance_group { kind: KIND_GPU count: 1 }")
