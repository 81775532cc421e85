"""The gRPC transport: all threads share one channel."""

from __future__ import annotations

from typing import Any

import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

from ._endpoint import Endpoint
from ._errors import CestaError, TimedOut, Unavailable
from ._status import error_of_grpc
from ._transport import Reply, Tensors
from ._wire import MODEL, OUTPUTS

# By default gRPC waits a second before it connects again, and a retry within that second fails the same way.
# grpc.min_reconnect_backoff_ms keeps its default: despite its name it limits the time of one attempt.
_CHANNEL = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 1000)]


class GrpcTransport:
    """Triton's gRPC service."""

    def __init__(self, to: Endpoint) -> None:
        self._to = to
        self._client = triton.InferenceServerClient(**_options(to))

    def infer(self, tensors: Tensors, *, timeout_s: float, request_id: str) -> Reply:
        request = _request(tensors, self._to, timeout_s, request_id)
        try:
            return _reply(self._client.infer(MODEL, **request))
        except (InferenceServerException, ValueError) as error:
            raise _failure(error, self._to.address, timeout_s) from error

    def close(self) -> None:
        self._client.close()


class AsyncGrpcTransport:
    """Triton's gRPC service, for one event loop."""

    def __init__(self, to: Endpoint) -> None:
        self._to = to
        self._client: Any = None

    async def ainfer(self, tensors: Tensors, *, timeout_s: float, request_id: str) -> Reply:
        if self._client is None:  # made here, inside the event loop that it belongs to
            self._client = triton_aio.InferenceServerClient(**_options(self._to))
        request = _request(tensors, self._to, timeout_s, request_id)
        try:
            return _reply(await self._client.infer(MODEL, **request))
        except (InferenceServerException, ValueError) as error:
            raise _failure(error, self._to.address, timeout_s) from error

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.close()


def _options(to: Endpoint) -> dict[str, Any]:
    return {
        "url": to.address,
        "ssl": to.ssl,
        "root_certificates": to.root_certificates,
        "channel_args": _CHANNEL,
    }


def _request(tensors: Tensors, to: Endpoint, timeout_s: float, request_id: str) -> dict[str, Any]:
    inputs = [triton.InferInput(name, tensor.shape, "BYTES") for name, tensor in tensors.items()]
    for inp, tensor in zip(inputs, tensors.values(), strict=True):
        inp.set_data_from_numpy(tensor)
    return {"inputs": inputs, "headers": to.headers, "client_timeout": timeout_s, "request_id": request_id}


def _reply(result: Any) -> Reply:
    tensors = {name: result.as_numpy(name) for name in OUTPUTS}
    return Reply(tensors, result.get_response().model_version)


def _failure(error: Any, address: str, timeout_s: float) -> CestaError:
    if isinstance(error, ValueError):  # gRPC raises it for a channel that another thread closed
        return Unavailable(f"{address}: {error}")
    failure = error_of_grpc(str(error.status()), str(error.message()), address)
    if isinstance(failure, TimedOut):
        return TimedOut(f"no answer from {address} within {timeout_s:.2g} s")
    return failure
