"""Splits by time, and the queries of Protocol W: hide an item of a basket, ask for it with the rest.

Nothing is split at random: the future must not be seen.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble.candidate_sampler.query import MAX_BASKET, Query
from export_scripts.receipts.shop import Shop
from export_scripts.settings import SplitSettings

MIDNIGHTS_FROM_DAYS = 14  # in a shorter past whole days would leave periods empty


@dataclass(frozen=True)
class Split:
    """Basket numbers where the periods begin: counts | training queries | validation | test | end."""

    training: int
    validation: int
    test: int
    end: int

    def parts_of_training(self, shop: Shop, most: int) -> list[int]:
        """Where its at most ``most`` parts of equal length begin, and where the last one ends."""
        if self.training == self.validation:
            return [self.training, self.validation]
        times = shop.times[self.training], shop.times[self.validation - 1] + 1
        inner = np.linspace(*times, most + 1)[1:-1]
        starts = (shop.first_basket_at(int(np.ceil(t))) for t in inner)
        return sorted({self.training, *starts, self.validation})


@dataclass(frozen=True)
class HiddenItems:
    """Protocol W queries: basket number and hidden item row, both (n,); asked with the rest of the basket."""

    baskets: NDArray[np.int64]
    items: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.items)

    def sample(self, most: int, rng: np.random.Generator) -> "HiddenItems":
        """At most ``most`` of the queries, drawn without replacement, in time order."""
        if len(self) <= most:
            return self
        places = np.sort(rng.choice(len(self), most, replace=False))
        return HiddenItems(self.baskets[places], self.items[places])

    def batches(self, size: int) -> Iterator["HiddenItems"]:
        """The queries in order, ``size`` at a time."""
        for start in range(0, len(self), size):
            yield HiddenItems(self.baskets[start : start + size], self.items[start : start + size])


def split_by_time(shop: Shop, settings: SplitSettings) -> Split:
    """Cut off the last ``test_days``, then ``validation_days``, then ``training_days``, by whole days.

    A short past gives each period at most an eighth (the training period a quarter) of its span, so that
    the counts always keep half.
    """
    first, day = int(shop.times[0]), shop.day
    end = int(shop.times[-1]) + 1
    if end - first > MIDNIGHTS_FROM_DAYS * day:
        end = round(end / day) * day  # the midnight nearest to the last receipt
    span = end - first
    test = end - min(settings.test_days * day, span / 8)
    validation = test - min(settings.validation_days * day, span / 8)
    training = validation - min(settings.training_days * day, span / 4)
    return Split(
        *(shop.first_basket_at(int(np.ceil(t))) for t in (training, validation, test)), end=shop.n_baskets
    )


def hide_items(
    shop: Shop, start: int, end: int, known: NDArray[np.bool_], most: int, rng: np.random.Generator
) -> HiddenItems:
    """Hide 1 … ``most`` known items, one query each, of every basket start … end - 1 with at least two known.

    ``known`` (items,) marks the items that may be hidden. A basket gives as many queries as it can up to
    ``most``; which of its items is drawn by ``rng``.
    """
    numbers = np.repeat(np.arange(start, end), np.diff(shop.offsets[start : end + 1]))
    items = shop.items[shop.offsets[start] : shop.offsets[end]]
    numbers, items = numbers[known[items]], items[known[items]]
    order = np.lexsort((rng.random(len(items)), numbers))
    numbers, items = numbers[order], items[order]
    sizes = np.bincount(numbers - start, minlength=end - start)
    rank = np.arange(len(numbers)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    # A small basket is not asked for most of itself: one query per two items, rounded up.
    allowed = np.minimum(most, (sizes + 1) // 2)
    keep = (sizes[numbers - start] >= 2) & (rank < allowed[numbers - start])
    return HiddenItems(numbers[keep], items[keep])


def as_queries(shop: Shop, hidden: HiddenItems, known_user: bool = True) -> list[Query]:
    """The sampler's queries: basket without the hidden item, at its time, with or without the user.

    Of a basket larger than a request may name, the first items.
    """
    return [
        Query(
            user_row=int(shop.users[b]) if known_user else 0,
            basket=[i for i in shop.basket(b).tolist() if i != item][:MAX_BASKET],
            now=int(shop.times[b]),
        )
        for b, item in zip(hidden.baskets.tolist(), hidden.items.tolist(), strict=True)
    ]
