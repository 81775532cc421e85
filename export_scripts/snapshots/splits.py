"""Splits by time, and the queries of the test-month protocol (docs/quality.md).

A query hides one item of a basket and asks with the rest. Nothing is split at random: no count and no model
may see the future.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ensemble.candidate_sampler.query import MAX_BASKET, Query
from export_scripts.receipts.shop import Shop
from export_scripts.settings import SplitSettings

MIDNIGHTS_FROM_DAYS = 14  # with less data, whole days would leave periods empty
ITEMS_PER_QUESTION = 2  # hide_items hides at most half of a basket
MOST_NEW = 0.25  # share of a longer period's purchases that are items which began to sell in it


@dataclass(frozen=True)
class Split:
    """Numbers of the first baskets of the periods: counts | training queries | validation | test | end."""

    training: int
    validation: int
    test: int
    end: int

    def training_days(self, shop: Shop) -> float:
        """Days from the first basket of the training period to that of the validation period."""
        if self.training == self.validation:
            return 0.0
        end = min(self.validation, shop.n_baskets - 1)
        return float(shop.times[end] - shop.times[self.training]) / shop.day

    def parts_of_training(self, shop: Shop, most: int, days: float) -> list[int]:
        """Cut the training period into equally long parts; return their starts and the end.

        There are up to ``most`` parts in ``days``, and as many for each further such time.
        """
        if self.training == self.validation:
            return [self.training, self.validation]
        times = shop.times[self.training], shop.times[self.validation - 1] + 1
        parts = most * max(1, round((times[1] - times[0]) / (days * shop.day)))
        inner = np.linspace(*times, parts + 1)[1:-1]
        starts = (_first_basket(shop, time) for time in inner)
        return sorted({self.training, *starts, self.validation})


@dataclass(frozen=True)
class HiddenItems:
    """Queries of the test-month protocol: basket numbers and hidden item rows, both (n,)."""

    baskets: NDArray[np.int64]
    items: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.items)

    def sample(self, most: int, rng: np.random.Generator) -> "HiddenItems":
        """Draw at most ``most`` of the queries without replacement; they stay in time order."""
        if len(self) <= most:
            return self
        places = np.sort(rng.choice(len(self), most, replace=False))
        return HiddenItems(self.baskets[places], self.items[places])

    def part(self, places: range) -> "HiddenItems":
        """The queries at consecutive ``places``."""
        return HiddenItems(self.baskets[places.start : places.stop], self.items[places.start : places.stop])

    def batches(self, size: int) -> Iterator["HiddenItems"]:
        """Yield the queries in order, ``size`` at a time."""
        for start in range(0, len(self), size):
            yield self.part(range(start, start + size))


def split_by_time(shop: Shop, settings: SplitSettings) -> Split:
    """Cut off the last ``test_days``, then ``validation_days``, then ``training_days``, by whole days.

    Test and validation get at most an eighth of the time span each. Training gets at most a quarter for
    ``training_days``. It begins earlier if it would hold fewer than ``training_questions``, and gets up to
    ``longest_training_days``. Half of the span always remains for the counts. A shop whose items change keeps
    the shorter period: counts and vectors that end earlier would know too few of them.
    """
    first, day = int(shop.times[0]), shop.day
    end: float = int(shop.times[-1]) + 1
    if end - first > MIDNIGHTS_FROM_DAYS * day:
        end = round(end / day) * day  # the midnight nearest to the last receipt
    span = end - first
    test = end - min(settings.test_days * day, span / 8)
    validation = test - min(settings.validation_days * day, span / 8)
    shortest = min(settings.training_days * day, span / 4)
    days = min(_days_to_hold(shop, validation, settings), settings.longest_training_days)
    training = min(validation - shortest, max(validation - days * day, end - span / 2))
    if training < validation - shortest and _share_of_new(shop, training, validation) > MOST_NEW:
        training = validation - shortest
    training_start, validation_start, test_start = (
        _first_basket(shop, time) for time in (training, validation, test)
    )
    return Split(training_start, validation_start, test_start, shop.n_baskets)


def _days_to_hold(shop: Shop, end: float, settings: SplitSettings) -> int:
    """Return the whole days before ``end`` that hold the training questions; all if there are too few."""
    wanted = shop.offsets[_first_basket(shop, end)] - ITEMS_PER_QUESTION * settings.training_questions
    first = int(np.searchsorted(shop.offsets[:-1], max(wanted, 0), side="right")) - 1
    return int(np.ceil((end - shop.times[first]) / shop.day))


def _share_of_new(shop: Shop, start: float, end: float) -> float:
    """Return the share of the purchases from ``start`` to ``end`` whose items were never bought before."""
    begin, stop = (int(shop.offsets[_first_basket(shop, time)]) for time in (start, end))
    bought = shop.items[begin:stop]
    return float((~np.isin(bought, shop.items[:begin])).mean()) if len(bought) else 0.0


def _first_basket(shop: Shop, time: float) -> int:
    return shop.first_basket_at(int(np.ceil(time)))


def cut_off(shop: Shop, start: int) -> Shop:
    """Return the shop without the baskets from number ``start`` on; rows of items and users stay."""
    return replace(
        shop,
        offsets=shop.offsets[: start + 1],
        items=shop.items[: shop.offsets[start]],
        users=shop.users[:start],
        times=shop.times[:start],
        stores=shop.stores and shop.stores.only(slice(start)),
    )


def hide_items(
    shop: Shop, start: int, end: int, hideable: NDArray[np.bool_], most: int, rng: np.random.Generator
) -> HiddenItems:
    """Hide 1 to ``most`` items, one query each, of every basket from start to end - 1.

    ``hideable`` (items,) marks the items that may be hidden. A basket with fewer than two of them gives no
    query. Any other basket gives as many queries as it can, at most ``most``, about items drawn by ``rng``.
    """
    numbers = np.repeat(np.arange(start, end), np.diff(shop.offsets[start : end + 1]))
    items = shop.items[shop.offsets[start] : shop.offsets[end]]
    numbers, items = numbers[hideable[items]], items[hideable[items]]
    order = np.lexsort((rng.random(len(items)), numbers))
    numbers, items = numbers[order], items[order]
    sizes = np.bincount(numbers - start, minlength=end - start)
    rank = np.arange(len(numbers)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    # One query per two items, rounded up: most of a small basket must stay visible.
    allowed = np.minimum(most, (sizes + 1) // 2)
    keep = (sizes[numbers - start] >= 2) & (rank < allowed[numbers - start])
    return HiddenItems(numbers[keep], items[keep])


def as_queries(
    shop: Shop, hidden: HiddenItems, known_user: bool = True, in_store: bool = True
) -> list[Query]:
    """Return the sampler's queries: the basket without the hidden item, its time, with or without the user.

    The basket's store asks, if it is known and ``in_store``. A basket keeps its first MAX_BASKET items, as
    many as a request may name.
    """
    stores = shop.stores.rows if shop.stores and in_store else np.zeros_like(shop.users)
    return [
        Query(
            user_row=int(shop.users[b]) if known_user else 0,
            basket=[i for i in shop.basket(b).tolist() if i != item][:MAX_BASKET],
            now=int(shop.times[b]),
            store_row=int(stores[b]),
        )
        for b, item in zip(hidden.baskets.tolist(), hidden.items.tolist(), strict=True)
    ]
