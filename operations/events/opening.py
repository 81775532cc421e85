"""Finds the store of an address: a folder of this machine, or redis://…"""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

from operations.errors import CestaError
from operations.events.redis_store import RedisStore
from operations.events.sqlite_store import SqliteStore
from operations.events.store import EventStore

EVENTS: Final = "events"  # the folder of the log, or of its copy, in the gateway's folder


def is_shared(address: str) -> bool:
    """Tell whether a store serves several machines. Each then has a copy for its samplers."""
    return "://" in address


def open_store(address: str) -> EventStore:
    """Open the store at an address. Raises StoreFault, or CestaError for an address of an unknown kind."""
    scheme, separator, _ = address.partition("://")
    if not separator:
        return SqliteStore(Path(address))
    if scheme in ("redis", "rediss"):
        return RedisStore(address)
    raise CestaError(f"events are kept in a folder or at redis://…; got {scheme}://")


def read_offsets(address: str, source: str) -> Mapping[int, int]:
    """Return how far a source was read into the store at an address. Raises as `open_store` does."""
    with closing(open_store(address)) as store:
        return store.offsets(source)
