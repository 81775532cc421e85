"""The event log of one server: what callers bring at the same time is committed together.

One thread writes. While it waits for the disk, others queue; then it commits all that queued up. The queue
has a bound, so a slow disk makes callers wait elsewhere, and takes no memory.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final

import structlog

from operations.errors import CestaError
from operations.events.event import Event
from operations.events.store import EventStore, Offset, Outcome, StoreFault
from operations.records.disk import explain

log = structlog.get_logger()

MOST_QUEUED: Final = 20_000  # events
MOST_COMMITTED: Final = 2_000  # events of one commit, unless one call has more


class QueueFull(CestaError):  # noqa: N818 - what happened, not whose mistake it is
    """More events wait for the disk than the queue may hold. Nothing of the call was taken."""


@dataclass(frozen=True)
class Committed:
    """One commit: how many events it had and how long it took; without success, it kept none."""

    events: int
    seconds: float
    good: bool


@dataclass(frozen=True)
class _Call:
    events: Sequence[Event]
    offsets: Sequence[Offset]
    outcome: Future[list[Outcome]]


class EventLog:
    """Writes to the store that ``open_store`` opens, in a thread of its own, from the first start on.

    ``on_commit`` is called in that thread. ``now_ms`` is a Unix time in milliseconds.
    """

    def __init__(
        self,
        open_store: Callable[[], EventStore],
        on_commit: Callable[[Committed], object] = lambda _: None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        most_queued: int = MOST_QUEUED,
    ) -> None:
        self._open_store, self._on_commit, self.now_ms = open_store, on_commit, now_ms
        self._most_queued = most_queued
        self._calls: deque[_Call] = deque()
        self._waits = threading.Condition()
        self._queued = 0
        self._closing = False
        self._store: EventStore | None = None
        self.position, self.size_bytes, self.log_id = 0, 0, ""  # of the last commit
        self.fault: str | None = None  # why the last commit failed
        self._thread = threading.Thread(target=self._run, name="event log", daemon=True)

    @property
    def queued(self) -> int:
        """The number of events that wait for the disk."""
        return self._queued

    def start(self) -> None:
        """Start the thread. A store that cannot be opened is opened again for the next event."""
        self._thread.start()

    def offer(self, events: Sequence[Event], offsets: Sequence[Offset] = ()) -> Future[list[Outcome]]:
        """Queue events, which are kept together or not at all.

        The future has one outcome for each, in their order, once they are durable, or a StoreFault.
        Raises QueueFull if they find no room. A call for an empty queue always does.
        """
        call = _Call(events, offsets, Future())
        with self._waits:
            if self._closing:
                raise QueueFull("the event log is closing; try again later")
            if self._queued and self._queued + len(events) > self._most_queued:
                raise QueueFull(f"{self._queued} events wait for the disk; at most {self._most_queued} may")
            self._calls.append(call)
            self._queued += len(events)
            self._waits.notify()
        return call.outcome

    def close(self) -> None:
        """Commit what is queued, then close the store."""
        with self._waits:
            self._closing = True
            self._waits.notify()
        self._thread.join()

    def _run(self) -> None:
        self._try_to_open()
        while calls := self._take():
            self._commit(calls)
        if self._store is not None:
            self._store.close()

    def _take(self) -> list[_Call]:
        """Return the next calls, as many as one commit may have; none once the log is closed and empty."""
        with self._waits:
            self._waits.wait_for(lambda: self._calls or self._closing)
            calls: list[_Call] = []
            events = 0
            while self._calls and (not calls or events + len(self._calls[0].events) <= MOST_COMMITTED):
                calls.append(self._calls.popleft())
                events += len(calls[-1].events)
            return calls

    def _commit(self, calls: Sequence[_Call]) -> None:
        events = [event for call in calls for event in call.events]
        offsets = [offset for call in calls for offset in call.offsets]
        began = time.perf_counter()
        try:
            outcomes = iter(self._opened().append(events, self.now_ms(), offsets))
            self._note()
        except Exception as error:
            self._fail(calls, error)
            self._on_commit(Committed(len(events), time.perf_counter() - began, good=False))
            return
        finally:
            with self._waits:
                self._queued -= len(events)
        self._on_commit(Committed(len(events), time.perf_counter() - began, good=True))
        for call in calls:
            call.outcome.set_result([next(outcomes) for _ in call.events])

    def _fail(self, calls: Sequence[_Call], error: Exception) -> None:
        """Tell the callers. The store is opened anew: nobody knows what a disk does after an error."""
        known = isinstance(error, StoreFault)
        fault = error if known else StoreFault(f"events cannot be kept: {type(error).__name__}")
        if self.fault is None:
            log.error("events not kept", reason=str(fault), exc_info=not known)
        self.fault = str(fault)
        if self._store is not None:
            self._store.close()
            self._store = None
        for call in calls:
            call.outcome.set_exception(fault)

    def _opened(self) -> EventStore:
        if self._store is None:
            self._store = self._open_store()
        return self._store

    def _try_to_open(self) -> None:
        try:
            self._opened()
            self._note()
        except (CestaError, OSError) as error:
            self.fault = explain(error) if isinstance(error, OSError) else str(error)
            log.error("event log not opened", reason=self.fault)

    def _note(self) -> None:
        store = self._opened()
        self.position, self.size_bytes, self.log_id = (
            store.last_position(),
            store.size_bytes(),
            store.log_id(),
        )
        if self.fault is not None:
            log.info("events kept again", position=self.position)
            self.fault = None
