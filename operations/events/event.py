"""One event as a shop sends it: a purchase, or things that were returned; checked, and in one form.

The limits of ids are those of a question to the sampler.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, get_args

from ensemble.candidate_sampler.blanks import trimmed

Kind = Literal["purchase", "returned"]

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
MAX_ITEMS: Final = 200  # different ids of one event
MAX_LISTED: Final = 1000  # ids of one event, repeats included
MAX_ID_BYTES: Final = 128
_REQUIRED: Final = ("event_id", "basket_id", "item_ids")
_OPTIONAL: Final = ("type", "user_id", "store_id", "at", "request_id")
_IDS: Final = ("event_id", "basket_id", "user_id", "store_id", "request_id")
_SHOWN: Final = 40  # letters of a value in a sentence


class BadEvent(ValueError):  # noqa: N818 - named for what the caller did
    """An event that is refused. ``code`` is for programs; ``pointer`` leads to the field within the event."""

    def __init__(self, code: str, pointer: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code, self.pointer = code, pointer


@dataclass(frozen=True, slots=True)
class Event:
    """A checked event. Absent ids are "". ``at_ms`` is a Unix time in milliseconds; None: when it arrives.

    ``item_ids`` are different, and sorted: a basket is a set.
    """

    kind: Kind
    event_id: str
    basket_id: str
    item_ids: tuple[str, ...]
    user_id: str = ""
    store_id: str = ""
    at_ms: int | None = None
    request_id: str = ""

    def content(self) -> bytes:
        """Return the event as JSON, without what is absent. Equal events have equal bytes."""
        named = {
            "type": self.kind,
            "event_id": self.event_id,
            "user_id": self.user_id,
            "basket_id": self.basket_id,
            "item_ids": self.item_ids,
            "store_id": self.store_id,
            "at_ms": self.at_ms,
            "request_id": self.request_id,
        }
        present = {name: value for name, value in named.items() if value not in ("", None)}
        return json.dumps(present, ensure_ascii=False, separators=(",", ":")).encode()


def read_event(content: bytes) -> Event:
    """Return the event whose ``content`` this is."""
    fields = json.loads(content)
    fields["kind"] = fields.pop("type")
    fields["item_ids"] = tuple(fields["item_ids"])
    return Event(**fields)


def check_event(given: object) -> Event:
    """Return the event that parsed JSON holds. ``type`` is "purchase" unless it is given.

    Raises BadEvent with the first field that is wrong.
    """
    if not isinstance(given, dict):
        raise BadEvent("wrong_type", "", f"an event is an object; got {_shown(given)}")
    for name in given:
        if name not in _REQUIRED and name not in _OPTIONAL:
            known = ", ".join((*_REQUIRED, *_OPTIONAL))
            raise BadEvent("unknown_field", "", f"an event has no field {_shown(name)}; fields: {known}")
    for name in _REQUIRED:
        if name not in given:
            raise BadEvent("missing_field", f"/{name}", f"an event needs {name}")
    kind = given.get("type", "purchase")
    if kind not in KINDS:
        raise BadEvent("wrong_form", "/type", f'type is "purchase" or "returned"; got {_shown(kind)}')
    ids = {name: _optional_id(given, name) for name in _IDS}
    for name in ("event_id", "basket_id"):
        if not ids[name]:
            raise BadEvent("wrong_form", f"/{name}", f"{name} is empty")
    return Event(kind=kind, item_ids=_items(given["item_ids"]), at_ms=_moment(given.get("at")), **ids)


def _optional_id(given: Mapping[str, Any], name: str) -> str:
    """Return an id without blanks at its ends; "" for null, which is as good as absent."""
    value = given.get(name)
    return "" if value is None else _id(value, name, f"/{name}")


def _id(value: object, name: str, pointer: str) -> str:
    if not isinstance(value, str):
        raise BadEvent("wrong_type", pointer, f"{name} is a string; got {_shown(value)}")
    text = trimmed(value)
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise BadEvent("not_utf8", pointer, f"{name} holds half a surrogate pair: {_shown(value)}") from None
    if size > MAX_ID_BYTES:
        raise BadEvent("id_too_long", pointer, f"{name} has {size} bytes; at most {MAX_ID_BYTES} are allowed")
    return text


def _items(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise BadEvent("wrong_type", "/item_ids", f"item_ids is a list of strings; got {_shown(value)}")
    if len(value) > MAX_LISTED:
        raise BadEvent(
            "too_many_ids", "/item_ids", f"item_ids has {len(value)} ids; at most {MAX_LISTED} are allowed"
        )
    ids = {_id(each, f"item_ids[{n}]", f"/item_ids/{n}") for n, each in enumerate(value)} - {""}
    if not ids:
        raise BadEvent("wrong_form", "/item_ids", "item_ids has no id")
    if len(ids) > MAX_ITEMS:
        raise BadEvent(
            "too_many_ids",
            "/item_ids",
            f"item_ids has {len(ids)} different ids; at most {MAX_ITEMS} are allowed",
        )
    return tuple(sorted(ids))


def _moment(value: object) -> int | None:
    """Return the Unix time in milliseconds of a text such as 2026-03-01T12:00:00Z."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise BadEvent(
            "wrong_type", "/at", f'at is a text such as "2026-03-01T12:00:00Z"; got {_shown(value)}'
        )
    try:
        moment = datetime.fromisoformat(value)
        milliseconds = moment.timestamp() * 1000
    except (ValueError, OverflowError):
        raise BadEvent(
            "wrong_form", "/at", f"at is a time such as 2026-03-01T12:00:00Z; got {_shown(value)}"
        ) from None
    if moment.tzinfo is None:
        raise BadEvent("wrong_form", "/at", f"at needs an offset from UTC, such as Z; got {_shown(value)}")
    return round(milliseconds)


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    text = text.encode(errors="backslashreplace").decode()
    return f'"{text[:_SHOWN]}…"' if len(text) > _SHOWN else f'"{text}"' if isinstance(value, str) else text
