"""One question in ids → one question in rows, checked. The limits of its inputs are here."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from .arrays import ListArrays
from .ids import Ids

KINDS: Final = ("similar", "together", "substitutes", "popular")
ABOUT_AN_ITEM: Final = KINDS[:3]
MAX_LIMIT: Final = 100
DEFAULT_LIMIT: Final = 10
MAX_EXCLUDE: Final = 1000
MAX_CATEGORIES: Final = 100
MAX_ID_BYTES: Final = 128
PERIODS: Final = (0, 28)  # the days that sales are counted for; 0: the whole period


Inputs = Mapping[str, Sequence[Any]]  # the values of each input of one query: bytes, or numbers


class BadQuestion(ValueError):  # noqa: N818 - named for what the caller did
    """The caller's fault; the text names the value and the limit and is meant for the caller's eyes."""


@dataclass(frozen=True)
class Question:
    """A wanted list, in rows."""

    kind: str
    item: int = 0  # 0: unknown
    categories: tuple[int, ...] | None = None  # list only items of these; None: of any
    days: int = 0
    exclude: frozenset[int] = frozenset()
    limit: int = DEFAULT_LIMIT
    store_id: bytes = b""
    warnings: tuple[bytes, ...] = field(default=(), compare=False)


def read_question(arrays: ListArrays, inputs: Inputs) -> Question:
    """Look the ids of the inputs up. What is missing has its default; an empty id is padding.

    Unknown items and categories are legal, and the answer's warnings name them. Raises BadQuestion for an
    unknown kind, a number out of range, too many ids, or an id that is too long or not UTF-8.
    """
    kind = _one(inputs, "kind").decode(errors="replace")
    if kind not in KINDS:
        raise BadQuestion(f'kind is "{kind[:40]}"; use {", ".join(KINDS)}')
    item_id = _one(inputs, "item")
    if kind in ABOUT_AN_ITEM and not item_id:
        raise BadQuestion(f"item is missing: {kind} is about one item")
    item = arrays.items.find(item_id)
    warnings = [b"unknown_item:" + item_id] if item_id and not item else []
    names = _ids(inputs, "category", MAX_CATEGORIES)
    known, unknown = _rows(names, arrays.categories)
    _rows([item_id], arrays.items)
    return Question(
        kind=kind,
        item=item,
        categories=tuple(sorted(known)) if names else None,
        days=_number(inputs, "days", 0, PERIODS),
        exclude=_rows(_ids(inputs, "exclude", MAX_EXCLUDE), arrays.items)[0],
        limit=_number(inputs, "limit", DEFAULT_LIMIT, range(1, MAX_LIMIT + 1)),
        store_id=_one(inputs, "store_id"),
        warnings=(*warnings, *(b"unknown_category:" + name for name in unknown)),
    )


def _ids(inputs: Inputs, name: str, most: int) -> list[bytes]:
    ids = sorted({bytes(i) for i in inputs.get(name, ()) if i})
    if len(ids) > most:
        raise BadQuestion(f"{name} has {len(ids)} ids; at most {most} are allowed")
    for each in ids:
        _check(name, each)
    return ids


def _one(inputs: Inputs, name: str) -> bytes:
    value = bytes(next(iter(inputs.get(name, ())), b""))
    _check(name, value)
    return value.strip()


def _check(name: str, value: bytes) -> None:
    if len(value) > MAX_ID_BYTES:
        raise BadQuestion(f"{name} holds an id of {len(value)} bytes; at most {MAX_ID_BYTES} are allowed")
    try:
        value.decode()
    except UnicodeDecodeError as error:
        raise BadQuestion(f"{name} holds an id that is not UTF-8 at byte {error.start}") from None


def _rows(ids: Collection[bytes], known: Ids) -> tuple[frozenset[int], list[bytes]]:
    """The rows of those that are known, and the others."""
    found = {each: known.find(each) for each in ids}
    return frozenset(row for row in found.values() if row), [each for each, row in found.items() if not row]


def _number(inputs: Inputs, name: str, default: int, allowed: Collection[int]) -> int:
    value = int(next(iter(inputs.get(name, ())), default))
    if value in allowed:
        return value
    listed = f"1 to {MAX_LIMIT}" if isinstance(allowed, range) else " or ".join(map(str, allowed))
    raise BadQuestion(f"{name} is {value}; use {listed}")
