"""The query of a client and the recommendations of the server."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from . import _check
from ._limits import MAX_BASKET, MAX_CATEGORIES, MAX_EXCLUDE, MAX_ITEMS


class Reason(Enum):
    """The reason for a recommended item; the value is its bit in the answer's mask."""

    USUAL = 1  # this customer usually buys it
    TOGETHER = 2  # bought together with something in the basket
    SIMILAR = 4  # near to basket and customer by the model; by default only for items that hardly sold
    POPULAR = 8  # popular in the shop
    CATEGORY = 16  # popular in a category of the basket


_KNOWN_BITS = sum(reason.value for reason in Reason)


def reasons_in(mask: int) -> tuple[Reason, ...]:
    """The reasons in a bit mask, lowest bit first. Unknown bits of a newer server are ignored."""
    return _reasons_in(mask & _KNOWN_BITS)


@lru_cache(maxsize=_KNOWN_BITS + 1)
def _reasons_in(mask: int) -> tuple[Reason, ...]:
    return tuple(reason for reason in Reason if mask & reason.value)


@dataclass(frozen=True, slots=True)
class Recommendation:
    """One recommended item.

    `score` falls with `rank` (1 is the best). Its scale may change: compare scores only within one answer.
    """

    item_id: str
    score: float
    rank: int
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True)
class AnswerWarning:
    """A part of the query that had no effect. The answer is still right for the rest.

    `code` is for programs: "unknown_category" says that the release has no category `value`, which matches
    nothing. Likewise "unknown_excluded_category", "unknown_item" and "unknown_store". "unsupported_input"
    says that the release is older than the field `value`. Newer servers may send other codes.
    """

    code: str
    value: str


class Recommendations(list[Recommendation]):
    """The recommendations for one query, best first: k items, or fewer if no more are possible.

    `release` is the release that answered, and `warnings` tells what it could not use. An empty list has
    both.
    """

    __slots__ = ("release", "warnings")

    def __init__(
        self,
        items: Iterable[Recommendation] = (),
        *,
        release: int,
        warnings: Iterable[AnswerWarning] = (),
    ) -> None:
        super().__init__(items)
        self.release = release
        self.warnings = tuple(warnings)


@dataclass(frozen=True, slots=True, init=False)
class Query:
    """One question to the server. Every `Query` is valid, because its constructor checks it.

    It stores ids sorted and unique, without empty ones. Equal baskets are therefore equal queries and share
    one entry of the server's response cache.

    Raises:
        InvalidRequest: see `Recommender.recommend`.
    """

    basket: tuple[str, ...]
    user_id: str
    k: int
    exclude: tuple[str, ...]
    categories: tuple[str, ...]
    store_id: str
    exclude_categories: tuple[str, ...]
    items: tuple[str, ...]
    history: tuple[tuple[str, float], ...]

    def __init__(
        self,
        basket: Iterable[str] | None = None,
        user_id: str | None = None,
        k: int = 10,
        exclude: Iterable[str] | None = None,
        categories: Iterable[str] | None = None,
        *,
        store_id: str | None = None,
        exclude_categories: Iterable[str] | None = None,
        items: Iterable[str] | None = None,
        history: Iterable[tuple[str, float]] | None = None,
    ) -> None:
        set_field = object.__setattr__  # the class is frozen
        set_field(self, "basket", _check.ids("basket", "item id", basket, most=MAX_BASKET))
        set_field(self, "user_id", _check.optional_id("user_id", user_id))
        set_field(self, "k", _check.k(k))
        set_field(self, "exclude", _check.ids("exclude", "item id", exclude, most=MAX_EXCLUDE))
        set_field(self, "categories", _check.ids("categories", "category", categories, most=MAX_CATEGORIES))
        set_field(self, "store_id", _check.optional_id("store_id", store_id))
        unwanted = _check.ids("exclude_categories", "category", exclude_categories, most=MAX_CATEGORIES)
        set_field(self, "exclude_categories", unwanted)
        set_field(self, "items", _check.ids("items", "item id", items, most=MAX_ITEMS))
        set_field(self, "history", _check.history(history))
