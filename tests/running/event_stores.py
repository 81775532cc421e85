"""The stores of events that the battery of tests runs over."""

from __future__ import annotations

from pathlib import Path

from operations.events.event import Event
from operations.events.opening import open_store
from operations.events.store import EventStore


class Folder:
    """The embedded store, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder)

    def open(self) -> EventStore:
        return open_store(self.address)

    def close(self) -> None:
        """Nothing runs."""


def purchase(event_id: str, *items: str, **about: object) -> Event:
    """A purchase of these items; of milk without any."""
    return Event("purchase", event_id, f"basket of {event_id}", tuple(sorted(items or ("milk",))), **about)
