"""The protocol of a store of events.

Whatever it acknowledges outlives the death of its process, and the machine's power.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from ensemble.event_tail import Logged
from operations.errors import CestaError
from operations.events.event import Event


class State(StrEnum):
    """The result of adding an event."""

    ACCEPTED = "accepted"
    KNOWN = "known"  # the same event came before
    CHANGED = "changed"  # another event with its id came before; this one is refused


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of adding an event, and the position of the event that has its id."""

    state: State
    position: int


class Offset(NamedTuple):
    """How far one partition of a source was read: ``next`` is the offset of the next message."""

    source: str
    part: int
    next: int


class StoreFault(CestaError):  # noqa: N818 - what happened, not whose mistake it is
    """The store could not keep or read events; the text says why. Nothing of the call was acknowledged."""


class EventStore(Protocol):
    """Keeps events in the order in which they came. All calls raise StoreFault; a store is for one thread."""

    def append(
        self, events: Sequence[Event], received_ms: int, offsets: Sequence[Offset] = ()
    ) -> list[Outcome]:
        """Keep the events and the offsets together, or nothing; they are durable when this returns.

        An offset never goes back. Positions grow by 1 from the first event on. An event without a time has
        ``received_ms``, and none is later than that.
        """

    def read(self, after: int, most: int = 10_000) -> list[Logged]:
        """Return the events behind a position, in their order."""

    def last_position(self) -> int:
        """Return the position of the last event, also of one that was erased since; 0 before the first."""

    def offsets(self, source: str) -> Mapping[int, int]:
        """Return how far a source was read."""

    def log_id(self) -> str:
        """Return the name of this log, which it got when it was made."""

    def size_bytes(self) -> int:
        """Return the space that the log takes."""

    def close(self) -> None:
        """Give back what the store holds."""


def key_of(event_id: str) -> bytes:
    """Return 16 bytes that stand for an event id. To find two ids with equal ones takes 2**64 tries."""
    return hashlib.sha256(event_id.encode()).digest()[:16]


def moment_of(event: Event, received_ms: int) -> int:
    """Return when an event counts as having happened. A clock that is a little fast makes no future."""
    return received_ms if event.at_ms is None else min(event.at_ms, received_ms)
