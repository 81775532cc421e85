"""The events that a recommender still has to report: a bounded buffer, and what became of those before.

It sends nothing itself; `_reporting` does, in a thread or in a task.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import uuid
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from . import _check
from ._errors import CestaError, InvalidRequest, ServerError
from ._limits import MAX_BASKET

MOST_BUFFERED: Final = 10_000  # events; some 3 MB
MOST_SENT: Final = 500  # events of one request
MOST_BYTES: Final = 512 * 1024  # of one request; the gateway takes 1 MiB
FIRST_PAUSE_S: Final = 0.1  # after a failure; doubles with each further one
LONGEST_PAUSE_S: Final = 30.0

log = logging.getLogger("cesta_client")

Kind = Literal["purchase", "returned"]


@dataclass(frozen=True, slots=True)
class EventsStatus:
    """Counts what became of the events of one recommender.

    Attributes:
        buffered: wait to be acknowledged.
        acknowledged: are durable on the server.
        refused: the server refused them, such as a time in the future; they are not sent again.
        dropped: found no room in the buffer, or were left when the recommender was closed.
        failure: why the last request failed; "" if it did not.
        refusal: the server's sentence about the last refused event; "" without one.
    """

    buffered: int
    acknowledged: int
    refused: int
    dropped: int
    failure: str
    refusal: str


def encode_event(
    kind: Kind,
    basket_id: str,
    item_ids: Iterable[str],
    user_id: str | None,
    *,
    store_id: str | None,
    at: datetime | None,
    request_id: str | None,
    event_id: str | None,
) -> bytes:
    """Check an event and return it as JSON. It gets an id and the time, if it has none.

    Raises:
        InvalidRequest: a value is not valid; the text names it.
    """
    items = _check.ids("item_ids", "item id", item_ids, most=MAX_BASKET)
    if not items:
        raise InvalidRequest("item_ids has no id")
    if at is not None and (not isinstance(at, datetime) or at.tzinfo is None):
        raise InvalidRequest(f"at is a datetime with a time zone, such as datetime.now(UTC); got {at!r}")
    named = {
        "type": kind,
        "event_id": _check.optional_id("event_id", event_id) or uuid.uuid4().hex,
        "basket_id": _check.optional_id("basket_id", basket_id),
        "item_ids": items,
        "user_id": _check.optional_id("user_id", user_id),
        "store_id": _check.optional_id("store_id", store_id),
        "at": (at or datetime.now(UTC)).isoformat(),
        "request_id": _check.optional_id("request_id", request_id),
    }
    if not named["basket_id"]:
        raise InvalidRequest("basket_id is empty")
    return json.dumps({name: value for name, value in named.items() if value}).encode()


class EventBuffer:
    """Threads add events; one sender takes batches, oldest first, and settles each. Nothing here waits."""

    def __init__(self, most: int = MOST_BUFFERED) -> None:
        self._most = most
        self._events: deque[bytes] = deque()
        self._lock = threading.Lock()
        self._rng = random.Random()
        self._pause_s = FIRST_PAUSE_S
        self._acknowledged = self._refused = self._dropped = 0
        self._failure = self._refusal = ""
        self._full = False

    def __len__(self) -> int:
        return len(self._events)

    def add(self, event: bytes) -> bool:
        """Take an event; return False if the buffer is full. Then this event is dropped, the newest."""
        with self._lock:
            full = len(self._events) >= self._most
            if full:
                self._dropped += 1
            else:
                self._events.append(event)
            first, self._full = full and not self._full, full
        if first:
            log.error("%d events wait for the server (%s); new ones are dropped", self._most, self._failure)
        return not full

    def batch(self) -> Sequence[bytes]:
        """Return the oldest events that fit into one request. They stay until they are settled."""
        batch: list[bytes] = []
        size = 0
        with self._lock:
            for event in self._events:
                size += len(event) + 1
                if batch and (len(batch) == MOST_SENT or size > MOST_BYTES):
                    break
                batch.append(event)
        return batch

    def settle(self, batch: Sequence[bytes], answer: bytes) -> None:
        """Count what the server answered to a batch, and forget its events.

        Raises:
            ServerError: the answer cannot be read; the events stay.
        """
        try:
            told: Any = json.loads(answer)
            refused = [str(refusal["detail"]) for refusal in told["refused"]]
            acknowledged = int(told["accepted"]) + int(told["known"])
        except (ValueError, LookupError, TypeError) as error:
            raise ServerError(f"the answer about events cannot be read: {error!r}") from error
        self._forget(batch, acknowledged, refused)

    def refuse(self, batch: Sequence[bytes], error: InvalidRequest) -> None:
        """Forget a batch that the server refused as a whole."""
        self._forget(batch, 0, [str(error)] * len(batch))

    def fail(self, error: CestaError) -> float:
        """Note a failed request; return the seconds until the next try. The same events are sent again."""
        self._failure = str(error)
        pause_s, self._pause_s = self._pause_s, min(2 * self._pause_s, LONGEST_PAUSE_S)
        return max(error.retry_after_s or 0.0, pause_s * self._rng.uniform(0.5, 1.5))

    def drop_rest(self) -> None:
        """Drop what is left when the recommender closes."""
        with self._lock:
            left = len(self._events)
            self._events.clear()
            self._dropped += left
        if left:
            log.error("%d events were not reported before the end (%s)", left, self._failure)

    def status(self) -> EventsStatus:
        with self._lock:
            return EventsStatus(
                len(self._events),
                self._acknowledged,
                self._refused,
                self._dropped,
                self._failure,
                self._refusal,
            )

    def _forget(self, batch: Sequence[bytes], acknowledged: int, refused: Sequence[str]) -> None:
        with self._lock:
            for _ in range(min(len(batch), len(self._events))):  # none, if the rest was dropped meanwhile
                self._events.popleft()
            self._acknowledged += acknowledged
            self._refused += len(refused)
            self._failure, self._pause_s = "", FIRST_PAUSE_S
            if refused:
                self._refusal = refused[-1]
        if refused:
            log.error("the server refused %d events, the last one because %s", len(refused), refused[-1])
