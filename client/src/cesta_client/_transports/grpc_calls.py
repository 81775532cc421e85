"""Calls over one gRPC channel that run to their end, even if their caller gives up.

Triton 2.51 can end with a segmentation fault when gRPC calls are cancelled, and a deadline that passes
cancels a call. So the caller waits for as long as he likes, and the call itself gets RUN_OUT_S more.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, wait
from typing import Any, TypeAlias
from urllib.request import proxy_bypass

import tritonclient.grpc as triton

from .._errors import Unavailable
from .._version import USER_AGENT
from .._wire import MODEL
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

Call: TypeAlias = Future[Any]  # of tritonclient's InferResult, or its InferenceServerException


class GrpcCalls:
    """The calls to one server. Threads and event loops may share it."""

    def __init__(self, to: Endpoint) -> None:
        self._to = to
        self._client = triton.InferenceServerClient(
            to.address, ssl=to.ssl, root_certificates=to.root_certificates, channel_args=_options(to)
        )
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

        def end(result: Any, error: Exception | None) -> None:
            if error is None:
                call.set_result(result)
            else:
                call.set_exception(error)

        try:
            self._client.async_infer(
                MODEL,
                _inputs(tensors),
                end,
                request_id=request_id,
                client_timeout=timeout_s + RUN_OUT_S,
                headers={**self._to.headers, **headers},
            )
        except BaseException as error:
            call.set_exception(error)
            raise
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
            self._client.close()

    def _forget(self, call: Call) -> None:
        self._running.discard(call)
        if self._closed and not self._running:
            # In a thread of its own, because this one belongs to the channel and would wait for itself.
            threading.Thread(target=self._client.close, name="cesta-close").start()


def _options(to: Endpoint) -> list[tuple[str, int | str]]:
    """Leave out the environment's proxy for near hosts. gRPC would ask it for 127.0.0.1 too."""
    direct = to.is_near or proxy_bypass(to.host)  # gRPC does not read NO_PROXY, only no_proxy
    return [*_OPTIONS, ("grpc.enable_http_proxy", 0)] if direct else _OPTIONS


def _inputs(tensors: Tensors) -> list[triton.InferInput]:
    inputs = [triton.InferInput(name, tensor.shape, "BYTES") for name, tensor in tensors.items()]
    for inp, tensor in zip(inputs, tensors.values(), strict=True):
        inp.set_data_from_numpy(tensor)
    return inputs
