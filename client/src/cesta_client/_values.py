"""What one asks, and what comes back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from . import _check
from ._limits import MAX_BASKET, MAX_CATEGORIES, MAX_EXCLUDE


class Reason(Enum):
    """Why an item is recommended; the value is its bit in the answer's mask."""

    USUAL = 1  # this customer buys it usually
    TOGETHER = 2  # bought together with something in the basket
    SIMILAR = 4  # similar to something in the basket
    POPULAR = 8  # popular in the shop
    CATEGORY = 16  # popular in a category of the basket


_KNOWN_BITS = sum(reason.value for reason in Reason)


def reasons_in(mask: int) -> tuple[Reason, ...]:
    """The reasons of a bit mask, lowest bit first. Bits of a newer server are passed over."""
    return _reasons_in(mask & _KNOWN_BITS)


@lru_cache(maxsize=_KNOWN_BITS + 1)
def _reasons_in(mask: int) -> tuple[Reason, ...]:
    return tuple(reason for reason in Reason if mask & reason.value)


@dataclass(frozen=True, slots=True)
class Recommendation:
    """One recommended item.

    `score` falls with `rank` (1 is the best). It has no promised scale and compares only within one answer.
    """

    item_id: str
    score: float
    rank: int
    reasons: tuple[Reason, ...] = ()


class Recommendations(list[Recommendation]):
    """The recommendations of one query, best first; at most k, fewer when no more items are possible.

    `release` is the release of the model that answered, also when the list is empty.
    """

    __slots__ = ("release",)

    def __init__(self, items: Iterable[Recommendation] = (), *, release: int) -> None:
        super().__init__(items)
        self.release = release


@dataclass(frozen=True, slots=True, init=False)
class Query:
    """One question to the server. A `Query` that exists is valid.

    Ids are kept sorted and unique, and empty ids are dropped, so that equal baskets are equal queries
    and share one entry of the server's response cache.

    Raises:
        InvalidRequest: see `Recommender.recommend`.
    """

    basket: tuple[str, ...]
    user_id: str
    k: int
    exclude: tuple[str, ...]
    categories: tuple[str, ...]

    def __init__(
        self,
        basket: Iterable[str] | None = None,
        user_id: str | None = None,
        k: int = 10,
        exclude: Iterable[str] | None = None,
        categories: Iterable[str] | None = None,
    ) -> None:
        keep = object.__setattr__  # the class is frozen
        keep(self, "basket", _check.ids("basket", "item id", basket, most=MAX_BASKET))
        keep(self, "user_id", _check.one_id("user_id", user_id))
        keep(self, "k", _check.k(k))
        keep(self, "exclude", _check.ids("exclude", "item id", exclude, most=MAX_EXCLUDE))
        keep(self, "categories", _check.ids("categories", "category", categories, most=MAX_CATEGORIES))
