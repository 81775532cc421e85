"""Toy models on a live server: written into its repository, loaded, and asked."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from operations.server.control_secret import GRPC_HEADER
from tests.building.toy_models import write_model
from tests.running.processes import children

ONE_INSTANCE = "instance_group { kind: KIND_CPU count: 1 }\n"


class Toys:
    """A repository on a live server; models are written into it and loaded one by one."""

    def __init__(self, repository: Path, server: Any) -> None:
        self.repository = repository
        self.server = server
        self.client = triton.InferenceServerClient(server.grpc)

    def load(self, name: str, model: onnx.GraphProto, config: str = "", file: str = "model.onnx") -> None:
        write_model(self.repository, name, model, config, file)
        self.client.load_model(name, headers={GRPC_HEADER: self.server.settings.control_secret})

    def infer(
        self, name: str, outputs: list[str] | None = None, **inputs: np.ndarray
    ) -> dict[str, np.ndarray]:
        return self.infer_later(name, outputs, **inputs).result(timeout=20)

    def infer_later(
        self, name: str, outputs: list[str] | None = None, **inputs: np.ndarray
    ) -> Future[dict[str, np.ndarray]]:
        future: Future[dict[str, np.ndarray]] = Future()

        def done(result: triton.InferResult, error: InferenceServerException | None) -> None:
            if error:
                future.set_exception(error)
            else:
                names = [output.name for output in result.get_response().outputs]
                future.set_result({output: result.as_numpy(output) for output in names})

        requested = [triton.InferRequestedOutput(output) for output in outputs] if outputs else None
        self.client.async_infer(
            name, [_input(key, array) for key, array in inputs.items()], done, outputs=requested
        )
        return future

    def in_process(self, name: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        session = ort.InferenceSession(self.repository / name / "1" / "model.onnx")
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, inputs), strict=True))

    def threads(self) -> int:
        """Number of threads of the server and its stubs."""
        processes = [self.server.pid, *children(self.server.pid)]
        return sum(len(list(Path(f"/proc/{process}/task").iterdir())) for process in processes)

    def executions(self, name: str, requests: int) -> int:
        """How often the instance ran for its `requests`. Triton answers first and counts later."""
        while True:
            (model,) = self.client.get_inference_statistics(name).model_stats
            counts = model.inference_stats
            if counts.success.count + counts.fail.count == requests and model.execution_count:
                return int(model.execution_count)


def _input(name: str, array: np.ndarray) -> triton.InferInput:
    tensor = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    tensor.set_data_from_numpy(array)
    return tensor
