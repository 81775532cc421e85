"""Reports buffered events in the background: in a thread, or in a task of an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Final, TypedDict, Unpack

from ._errors import CestaError, InvalidRequest
from ._events import MOST_SENT, EventBuffer
from ._transports.connect import connect_events, connect_events_async
from ._transports.endpoint import make_endpoint
from ._transports.interface import AsyncEventTransport, EventTransport

GATHER_S: Final = 0.2  # so long events wait for others
TIMEOUT_S: Final = 10.0  # of one request; the gateway answers earlier
CLOSE_S: Final = 2.0  # so long closing waits for the rest


def body_of(batch: Sequence[bytes]) -> bytes:
    """The body of a request with these events."""
    return b'{"events":[' + b",".join(batch) + b"]}"


class _Options(TypedDict):
    headers: Mapping[str, str] | None
    ssl: bool
    root_certificates: str | os.PathLike[str] | None


def reporter_of(
    address: str | None, key: str | None, *, transport: object, **options: Unpack[_Options]
) -> Reporter | None:
    """Return what reports events to an address, or to a fake shop; None without both.

    Raises:
        InvalidRequest: an option is not valid.
    """
    if address is not None:
        return Reporter(connect_events(make_endpoint(address, "http", api_key=key, **options)))
    return Reporter(transport) if isinstance(transport, EventTransport) else None


def async_reporter_of(
    address: str | None, key: str | None, *, transport: object, **options: Unpack[_Options]
) -> AsyncReporter | None:
    """Return `reporter_of` for asyncio."""
    if address is not None:
        return AsyncReporter(connect_events_async(make_endpoint(address, "http", api_key=key, **options)))
    return AsyncReporter(transport) if isinstance(transport, AsyncEventTransport) else None


class Reporter:
    """Sends events from a thread, which starts with the first event."""

    def __init__(self, transport: EventTransport) -> None:
        self.buffer = EventBuffer()
        self._transport = transport
        self._news, self._closing = threading.Event(), threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, event: bytes) -> bool:
        """Buffer an event; return False if there is no room."""
        taken = self.buffer.add(event)
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="cesta-events", daemon=True)
                    self._thread.start()
        self._news.set()
        return taken

    def close(self) -> None:
        """Send what is buffered, for CLOSE_S at most."""
        self._closing.set()
        self._news.set()
        if self._thread is not None:
            self._thread.join(CLOSE_S)
        self.buffer.drop_rest()
        self._transport.close()

    def _run(self) -> None:
        while not self._closing.is_set():
            self._news.wait()
            self._news.clear()
            if len(self.buffer) < MOST_SENT:
                self._closing.wait(GATHER_S)
            self._send_all()
        self._send_all()

    def _send_all(self) -> None:
        ends = None
        while batch := self.buffer.batch():
            if self._closing.is_set():
                ends = ends or time.monotonic() + CLOSE_S
                if time.monotonic() > ends:
                    return
            try:
                self.buffer.settle(batch, self._transport.report(body_of(batch), timeout_s=TIMEOUT_S))
            except InvalidRequest as error:
                self.buffer.refuse(batch, error)
            except CestaError as error:
                pause_s = self.buffer.fail(error)
                if self._closing.is_set():
                    time.sleep(min(pause_s, CLOSE_S / 10))
                else:
                    self._closing.wait(pause_s)


class AsyncReporter:
    """Sends events from a task, which starts with the first event."""

    def __init__(self, transport: AsyncEventTransport) -> None:
        self.buffer = EventBuffer()
        self._transport = transport
        self._news, self._closing = asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def add(self, event: bytes) -> bool:
        """Buffer an event; return False if there is no room. To be called in the event loop."""
        taken = self.buffer.add(event)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="cesta-events")
        self._news.set()
        return taken

    async def aclose(self) -> None:
        """Send what is buffered, for CLOSE_S at most."""
        self._closing.set()
        self._news.set()
        if self._task is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._task, CLOSE_S)
        self.buffer.drop_rest()
        await self._transport.aclose()

    async def _run(self) -> None:
        while not self._closing.is_set():
            await self._news.wait()
            self._news.clear()
            if len(self.buffer) < MOST_SENT:
                await self._rest(GATHER_S)
            await self._send_all()
        await self._send_all()  # also what came before the task had begun

    async def _send_all(self) -> None:
        while batch := self.buffer.batch():
            try:
                answer = await self._transport.areport(body_of(batch), timeout_s=TIMEOUT_S)
                self.buffer.settle(batch, answer)
            except InvalidRequest as error:
                self.buffer.refuse(batch, error)
            except CestaError as error:
                pause_s = self.buffer.fail(error)
                if self._closing.is_set():
                    await asyncio.sleep(min(pause_s, CLOSE_S / 10))
                else:
                    await self._rest(pause_s)

    async def _rest(self, seconds: float) -> None:
        """Wait, but not beyond the beginning of the end."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), seconds)
