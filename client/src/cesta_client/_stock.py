"""Changes of a shop's stock, as bodies of the gateway's `PUT /v1/availability`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from . import _check
from ._errors import InvalidRequest, ServerError
from ._transports.interface import JsonObject

PATH = "/v1/availability"
TIMEOUT_S = 60.0  # of one request: the last part of a million entries takes some seconds, and is sent again
MOST_ENTRIES = 2_000  # of one body: at most 640 KB, whatever the ids
MOST_PARTS = 2_000


@dataclass(frozen=True, slots=True)
class Availability:
    """States whether an item is available; None: the store has what the whole shop has.

    Without `store_id` it is about the whole shop.
    """

    item_id: str
    available: bool | None
    store_id: str | None = None


@dataclass(frozen=True, slots=True)
class StockChange:
    """An acknowledged change: it is kept, and `applied` of so many `samplers` use it already."""

    version: int
    samplers: int
    applied: int


def bodies(entries: Iterable[Availability], version: int | None, replace: bool) -> list[JsonObject]:
    """One body, or the parts of a version.

    Raises:
        InvalidRequest: an id is not valid, or a change that needs parts has no version.
    """
    described = map(_described, entries)
    parts = list(_batches(described)) or [[]]
    if len(parts) > 1 and version is None:
        raise InvalidRequest(f"a change of over {MOST_ENTRIES} entries needs a version, because it has parts")
    if len(parts) > MOST_PARTS:
        raise InvalidRequest(f"a change has at most {MOST_PARTS * MOST_ENTRIES:,} entries")
    about: dict[str, object] = {} if version is None else {"version": version}
    about |= {"replace": True} if replace else {}
    if len(parts) == 1:
        return [{**about, "items": parts[0]}]
    return [
        {**about, "part": number, "parts": len(parts), "items": part}
        for number, part in enumerate(parts, start=1)
    ]


def change_in(told: JsonObject) -> StockChange:
    """The answer to the last part.

    Raises:
        ServerError: it is something else.
    """
    try:
        return StockChange(int(told["version"]), int(told["samplers"]), int(told["applied"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ServerError(f"the server's answer cannot be read: {error!r}") from error


def _described(entry: Availability) -> dict[str, object]:
    item = _check.optional_id("item_id", entry.item_id)
    if not item:
        raise InvalidRequest("item_id is empty")
    store = _check.optional_id("store_id", entry.store_id)
    described: dict[str, object] = {"item_id": item, "available": entry.available}
    return described | ({"store_id": store} if store else {})


def _batches(entries: Iterator[dict[str, object]]) -> Iterator[list[dict[str, object]]]:
    while batch := list(islice(entries, MOST_ENTRIES)):
        yield batch
