"""One contract in four places: the three config.pbtxt, the sampler's arrays, the ONNX graph, the client."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml

import cesta_client
from ensemble.candidate_sampler import query
from ensemble.candidate_sampler.features import FEATURES
from ensemble.candidate_sampler.sampler import CandidateSampler
from ensemble.candidate_sampler.sources import SOURCES
from export_scripts.receipts.ids import MAX_ID_BYTES
from operations.errors import CestaError
from operations.records.contract import (
    ENSEMBLE,
    MODEL_REPOSITORY,
    MODELS,
    SAMPLER,
    SCORER,
    Tensors,
    read_config,
    read_contract,
    tensors,
)
from operations.supervisor.problems import TITLES
from tests import ROOT

DIGEST: Tensors = {"digest": ("STRING", [-1])}  # and the warnings after it
DTYPES = {"INT32": np.int32, "FP32": np.float32, "STRING": np.object_}


@pytest.fixture(scope="module")
def configs() -> dict:
    return {model: read_config(MODEL_REPOSITORY / model / "config.pbtxt") for model in MODELS}


def maps(configs: dict, step: int, which: str) -> dict[str, str]:
    return dict(getattr(configs[ENSEMBLE].ensemble_scheduling.step[step], which))


def test_the_front_door_is_the_samplers_input(configs: dict) -> None:
    """Names, types and dims agree, and all inputs are optional on both sides."""
    assert tensors(configs[ENSEMBLE].input) == tensors(configs[SAMPLER].input)
    assert tensors(configs[ENSEMBLE].input) == {
        "basket": ("STRING", [-1]),
        "user_id": ("STRING", [1]),
        "exclude": ("STRING", [-1]),
        "categories": ("STRING", [-1]),
        "store_id": ("STRING", [1]),
        "exclude_categories": ("STRING", [-1]),
        "items": ("STRING", [-1]),
        "history": ("STRING", [-1]),
        "history_ages": ("FP32", [-1]),
        "live": ("STRING", [1]),
        "nonce": ("STRING", [1]),
    }
    assert all(t.optional for model in (ENSEMBLE, SAMPLER) for t in configs[model].input)
    assert all(t.allow_ragged_batch for t in configs[SAMPLER].input)


def test_the_scorer_reads_what_the_sampler_writes(configs: dict) -> None:
    """All of it except the digest, which belongs to the answer."""
    assert tensors(configs[SCORER].input) | DIGEST == tensors(configs[SAMPLER].output)


def test_the_answer_is_the_scorers_output_and_the_digest(configs: dict) -> None:
    """It has K items, and as many scores and reasons."""
    assert tensors(configs[ENSEMBLE].output) == tensors(configs[SCORER].output) | DIGEST
    k = read_contract().answers
    assert tensors(configs[SCORER].output) == {
        "item_ids": ("STRING", [k]),
        "scores": ("FP32", [k]),
        "reasons": ("INT32", [k]),
    }


def test_the_ensemble_passes_every_tensor_on_under_its_name(configs: dict) -> None:
    """No tensor is renamed on the way, and none is left out."""
    steps = configs[ENSEMBLE].ensemble_scheduling.step
    assert [step.model_name for step in steps] == [SAMPLER, SCORER]
    for i, model in enumerate((SAMPLER, SCORER)):
        for which, side in (("input_map", configs[model].input), ("output_map", configs[model].output)):
            assert maps(configs, i, which) == {name: name for name in tensors(side)}


def test_the_scorer_suits_the_stricter_backend(configs: dict) -> None:
    """The C++ ONNX Runtime backend takes no optional, ragged or open-ended tensor."""
    config = configs[SCORER]
    assert not any(t.optional or t.allow_ragged_batch for t in config.input)
    assert all(dim > 0 for t in (*config.input, *config.output) for dim in t.dims)
    assert not config.runtime


def test_batches_pass_whole(configs: dict) -> None:
    """Both steps accept every batch that the ensemble accepts."""
    assert len({config.max_batch_size for config in configs.values()}) == 1


def test_the_samplers_arrays_are_its_outputs(configs: dict) -> None:
    """CandidateSampler returns the dtypes and widths of the outputs; the adapter adds the digest."""
    sampler = empty_sampler()
    candidates = sampler.sample([query.Query()])
    outputs = {
        "rows": sampler.rows([query.Query()], candidates),
        "candidate_features": candidates.features,
    }
    declared = {n: t for n, t in tensors(configs[SAMPLER].output).items() if n not in DIGEST}
    assert outputs.keys() == declared.keys()
    for name, (dtype, dims) in declared.items():
        assert (outputs[name].dtype, list(outputs[name].shape[1:])) == (DTYPES[dtype], dims)


def test_rows_lie_in_the_order_that_the_graph_takes_them_apart(configs: dict) -> None:
    """The order is user, basket, candidates, sources."""
    sampler, question = empty_sampler(), query.Query(user_row=1, basket=[2])
    candidates = sampler.sample([question])
    parts = np.split(
        sampler.rows([question], candidates)[0], np.cumsum([*read_contract().rows.values()])[:-1]
    )
    columns = dict(zip(read_contract().rows, parts, strict=True))
    assert columns["user_row"].tolist() == [1]
    assert columns["basket_rows"].tolist() == [2] + [0] * (query.MAX_BASKET - 1)
    np.testing.assert_array_equal(columns["candidate_rows"], candidates.rows[0])
    np.testing.assert_array_equal(columns["candidate_sources"], candidates.sources[0])
    assert columns["candidate_sources"].any()


def empty_sampler() -> CandidateSampler:
    """The sampler of a tiny shop, with the contract's sizes."""
    from tests.building.tiny_arrays import tiny_arrays

    sizes = read_contract()
    limits = dict.fromkeys(("similar", "popular", "per_category", "basket_categories", "fill", "cold"), 1)
    limits |= {
        "width": 1024,
        "scan_up_to": 1024,
        "capacity": sizes.candidates,
        "basket_slots": sizes.basket_slots,
    }
    return CandidateSampler(tiny_arrays(), limits)


