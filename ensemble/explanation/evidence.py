"""Who brings a feature its value: the item of the basket, or the own receipt, that adds most to it.

Most features are sums over the basket or over the customer's receipts. The terms of these sums are computed
here once more, one by one, from the release's arrays; tests compare their sums with the kernel's features.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ensemble.candidate_sampler.arrays import Neighbours, Partners, SamplerArrays
from ensemble.candidate_sampler.query import Query
from ensemble.candidate_sampler.sources import CATEGORY, POPULAR, SIMILAR, TOGETHER, USUAL
from ensemble.candidate_sampler.user_vectors import user_vectors

Kind = Literal["basket_item", "receipt", "customer", "category", "best_seller"]
Float = NDArray[np.float64]

SECONDS_A_DAY: Final = 86_400


@dataclass(frozen=True)
class Contributor:
    """Who adds most to a feature, or has proposed an item."""

    kind: Kind
    name: str  # an item id, the time or number of a receipt, a category, a place among the best sellers
    share: float | None = None  # of all that adds to the feature, before its root is taken
    days_ago: float | None = None  # of a receipt


class Receipt(NamedTuple):
    """A past basket of the customer."""

    number: int  # from 1, the oldest that the release holds
    time: int  # in the unit of Clock
    days_ago: float
    items: NDArray[np.int32]


class Terms(NamedTuple):
    """The terms of a feature's sum, each with the one that it stems from."""

    of: Sequence[Receipt] | Sequence[int]  # receipts, or rows of basket items
    amounts: Float


class Evidence:
    """The customer's receipts and the basket of one question, by what they add to the features of an item."""

    def __init__(self, arrays: SamplerArrays, query: Query, item_id: Callable[[int], str]):
        self._arrays, self._query, self._item_id = arrays, query, item_id
        self._now = int(arrays.clock.now) if query.now is None else query.now
        self._finest = arrays.categories.finest()

    @cached_property
    def receipts(self) -> list[Receipt]:
        """The customer's receipts before the question, oldest first."""
        past = getattr(self._query, "history", None)  # queries of older releases lack the field
        if past is not None:
            return self._told_receipts(past)
        h, user, day = self._arrays.histories, self._query.user_row, float(self._arrays.clock.day)
        first, last = int(h.user_offsets[user]), int(h.user_offsets[user + 1])
        return [
            Receipt(
                b - first + 1,
                int(h.times[b]),
                (self._now - int(h.times[b])) / day,
                np.asarray(h.items[h.basket_offsets[b] : h.basket_offsets[b + 1]]),
            )
            for b in range(first, last)
            if h.times[b] < self._now
        ]

    def _told_receipts(self, past: Sequence[tuple[float, int]]) -> list[Receipt]:
        """The receipts of a history that the question brings: those of one age are one receipt."""
        day = float(self._arrays.clock.day)
        return [
            Receipt(
                number,
                self._now - max(round(age * day), 1),
                age,
                np.array([row for _, row in bought], np.int32),
            )
            for number, (age, bought) in enumerate(groupby(past, itemgetter(0)), 1)
        ]

    def largest(self, feature: str, row: int) -> Contributor | None:
        """Who adds most to a feature of an item; None if it is no sum, or if nothing adds to it."""
        terms = TERMS[feature](self, row) if feature in TERMS else None
        return None if terms is None else self._largest(terms)

    def proposers(self, row: int, sources: int) -> dict[int, Contributor]:
        """Who has proposed an item, for each source of the bits ``sources``."""
        found = {
            USUAL: self.largest("recency_60", row),
            TOGETHER: self.largest("cosine_sum", row),
            SIMILAR: self._nearest(row),
            POPULAR: self._best_seller(row),
            CATEGORY: self._largest(self.same_category(row)) or self._wanted(row),
        }
        return {bit: who for bit, who in found.items() if sources & bit and who}

    def own(self, row: int, days: float | None) -> Terms:
        """Receipts with the item: 1 each, or exp(-age / ``days``)."""
        receipts = [receipt for receipt in self.receipts if row in receipt.items]
        return Terms(receipts, _decayed(receipts, days))

    def last(self, row: int) -> Terms:
        """The last receipt with the item."""
        return Terms(self.own(row, None).of[-1:], np.ones(1))

    def own_baskets(self, row: int, days: float | None) -> Terms:
        """Receipts with the item: their cosine with this basket, times exp(-age / ``days``)."""
        receipts, fading = self.own(row, days)
        basket, likeness = np.array(self._query.basket, np.int32), []
        for receipt in receipts:
            assert isinstance(receipt, Receipt)
            common = np.isin(receipt.items, basket).sum()
            likeness.append(common / np.sqrt(max(len(receipt.items), 1) * max(len(basket), 1)))
        return Terms(receipts, np.array(likeness) * fading)

    def partners(self, row: int, what: str) -> Terms:
        """Items of the basket: how much they are bought together with the item."""
        found = [_between(self._arrays.neighbours, item, row, what) for item in self._query.basket]
        return Terms(self._query.basket, np.array(found, np.float64))

    def same_category(self, row: int) -> Terms:
        """Items of the basket in the item's finest category: 1 each."""
        category = self._finest[row]
        return Terms(
            self._query.basket,
            np.array([category > 0 and self._finest[item] == category for item in self._query.basket], float),
        )

    def own_category(self, row: int, days: float | None) -> Terms:
        """Receipts: their purchases in the item's finest category, times exp(-age / ``days``)."""
        category = self._finest[row]
        counts = [np.count_nonzero(self._finest[r.items] == category) for r in self.receipts if category > 0]
        return Terms(self.receipts, np.array(counts) * _decayed(self.receipts, days)[: len(counts)])

    def category_partners(self, row: int, what: str) -> Terms:
        """Items of the basket: how much their categories are bought together with the item's."""
        category, pairs = int(self._finest[row]), self._arrays.category_pairs
        found = [
            _between(pairs, int(self._finest[item]), category, what) if category else 0.0
            for item in self._query.basket
        ]
        return Terms(self._query.basket, np.array(found, np.float64))

    def basket_vectors(self, row: int) -> Terms:
        """Items of the basket: the inner products of their vectors with the item's."""
        tower, basket = self._arrays.retrieval, self._query.basket
        products = tower.basket[basket] @ tower.items[row]
        return Terms(basket, products.astype(np.float64) / np.sqrt(max(len(basket), 1)))

    def _largest(self, terms: Terms) -> Contributor | None:
        if not len(terms.amounts) or terms.amounts.max() <= 0:
            return None
        place = len(terms.amounts) - 1 - int(np.argmax(terms.amounts[::-1]))  # of equals the latest receipt
        share = float(terms.amounts[place] / terms.amounts[terms.amounts > 0].sum())
        of = terms.of[place]
        if isinstance(of, Receipt):
            return Contributor("receipt", self._when(of), share, of.days_ago)
        return Contributor("basket_item", self._item_id(of), share)

    def _when(self, receipt: Receipt) -> str:
        """The receipt's time; its number if the receipts had no times."""
        if float(self._arrays.clock.day) != SECONDS_A_DAY:
            return f"{receipt.number} of {len(self.receipts)}"
        return datetime.fromtimestamp(receipt.time, UTC).strftime("%Y-%m-%d %H:%M:%S")

    def _nearest(self, row: int) -> Contributor | None:
        """The item of the basket that is nearest in the tower's space, or the customer who is nearer."""
        tower, user = self._arrays.retrieval, np.array([self._query.user_row], np.int32)
        own = float(user_vectors(tower.users, user)[0] @ tower.items[row])
        amounts = self.basket_vectors(row).amounts
        if self._query.user_row and own > amounts.max(initial=0.0):
            return Contributor("customer", "", own / float(own + amounts[amounts > 0].sum()))
        return self.largest("retrieval_basket", row)

    def _best_seller(self, row: int) -> Contributor | None:
        places = np.flatnonzero(self._arrays.popularity.order == row)
        return Contributor("best_seller", str(places[0] + 1)) if len(places) else None

    def _wanted(self, row: int) -> Contributor | None:
        """The category that was asked for and has the item."""
        found = [int(n) for n in self._arrays.categories.of_item[row] if int(n) in self._query.wanted]
        names = self._arrays.category_names
        return Contributor("category", text_of(names.blob, names.offsets, found[-1])) if found else None


