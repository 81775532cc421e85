"""What `cesta export --tensorrt` requires, passes on and compares; the tests need no GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export_scripts.scorer import tensorrt
from export_scripts.scorer.tensorrt import CPU, check_on_tensorrt, compare, open_session, provider_options
from operations.errors import CestaError
from operations.records.contract import MODEL_REPOSITORY, SCORER, read_config
from tests.building.runs import toy_run
from tests.building.toy_sampler.model import propose

TENSORRT = read_config(MODEL_REPOSITORY / SCORER / "configs" / "tensorrt.pbtxt")
GPU = ["TensorrtExecutionProvider", "CUDAExecutionProvider", CPU]


def answer(ids: list[str], scores: list[float]) -> list[np.ndarray]:
    """The answer to one query."""
    reasons = np.ones((1, len(ids)), np.int32)
    return [np.array([ids], object), np.array([scores], np.float32), reasons]


def refused(available: list[str]) -> bool:
    try:
        tensorrt.require_tensorrt(available)
    except CestaError:
        return True
    return False


def test_an_onnxruntime_with_tensorrt_will_do() -> None:
    """The place of TensorRT among the providers does not matter. Without it, the others do not help."""
    assert not refused(GPU)
    assert not refused(GPU[::-1])
    assert refused(GPU[1:])


@pytest.mark.parametrize("available", [[CPU], ["CUDAExecutionProvider", CPU]])
def test_an_onnxruntime_without_tensorrt_is_refused_with_the_way_out(available: list[str]) -> None:
    """The sentence says what is there, what is needed, and that the release is the same without it."""
    with pytest.raises(
        CestaError, match=r"no TensorrtExecutionProvider; .*onnxruntime-gpu.*without --tensorrt"
    ) as refused:
        tensorrt.require_tensorrt(available)
    assert ", ".join(available) in str(refused.value)


def test_libraries_that_are_missing_are_no_silent_fallback(tmp_path: Path) -> None:
    """ONNX Runtime would continue on the CPU, and nothing would have been checked."""
    graph = (toy_run(tmp_path / "run", 1) / "model.onnx").read_bytes()
    with pytest.raises(CestaError, match=r"TensorrtExecutionProvider does not start.*LD_LIBRARY_PATH"):
        open_session(graph, [("TensorrtExecutionProvider", {}), CPU])


def test_a_graph_that_a_provider_does_not_take_is_named() -> None:
    with pytest.raises(CestaError, match=f"{CPU} cannot run the scorer's graph: "):
        open_session(b"no graph", [CPU])


def test_the_engine_is_built_with_triton_s_options() -> None:
    """They have ONNX Runtime's names, and leave out the caches of the image."""
    options = provider_options(TENSORRT)
    assert options.keys() == {f"trt_profile_{key}_shapes" for key in ("min", "opt", "max")} | {
        "trt_fp16_enable"
    }
    assert options["trt_fp16_enable"] == "false"
    assert options["trt_profile_max_shapes"].startswith("rows:64x457,")
    half = type(TENSORRT)()
    half.CopyFrom(TENSORRT)
    (accelerator,) = half.optimization.execution_accelerators.gpu_execution_accelerator
    accelerator.parameters["precision_mode"] = "FP16"
    assert provider_options(half)["trt_fp16_enable"] == "true"


def test_lists_that_agree_but_for_rounding_pass() -> None:
    """The largest difference of any place is reported; near ties may change places."""
    want = answer(["a", "b", "c"], [3.0, 2.0, 1.99])
    assert compare(want, want) == 0
    assert compare(answer(["a", "c", "b"], [3.01, 2.0, 1.98]), want) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("got", "reason"),
    [
        (answer(["a", "b", "c"], [3.0, 1.9, 1.0]), "score 1 is 1.9000 instead of 2.0000"),
        (answer(["b", "a", "c"], [3.0, 2.0, 1.0]), "place 0 has b instead of a"),
        (answer(["a", "b", "c"], [3.0, 2.0, -np.inf]), "score 2 is -inf"),
    ],
)
def test_lists_that_differ_are_named(got: list[np.ndarray], reason: str) -> None:
    with pytest.raises(CestaError, match=f"TensorRT and CPU rank query 0 differently: {reason}"):
        compare(got, answer(["a", "b", "c"], [3.0, 2.0, 1.0]))


def test_both_sides_answer_the_same_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU takes the GPU's side: one graph agrees with itself, and not with another's weights."""
    runs = [toy_run(tmp_path / f"run-{seed}", seed) for seed in (1, 2)]
    inputs = propose(np.load(runs[0] / "arrays" / "sizes.npy"), [[b"i1"], [b"i2", b"i3"]])
    monkeypatch.setattr(tensorrt, "PROVIDER", CPU)
    one, two = ((run / "model.onnx").read_bytes() for run in runs)

    checked = check_on_tensorrt(one, [inputs])

    assert (checked["queries"], checked["largest_difference"]) == (2, 0)
    sessions = iter([open_session(two, [CPU]), open_session(one, [CPU])])
    monkeypatch.setattr(tensorrt, "open_session", lambda *_: next(sessions))
    with pytest.raises(CestaError, match="TensorRT and CPU rank query 0 differently"):
        check_on_tensorrt(one, [inputs])