def test_features_are_as_many_everywhere() -> None:
    assert read_contract().features == len(FEATURES)
    assert len(set(FEATURES)) == len(FEATURES)


def test_the_basket_limit_is_the_padded_length() -> None:
    """Whatever basket the sampler accepts fits into basket_rows."""
    assert read_contract().basket_slots == query.MAX_BASKET


def test_a_release_holds_no_id_that_the_server_refuses() -> None:
    assert query.MAX_ID_BYTES == MAX_ID_BYTES


def test_reasons_have_one_bit_each() -> None:
    """The client has the same names for them as the sampler."""
    assert sorted(SOURCES.values()) == [2**i for i in range(len(SOURCES))]
    assert {reason.name.lower(): reason.value for reason in cesta_client.Reason} == SOURCES


def test_the_gateway_names_the_samplers_sources() -> None:
    """The script of the gateway lists them bit by bit, and so does the description of its answers."""
    script = (ROOT / "deploy" / "gateway" / "lua" / "query.lua").read_text(encoding="utf-8")
    listed = re.search(r"^local REASONS = \{(.+)\}", script, flags=re.MULTILINE)
    assert listed
    assert re.findall(r"\w+", listed[1]) == sorted(SOURCES, key=SOURCES.__getitem__)
    described = yaml.safe_load((ROOT / "docs" / "openapi.yaml").read_text(encoding="utf-8"))
    item = described["components"]["schemas"]["Item"]
    assert set(item["properties"]["reasons"]["items"]["x-extensible-enum"]) == SOURCES.keys()


def test_every_code_of_an_error_is_documented() -> None:
    """docs/errors.md and docs/openapi.yaml list the codes of the gateway and of the supervisor's app."""
    script = (ROOT / "deploy" / "gateway" / "lua" / "problems.lua").read_text(encoding="utf-8")
    listed = re.search(r"^local CODES = \{(.+?)^\}", script, flags=re.MULTILINE | re.DOTALL)
    assert listed
    codes = {*re.findall(r"^  (\w+) = ", listed[1], flags=re.MULTILINE), *TITLES, "plain_http"}
    described = yaml.safe_load((ROOT / "docs" / "openapi.yaml").read_text(encoding="utf-8"))
    error = described["components"]["schemas"]["Error"]["properties"]["code"]
    assert set(error["x-extensible-enum"]) == codes
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \| (?:\d+|others) \|", page, flags=re.MULTILINE)) == codes


def test_the_documents_name_the_sizes_and_the_sources() -> None:
    """docs/words.md has a table of the sizes, and an entry for each source."""
    text = (ROOT / "docs" / "words.md").read_text(encoding="utf-8")
    sizes = read_contract()
    named = {
        name: int(value) for name, value in re.findall(r"^\| (\w) \| [^|]+ \| (\d+) \|", text, re.MULTILINE)
    }
    assert named == {
        "L": sizes.basket_slots,
        "C": sizes.candidates,
        "F": sizes.features,
        "K": sizes.answers,
    }
    assert {source for source in SOURCES if f"\n| {source} | " in text} == SOURCES.keys()


def test_other_feature_counts_are_refused(tmp_path: Path) -> None:
    """Here features.py was changed and config.pbtxt was not."""
    for model in MODELS:
        (tmp_path / model).mkdir()
        text = (MODEL_REPOSITORY / model / "config.pbtxt").read_text()
        (tmp_path / model / "config.pbtxt").write_text(text.replace("[ 128, 28 ]", "[ 128, 25 ]"))
    with pytest.raises(CestaError, match=r"has 25 columns in config.pbtxt, features.py names 28"):
        read_contract(tmp_path)


def test_an_unreadable_config_is_one_sentence(tmp_path: Path) -> None:
    """The sentence says that the file is missing, or names line and column of the mistake."""
    path = tmp_path / "config.pbtxt"
    with pytest.raises(CestaError, match="No such file"):
        read_config(path)
    path.write_text('name: "x"\ninput [')
    with pytest.raises(CestaError, match=r"config\.pbtxt: 2:"):
        read_config(path)


def test_tensors_reads_types_and_dims(configs: dict) -> None:
    outputs: Tensors = tensors(configs[SAMPLER].output)
    assert outputs["candidate_features"] == ("FP32", [128, 28])
