"""The gRPC transports. All threads of a recommender share one channel, and no call is cancelled."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from tritonclient.utils import InferenceServerException

from .._errors import CestaError, ServerError, TimedOut, Unavailable
from .._wire import OUTPUTS
from .endpoint import Endpoint
from .grpc_calls import GrpcCalls
from .interface import Headers, Reply, Tensors
from .status import error_of_grpc


class GrpcTransport:
    """Triton's gRPC service."""

    def __init__(self, to: Endpoint) -> None:
        self._to = to
        self._calls = GrpcCalls(to)

    def infer(self, tensors: Tensors, *, timeout_s: float, request_id: str, headers: Headers) -> Reply:
        try:
            call = self._calls.start(tensors, timeout_s=timeout_s, request_id=request_id, headers=headers)
            try:
                result = call.result(timeout_s)
            finally:
                if not call.done():
                    self._calls.abandon(call)
        except (grpc.RpcError, TimeoutError, ValueError) as error:
            raise _failure(error, self._to.address, timeout_s) from error
        return _reply(result, self._to.address)

    def close(self) -> None:
        self._calls.close()


class AsyncGrpcTransport:
    """Triton's gRPC service for asyncio. The calls belong to no event loop, so none can cancel them."""

    def __init__(self, to: Endpoint) -> None:
        self._to = to
        self._calls = GrpcCalls(to)

    async def ainfer(self, tensors: Tensors, *, timeout_s: float, request_id: str, headers: Headers) -> Reply:
        try:
            call = self._calls.start(tensors, timeout_s=timeout_s, request_id=request_id, headers=headers)
            try:
                result = await asyncio.wait_for(asyncio.wrap_future(call), timeout_s)
            finally:
                if not call.done():
                    self._calls.abandon(call)
        except (grpc.RpcError, TimeoutError, ValueError) as error:
            raise _failure(error, self._to.address, timeout_s) from error
        return _reply(result, self._to.address)

    async def aclose(self) -> None:
        await asyncio.to_thread(self._calls.close)


def _reply(result: Any, address: str) -> Reply:
    """The tensors of an answer. A missing tensor is None here; its reader raises the error."""
    try:
        tensors = {name: result.as_numpy(name) for name in OUTPUTS}
    except (InferenceServerException, ValueError, TypeError) as error:
        raise ServerError(f"the answer of {address} cannot be read: {error!r}") from error
    return Reply(tensors, result.get_response().model_version)


def _failure(error: Any, address: str, timeout_s: float) -> CestaError:
    late = TimedOut(f"no answer from {address} within {timeout_s:.2g} s")
    if isinstance(error, TimeoutError):
        return late
    if isinstance(error, ValueError):  # gRPC raises it for a channel that another thread closed
        return Unavailable(f"{address}: {error}")
    trailers = {name: str(value) for name, value in error.trailing_metadata() or ()}
    trailers |= {name: str(value) for name, value in error.initial_metadata() or () if name == "x-request-id"}
    failure = error_of_grpc(error.code().name, error.details() or "", trailers, address)
    return late if isinstance(failure, TimedOut) and not failure.code else failure
