"""Finds the store of an address: a folder of this machine, or redis://…"""

from pathlib import Path

from operations.errors import CestaError
from operations.events.sqlite_store import SqliteStore
from operations.events.store import EventStore


def open_store(address: str) -> EventStore:
    """Open the store at an address. Raises StoreFault, or CestaError for an address of an unknown kind."""
    scheme, separator, _ = address.partition("://")
    if not separator:
        return SqliteStore(Path(address))
    raise CestaError(f"events are kept in a folder or at redis://…; got {scheme}://")
