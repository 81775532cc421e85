"""Calls over one gRPC channel that run to their end, even if their caller gives up.

Triton 2.51 can end with a segmentation fault when gRPC calls are cancelled, and a deadline that passes
cancels a call. So the caller waits for as long as he likes, and the call itself gets RUN_OUT_S more.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, wait
from typing import Any, TypeAlias
from urllib.request import proxy_bypass

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferResult, service_pb2, service_pb2_grpc

from .._errors import Unavailable
from .._version import USER_AGENT
from .._wire import INPUTS, MODEL
from .endpoint import Endpoint
from .interface import Headers, Tensors

RUN_OUT_S = 30.0  # a server that has not answered by then hangs; it does not process the cancellation either
MAX_ABANDONED = 64  # a server that owes so many answers gets no more questions
CLOSE_S = 0.25

# By default gRPC waits a second before it connects again, and a retry within that second fails the same way.
# grpc.min_reconnect_backoff_ms keeps its default: despite its name it limits the time of one attempt.
_OPTIONS: list[tuple[str, int | str]] = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.primary_user_agent", USER_AGENT),
]

Call: TypeAlias = Future[Any]  # of tritonclient's InferResult, or grpc's RpcError


class GrpcCalls:
    """The calls to one server. Threads and event loops may share it."""

    def __init__(self, to: Endpoint) -> None:
        self._to = to
        self._channel = _open_channel(to)
        self._infer = service_pb2_grpc.GRPCInferenceServiceStub(self._channel).ModelInfer
        self._running: set[Call] = set()  # add and discard are atomic
        self._abandoned: set[Call] = set()
        self._closed = False

    def start(self, tensors: Tensors, *, timeout_s: float, request_id: str, headers: Headers) -> Call:
        """Send input tensors to a caller who waits for `timeout_s`. The call cannot be cancelled.

        Raises:
            Unavailable: MAX_ABANDONED calls still run that nobody waits for.
            ValueError: the channel is closed.
        """
        if len(self._abandoned) >= MAX_ABANDONED:
            raise Unavailable(
                f"{self._to.address} still owes {MAX_ABANDONED} answers that were not awaited; "
                "ask fewer questions at a time, or wait longer for each"
            )
        call = Call()
        call.set_running_or_notify_cancel()  # from now on nothing can cancel it, asyncio included
        self._running.add(call)
        call.add_done_callback(self._forget)

        def end(answer: Any) -> None:
            try:
                call.set_result(InferResult(answer.result()))
            except (grpc.RpcError, grpc.FutureCancelledError) as error:
                call.set_exception(error)

        try:
            started = self._infer.future(
                _request(tensors, request_id),
                timeout=timeout_s + RUN_OUT_S,
                metadata=tuple((self._to.headers | dict(headers)).items()),
            )
        except BaseException as error:
            call.set_exception(error)
            raise
        started.add_done_callback(end)
        return call

    def abandon(self, call: Call) -> None:
        """Let a call run out that nobody waits for any longer."""
        self._abandoned.add(call)
        call.add_done_callback(self._abandoned.discard)  # at once if the call has ended

    def close(self) -> None:
        """Wait up to CLOSE_S for the running calls. The last of them closes the channel, however late."""
        wait(frozenset(self._running), timeout=CLOSE_S)
        self._closed = True
        if not self._running:
            self._channel.close()

    def _forget(self, call: Call) -> None:
        self._running.discard(call)
        if self._closed and not self._running:
            # In a thread of its own, because this one belongs to the channel and would wait for itself.
            threading.Thread(target=self._channel.close, name="cesta-close").start()


def _options(to: Endpoint) -> list[tuple[str, int | str]]:
    """Leave out the environment's proxy for near hosts. gRPC would ask it for 127.0.0.1 too."""
    direct = to.is_near or proxy_bypass(to.host)  # gRPC does not read NO_PROXY, only no_proxy
    return [*_OPTIONS, ("grpc.enable_http_proxy", 0)] if direct else _OPTIONS


def _open_channel(to: Endpoint) -> grpc.Channel:
    if not to.ssl:
        return grpc.insecure_channel(to.address, options=_options(to))
    roots = to.root_certificates.read_bytes() if to.root_certificates else None
    return grpc.secure_channel(to.address, grpc.ssl_channel_credentials(roots), options=_options(to))


def _request(tensors: Tensors, request_id: str) -> Any:
    """The message, which tritonclient's own client would hide behind errors without their trailers."""
    request = service_pb2.ModelInferRequest(model_name=MODEL, id=request_id)
    for name, tensor in tensors.items():
        request.inputs.add(name=name, datatype=INPUTS[name], shape=tensor.shape)
        request.raw_input_contents.append(_raw(tensor))
    return request


def _raw(tensor: NDArray[Any]) -> bytes:
    if tensor.dtype != np.object_:
        return tensor.astype("<f4").tobytes()
    ids: list[bytes] = tensor.ravel().tolist()
    return b"".join([len(i).to_bytes(4, "little") + i for i in ids])
