"""One request in ids → one query in rows, checked. Every limit of the contract that concerns ids is here."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

MAX_BASKET: Final = 200
MAX_EXCLUDE: Final = 1000
MAX_CATEGORIES: Final = 100
MAX_ID_BYTES: Final = 128


class BadRequest(ValueError):  # noqa: N818 - named for what the caller did
    """The caller's fault; the text names the value and the limit and is meant for the caller's eyes."""


@dataclass(frozen=True, slots=True)
class Query:
    """What the sampler is asked, in rows: distinct, and never 0, which stands for unknown."""

    user_row: int = 0
    basket: list[int] = field(default_factory=list)
    exclude: list[int] = field(default_factory=list)
    wanted: list[int] = field(default_factory=list)  # category numbers
    now: int | None = None  # None: the moment the arrays were made for
    named: bool = field(default=False, compare=False)  # a user id was given; counted, like the next
    unknown_items: int = field(default=0, compare=False)  # distinct ids of the basket without a row


class Vocabulary:
    """The three id spaces of a release: item ids, user ids and category names, as UTF-8 bytes → row."""

    def __init__(
        self, items: Mapping[bytes, int], users: Mapping[bytes, int], categories: Mapping[bytes, int]
    ):
        self._items, self._users, self._categories = items, users, categories

    def query(
        self,
        basket: Iterable[bytes] = (),
        user_id: bytes = b"",
        exclude: Iterable[bytes] = (),
        categories: Iterable[bytes] = (),
        now: int | None = None,
    ) -> Query:
        """Look all ids up, without the blanks around them, as the release has them (CHAR columns are padded).

        Empty ids are padding; unknown items and users are legal, categories are not.
        Raises BadRequest for too many ids, an id that is too long or not UTF-8, or an unknown category.
        """
        if (user_id := user_id.strip()) and user_id not in self._users:
            user_id = _trimmed(user_id)
            _check_id("user_id", user_id, self._users)
        basket_ids = _checked("basket", basket, MAX_BASKET, self._items)
        basket_rows = self._item_rows(basket_ids)
        return Query(
            user_row=self._users.get(user_id, 0),
            basket=basket_rows,
            exclude=self._item_rows(_checked("exclude", exclude, MAX_EXCLUDE, self._items)),
            wanted=[
                self._category(i)
                for i in _checked("categories", categories, MAX_CATEGORIES, self._categories)
            ],
            now=now,
            named=bool(user_id),
            unknown_items=len(basket_ids) - len(basket_rows),
        )

    def _item_rows(self, ids: Iterable[bytes]) -> list[int]:
        return [row for i in ids if (row := self._items.get(i, 0))]

    def _category(self, name: bytes) -> int:
        number = self._categories.get(name, 0)
        if not number:
            raise BadRequest(
                f"unknown category {_quoted(name)}; use a value of a category column, in its spelling"
            )
        return number


def _checked(what: str, ids: Iterable[bytes], most: int, known: Mapping[bytes, int]) -> list[bytes]:
    """The distinct ids, sorted: a basket is a set, so equal sets must give equal answers to the last bit."""
    distinct = {i.strip() for i in ids} - {b""}
    strange = [i for i in distinct if i not in known]
    if strange:
        distinct = distinct.difference(strange) | {_trimmed(i) for i in strange} - {b""}
    if len(distinct) > most:
        noun = "items" if what == "basket" else "ids"
        raise BadRequest(f"{what} has {len(distinct)} {noun}; at most {most} are allowed")
    ordered = sorted(distinct)
    if strange:
        for i in ordered:
            _check_id(what, i, known)
    return ordered


def _trimmed(value: bytes) -> bytes:
    """Without Unicode's blanks around it, as etl trims. Only ids that are unknown without it pay for it."""
    return value.decode(errors="surrogateescape").strip().encode(errors="surrogateescape")


def _check_id(what: str, value: bytes, known: Mapping[bytes, int]) -> None:
    if value in known:
        return  # ids of the release were checked when it was built
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
