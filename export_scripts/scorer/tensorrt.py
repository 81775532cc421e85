"""Check for ``cesta export --tensorrt`` that TensorRT runs the scorer's graph and ranks as the CPU does.

A release contains no engine, because an engine fits only one kind of GPU and one version of TensorRT.
Triton's ONNX Runtime builds the engine when it loads the release. The check builds one with the same options,
those of ``configs/tensorrt.pbtxt``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tritonclient.grpc import model_config_pb2

from operations.errors import CestaError
from operations.records.contract import MODEL_REPOSITORY, NAMED, SCORER, read_config
from operations.records.golden_answers import ACCELERATED_TOLERANCE, answer_of, difference

PROVIDER = "TensorrtExecutionProvider"
CPU = "CPUExecutionProvider"
OUTPUTS = ["item_ids", "scores", "reasons"]
NEEDS = (
    "--tensorrt needs an NVIDIA GPU with its driver, onnxruntime-gpu instead of onnxruntime (pip uninstall "
    "one, install the other), and on LD_LIBRARY_PATH the CUDA and TensorRT libraries that it was built for"
)
WITHOUT = "or export without --tensorrt: the release is the same, but not checked on a GPU"

Tensors = Mapping[str, NDArray[Any]]
Provider = str | tuple[str, dict[str, str]]  # a name, or a name with options


def require_tensorrt(available: Sequence[str]) -> None:
    """Raise CestaError if ONNX Runtime was built without TensorRT, so that export stops before any work."""
    if PROVIDER not in available:
        raise CestaError(
            f"the installed onnxruntime has {', '.join(available)} but no {PROVIDER}; {NEEDS}; {WITHOUT}"
        )


def check_on_tensorrt(graph: bytes | str, batches: Sequence[Tensors]) -> dict[str, Any]:
    """Run ``batches`` of the scorer's inputs on TensorRT and on the CPU, and compare the answers.

    ``graph`` is the graph itself, or the path of its file, which may have tables beside it. Returns the
    manifest's record of the check. Raises CestaError if the answers differ.
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


def provider_options(config: model_config_pb2.ModelConfig) -> dict[str, str]:
    """Derive the provider's options from the accelerator of ``config``, as Triton does, except the caches."""
    (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    options = {key: value for key, value in accelerator.parameters.items() if "_cache_" not in key}
    precision = options.pop("precision_mode")
    return options | {"trt_fp16_enable": str(precision == "FP16").lower()}


def open_session(graph: bytes | str, providers: Sequence[Provider]) -> ort.InferenceSession:
    """Open a session for a graph, or for the file of one, on the first of ``providers``.

    Raises CestaError if ONNX Runtime cannot use that provider, instead of falling back to the next.
    """
    wanted = providers[0][0] if isinstance(providers[0], tuple) else providers[0]
    try:
        session = ort.InferenceSession(graph, providers=list(providers))
    except Exception as error:  # ONNX Runtime's errors share no narrower class
        raise CestaError(f"{wanted} cannot run the scorer's graph: {error}; {WITHOUT}") from None
    if wanted not in session.get_providers():
        raise CestaError(f"{wanted} does not start; its own message is above; {NEEDS}; {WITHOUT}")
    session.disable_fallback()
    return session


def compare(got: Sequence[NDArray[Any]], want: Sequence[NDArray[Any]]) -> float:
    """Compare the ids, scores and reasons of two batches, (batch, K) each.

    Returns the largest difference between scores at the same place. Raises CestaError with the first query
    whose lists differ by more than ACCELERATED_TOLERANCE.
    """
    for row in range(len(want[0])):
        ours, theirs = (answer_of(_row(tensors, row)) for tensors in (got, want))
        if problem := difference(ours, theirs, ACCELERATED_TOLERANCE):
            raise CestaError(f"TensorRT and CPU rank query {row} differently: {problem}; {WITHOUT}")
    return float(np.abs(got[1] - want[1]).max())


def _row(tensors: Sequence[NDArray[Any]], row: int) -> dict[str, Any]:
    ids, scores, reasons = (tensor[row : row + 1] for tensor in tensors)
    return {"item_ids": np.char.encode(ids.astype(str)).astype(object), "scores": scores, "reasons": reasons}
