"""The questions of each day: the same ones for all releases, and drawn again whenever they are needed."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export_scripts.quality.against.asked_by_id import IdQuestions
from export_scripts.receipts.shop import DAY_S, Shop
from export_scripts.settings import Settings
from export_scripts.snapshots import counts
from export_scripts.snapshots.splits import HiddenItems, hide_items


@dataclass(frozen=True)
class DayQuestions:
    """The questions of one day, (n,) each."""

    hidden: HiddenItems
    owners: NDArray[np.int64]  # users; a number of its own for a basket without one
    repeat: NDArray[np.bool_]  # did the user buy the hidden item before this basket?

    def by_id(self, shop: Shop) -> IdQuestions:
        """The questions as a caller asks them."""
        return IdQuestions.of(shop, self.hidden)


class Asked:
    """Draws the questions of the days of a shop. Any item that sold often enough before the day is hidden."""

    def __init__(self, shop: Shop, settings: Settings):
        self._shop, self._settings = shop, settings
        users = np.repeat(shop.users, np.diff(shop.offsets)).astype(np.int64)
        pairs = users * shop.n_items + shop.items
        bought, first = np.unique(pairs, return_index=True)  # lines are in order of time
        baskets = np.repeat(np.arange(shop.n_baskets), np.diff(shop.offsets))
        self._bought, self._first_basket = bought, baskets[first]

    def on(self, midnight: int) -> DayQuestions:
        """The questions of the day that begins at ``midnight``."""
        shop, settings = self._shop, self._settings
        start, end = shop.first_basket_at(midnight), shop.first_basket_at(midnight + DAY_S)
        hideable = counts.support(shop, start) >= settings.sampler.min_support
        rng = np.random.default_rng([settings.train.seed, midnight // DAY_S])
        hidden = hide_items(shop, start, end, hideable, settings.splits.hidden_per_basket, rng)
        users = shop.users[hidden.baskets].astype(np.int64)
        places = np.searchsorted(self._bought, users * shop.n_items + hidden.items)
        repeat = (users > 0) & (self._first_basket[places] < hidden.baskets)
        return DayQuestions(hidden, np.where(users > 0, users, shop.n_users + hidden.baskets), repeat)


def unknown_shares(shop: Shop, midnight: int, made: int) -> tuple[float, int]:
    """The share of a day's sales by items without a sale before second ``made``, and the number of sales."""
    start, end = shop.first_basket_at(midnight), shop.first_basket_at(midnight + DAY_S)
    sold = counts.support(shop, shop.first_basket_at(made)) > 0
    lines = shop.items[shop.offsets[start] : shop.offsets[end]]
    return (float((~sold[lines]).mean()) if len(lines) else 0.0), len(lines)
