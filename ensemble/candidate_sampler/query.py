"""One request in ids → one query in rows, checked. Every limit of the contract that concerns ids is here."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from .arrays import NO_CATEGORY, NO_ITEM
from .blanks import ASCII_BLANKS, trimmed
from .ids import Rows

MAX_BASKET: Final = 200
MAX_EXCLUDE: Final = 1000
MAX_CATEGORIES: Final = 100  # of exclude_categories, too
MAX_ITEMS: Final = 100  # each of them becomes a candidate
MAX_HISTORY: Final = 1000
MAX_AGE: Final = 36_525.0  # days: a century
MAX_ID_BYTES: Final = 128


class BadRequest(ValueError):  # noqa: N818 - named for what the caller did
    """The caller's fault; the text names the value and the limit and is meant for the caller's eyes."""


@dataclass(slots=True)
class Query:
    """What the sampler is asked, in rows: distinct, and never 0, which stands for unknown."""

    user_row: int = 0
    basket: list[int] = field(default_factory=list)
    exclude: list[int] = field(default_factory=list)
    wanted: list[int] = field(default_factory=list)  # category numbers, or NO_CATEGORY if none is known
    now: int | None = None  # None: the moment the arrays were made for
    named: bool = field(default=False, compare=False)  # a user id was given; counted, like the next
    unknown_items: int = field(default=0, compare=False)  # distinct ids of the basket without a row
    unknown_categories: tuple[bytes, ...] = ()  # they match nothing; the answer names them
    unwanted: Sequence[int] = ()  # category numbers whose items are no candidates
    only: Sequence[int] = ()  # the item rows that may be recommended, or NO_ITEM if none is known
    history: Sequence[tuple[float, int]] | None = None  # (age in days, item row), oldest first; None: user's
    store_row: int = 0  # of the store that asks, 0: none, or one that the release does not have
    warnings: Sequence[bytes] = ()  # code and value, as digest.py tells; the answer has them
    store: bytes = b""  # whose live table counts; "": that of the whole shop
    is_live: bool = True  # live tables count

    @property
    def has_further(self) -> bool:
        """Does it ask what few queries do? Live tables count for all."""
        return bool(self.unwanted or self.only or self.store_row or self.history is not None)


class Vocabulary:
    """The four id spaces of a release: items, users, category names and stores, as UTF-8 bytes → row."""

    def __init__(self, items: Rows, users: Rows, categories: Rows, stores: Rows):
        self._items, self._users, self._categories, self._stores = items, users, categories, stores

    def query(
        self,
        basket: Collection[bytes] = (),
        user_id: bytes = b"",
        exclude: Collection[bytes] = (),
        categories: Collection[bytes] = (),
        now: int | None = None,
        **further: Any,
    ) -> Query:
        """Look all ids up, without the blanks around them, as the release has them (CHAR columns are padded).

        Empty ids are padding; unknown items, users and categories are legal. An unknown category matches
        nothing: with known ones beside it the query is about those, without any its answer is empty.
        ``further`` holds inputs of digest.FURTHER, which few queries have: see ``_add_further``.
        Raises BadRequest for too many ids, or an id that is too long or not UTF-8.
        """
        user_id = user_id.strip()
        user_row = self._users.find_one(user_id) if user_id else 0
        if user_id and not user_row:
            if (user_id := _trimmed(given := user_id)) != given:
                user_row = self._users.find_one(user_id)
            if not user_row:
                _check_id("user_id", user_id)
        basket_rows, unknown_items = _rows("basket", basket, MAX_BASKET, self._items)
        excluded, _ = _rows("exclude", exclude, MAX_EXCLUDE, self._items)
        wanted, unknown_categories = _rows("categories", categories, MAX_CATEGORIES, self._categories)
        if unknown_categories:
            wanted = wanted or [NO_CATEGORY]
        query = Query(
            user_row=user_row,
            basket=basket_rows,
            exclude=excluded,
            wanted=wanted,
            now=now,
            named=bool(user_id),
            unknown_items=len(unknown_items),
            unknown_categories=tuple(unknown_categories),
        )
        if unknown_categories:
            query.warnings = [b"unknown_category:" + name for name in unknown_categories]
        if further:
            self._add_further(query, **further)
        return query

    def _add_further(
        self,
        query: Query,
        store_id: Collection[bytes] = (),
        exclude_categories: Collection[bytes] = (),
        items: Collection[bytes] = (),
        history: Collection[bytes] = (),
        history_ages: Collection[float] = (),
    ) -> None:
        """Add to a query what few have. What is unknown has no effect, and becomes a warning.

        Items of ``exclude_categories`` are never recommended, and of other items than ``items`` none is, if
        there are any. ``history`` with ``history_ages`` (days, as many) is what the customer bought, in place
        of what the release knows. Raises BadRequest as ``query``, and for ages that are none.
        """
        warnings = [*query.warnings]
        for store in filter(None, map(_trimmed, store_id)):
            query.store, query.store_row = store, self._stores.find_one(store)
            if not query.store_row:
                _check_id("store_id", store)
                warnings.append(b"unknown_store:" + store)
        query.unwanted, unknown = _rows(
            "exclude_categories", exclude_categories, MAX_CATEGORIES, self._categories
        )
        warnings += [b"unknown_excluded_category:" + name for name in unknown]
        query.only, unknown = _rows("items", items, MAX_ITEMS, self._items)
        if unknown:
            query.only = query.only or [NO_ITEM]
            warnings += [b"unknown_item:" + item for item in unknown]
        if len(history) or len(history_ages):
            query.history = self._past(history, history_ages)
        query.warnings = warnings

    def _past(self, history: Collection[bytes], ages: Collection[float]) -> list[tuple[float, int]]:
        """What was bought at which age in days, oldest first. Unknown items are left out."""
        if len(history) != len(ages):
            raise BadRequest(f"history_ages has {len(ages)} ages; history has {len(history)} ids")
        bought = {pair for pair in zip(history, ages, strict=True) if pair[0]}
        if len(bought) > MAX_HISTORY:
            raise BadRequest(f"history has {len(bought)} ids; at most {MAX_HISTORY} are allowed")
        if wrong := [age for _, age in bought if not 0 <= age <= MAX_AGE]:  # not a number is, too
            raise BadRequest(f"history_ages holds {wrong[0]:g}; an age is 0 to {MAX_AGE:g} days")
        row_of = _distinct({item for item, _ in bought}, self._items)
        for item, row in row_of.items():
            if not row:
                _check_id("history", item)
        rows = {(-age, row_of.get(item) or row_of.get(_trimmed(item), 0)) for item, age in bought}
        return [(-age, row) for age, row in sorted(rows) if row]


def _rows(what: str, ids: Collection[bytes], most: int, known: Rows) -> tuple[list[int], list[bytes]]:
    """The distinct rows, and the distinct ids that have none.

    Sorted: a basket is a set, so equal sets must give equal answers to the last bit.
    """
    if not len(ids):
        return [], []
    rows = known.find_distinct(ids)
    if rows[0] and len(rows) <= most:
        return rows, []  # what nearly all requests are
    row_of = _distinct(ids, known)
    if len(row_of) > most:
        noun = "items" if what == "basket" else "ids"
        raise BadRequest(f"{what} has {len(row_of)} {noun}; at most {most} are allowed")
    unknown = sorted(i for i, row in row_of.items() if not row)
    for i in unknown:
        _check_id(what, i)
    return sorted(row for row in row_of.values() if row), unknown


def _distinct(ids: Collection[bytes], known: Rows) -> dict[bytes, int]:
    """The ids without blanks around them, and without those that are nothing else, with their rows."""
    row_of = dict(zip(ids, known.find(ids), strict=True))
    padded = {i for i, row in row_of.items() if not row and _trimmed(i) != i}
    for clean in (
        (bytes.strip, _trimmed) if padded else ()
    ):  # a release of before etl trimmed may know the first
        bare = {clean(i) for i in padded}
        row_of = {i: row for i, row in row_of.items() if i not in padded}
        row_of |= zip(bare, known.find(bare), strict=True)
        padded = {i for i in bare if not row_of[i]}
    row_of.pop(b"", None)
    return row_of


def _trimmed(value: bytes) -> bytes:
    """Without blanks around it, as etl trims. Only ids that are unknown without it pay for it."""
    if value.isascii():
        return value.strip(ASCII_BLANKS)  # faster than as text
    try:
        return trimmed(value.decode()).encode()
    except UnicodeDecodeError:
        return value.strip()  # refused


def _check_id(what: str, value: bytes) -> None:
    """Check an id that the release does not hold. Its own ids were checked when it was built."""
    if len(value) > MAX_ID_BYTES:
        raise BadRequest(
            f"{what} holds an id of {len(value)} bytes; at most {MAX_ID_BYTES} are allowed: {_quoted(value)}"
        )
    try:
        value.decode()
    except UnicodeDecodeError as e:
        raise BadRequest(
            f"{what} holds an id that is not UTF-8 at byte {e.start}: {_quoted(value)}"
        ) from None


def _quoted(value: bytes) -> str:
    """Enough of an id to recognise it, safe to print."""
    text = value[:40].decode(errors="backslashreplace")
    readable: Callable[[str], str] = lambda c: c if c.isprintable() else f"\\x{ord(c):02x}"  # noqa: E731
    return '"' + "".join(map(readable, text)) + ('…"' if len(value) > 40 else '"')
