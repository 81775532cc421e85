"""Does TensorRT take the scorer's graph, and rank as the CPU does? For ``cesta export --tensorrt``.

The release holds no engine: one fits a single kind of GPU and version of TensorRT, so Triton's ONNX Runtime
builds it when the release is loaded. Here one is built with the very options of ``configs/tensorrt.pbtxt``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from operations.errors import CestaError
from operations.records.contract import MODEL_REPOSITORY, NAMED, SCORER, read_config
from operations.records.golden_answers import ACCELERATED_TOLERANCE, answer_of, difference

PROVIDER = "TensorrtExecutionProvider"
CPU = "CPUExecutionProvider"
OUTPUTS = ["item_ids", "scores", "reasons"]
NEEDS = (
    "--tensorrt needs an NVIDIA GPU with its driver, onnxruntime-gpu in place of onnxruntime (pip uninstall "
    "one, install the other), and on LD_LIBRARY_PATH the libraries of CUDA and TensorRT that it was built for"
)
WITHOUT = "or export without it: the release is the same, only unchecked"

Tensors = Mapping[str, NDArray[Any]]


def require_tensorrt(available: Sequence[str]) -> None:
    """Raise CestaError, before any work, if ONNX Runtime was built without TensorRT."""
    if PROVIDER not in available:
        raise CestaError(f"this onnxruntime has {', '.join(available)} and no {PROVIDER}; {NEEDS}; {WITHOUT}")


def check_on_tensorrt(graph: bytes | str, batches: Sequence[Tensors]) -> dict[str, Any]:
    """Answer the scorer's inputs on both; what the manifest says of it. Raises CestaError if they differ.

    ``graph`` is one, or the file of one, which may have tables beside it.
    """
    config = read_config(MODEL_REPOSITORY / SCORER / NAMED / "tensorrt.pbtxt")
    device = open_session(graph, [(PROVIDER, provider_options(config)), "CUDAExecutionProvider", CPU])
    host = open_session(graph, [CPU])
    largest = max(compare(device.run(OUTPUTS, batch), host.run(OUTPUTS, batch)) for batch in batches)
    return {
        "onnxruntime": ort.__version__,
        "queries": sum(len(batch["rows"]) for batch in batches),
        "largest_difference": round(largest, 6),
        "tolerance": ACCELERATED_TOLERANCE,
    }


def provider_options(config: Any) -> dict[str, str]:
    """What Triton's backend makes of the accelerator of a scorer's config, less the caches."""
    (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    options = {key: value for key, value in accelerator.parameters.items() if "_cache_" not in key}
    precision = options.pop("precision_mode")
    return options | {"trt_fp16_enable": str(precision == "FP16").lower()}


def open_session(graph: bytes | str, providers: Sequence[Any]) -> Any:
    """A session of a graph, or of its file, on the first of ``providers``.

    Raises CestaError where ONNX Runtime would fall back.
    """
    wanted = providers[0][0] if isinstance(providers[0], tuple) else providers[0]
    try:
        session = ort.InferenceSession(graph, providers=list(providers))
    except Exception as error:  # ONNX Runtime's errors share no narrower class
        raise CestaError(f"{wanted} does not take the scorer's graph: {error}; {WITHOUT}") from None
    if wanted not in session.get_providers():
        raise CestaError(f"{wanted} does not start, its own message is above; {NEEDS}; {WITHOUT}")
    session.disable_fallback()
    return session


def compare(got: Sequence[NDArray[Any]], want: Sequence[NDArray[Any]]) -> float:
    """The largest difference of two batches' scores, place by place; ids, scores, reasons, (batch, K) each.

    Raises CestaError naming the first query whose lists differ by more than ACCELERATED_TOLERANCE allows.
    """
    for row in range(len(want[0])):
        ours, theirs = (answer_of(_row(tensors, row)) for tensors in (got, want))
        if problem := difference(ours, theirs, ACCELERATED_TOLERANCE):
            raise CestaError(f"TensorRT ranks otherwise than the CPU: query {row}: {problem}; {WITHOUT}")
    return float(np.abs(got[1] - want[1]).max())


def _row(tensors: Sequence[NDArray[Any]], row: int) -> dict[str, Any]:
    ids, scores, reasons = (tensor[row : row + 1] for tensor in tensors)
    return {"item_ids": np.char.encode(ids.astype(str)).astype(object), "scores": scores, "reasons": reasons}