def text_of(blob: NDArray[np.uint8], offsets: NDArray[np.int64], row: int) -> str:
    """One of the texts of ``Ids``."""
    return blob[offsets[row] : offsets[row + 1]].tobytes().decode()


def _decayed(receipts: Sequence[Receipt] | Sequence[int], days: float | None) -> Float:
    ages = np.array([receipt.days_ago for receipt in receipts if isinstance(receipt, Receipt)])
    return np.exp(-ages / days) if days else np.ones(len(ages))


def _between(pairs: Neighbours | Partners, one: int, other: int, what: str) -> float:
    """The cosine, probability or weight of a pair; 0 if it is not among the strongest of ``one``."""
    part = slice(int(pairs.offsets[one]), int(pairs.offsets[one + 1]))
    (found,) = np.nonzero(pairs.items[part] == other)
    return float(getattr(pairs, what)[part][found[0]]) if len(found) else 0.0


# A feature without an entry is no sum over the basket or the receipts, or nobody has added it here yet.
TERMS: Final[Mapping[str, Callable[[Evidence, int], Terms]]] = {
    "user_count": lambda evidence, row: evidence.own(row, None),
    "user_share": lambda evidence, row: evidence.own(row, None),
    "recency_15": lambda evidence, row: evidence.own(row, 15),
    "recency_60": lambda evidence, row: evidence.own(row, 60),
    "last_purchase": Evidence.last,
    "due": Evidence.last,
    "overlap": lambda evidence, row: evidence.own_baskets(row, 60),
    "overlap_best": lambda evidence, row: evidence.own_baskets(row, None),
    "cosine_sum": lambda evidence, row: evidence.partners(row, "cosine"),
    "cosine_max": lambda evidence, row: evidence.partners(row, "cosine"),
    "probability_sum": lambda evidence, row: evidence.partners(row, "probability"),
    "probability_max": lambda evidence, row: evidence.partners(row, "probability"),
    "weight_sum": lambda evidence, row: evidence.partners(row, "weight"),
    "weight_max": lambda evidence, row: evidence.partners(row, "weight"),
    "category_in_basket": Evidence.same_category,
    "category_share": lambda evidence, row: evidence.own_category(row, None),
    "category_recency": lambda evidence, row: evidence.own_category(row, 15),
    "category_cosine": lambda evidence, row: evidence.category_partners(row, "cosine"),
    "category_lift": lambda evidence, row: evidence.category_partners(row, "probability"),
    "retrieval_basket": Evidence.basket_vectors,
}
