"""Plants drifts in baskets, to measure which of them are found."""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ensemble.candidate_sampler.groups import Groups
from export_scripts.drift.counting import Baskets

Plant = Callable[[Baskets, Groups, np.random.Generator], Baskets]


def new_assortment(share: float) -> Plant:
    """Items with this share of the sales are replaced by new ones."""

    def plant(baskets: Baskets, groups: Groups, rng: np.random.Generator) -> Baskets:
        sales = np.bincount(baskets.items)
        order = rng.permutation(np.flatnonzero(sales))
        order = order[order > 0]
        gone = order[np.cumsum(sales[order]) <= share * sales.sum()]
        return _with_items(baskets, np.where(np.isin(baskets.items, gone), 0, baskets.items))

    return plant


def lost_category(rank: int) -> Plant:
    """Nobody buys the category of this rank by sales; baskets without another item vanish."""

    def plant(baskets: Baskets, groups: Groups, rng: np.random.Generator) -> Baskets:
        return _keep_items(baskets, groups.category_of[baskets.items] != rank)

    return plant


def doubled_baskets(baskets: Baskets, groups: Groups, rng: np.random.Generator) -> Baskets:
    """Each basket is joined with the next one, as if shoppers came half as often."""
    n = len(baskets) // 2
    return Baskets(
        baskets.offsets[: 2 * n + 1 : 2],
        baskets.items[: baskets.offsets[2 * n]],
        baskets.users[: 2 * n : 2],
        baskets.named[: 2 * n : 2],
        baskets.times[: 2 * n : 2],
        baskets.day,
    )


def other_ids(share: float) -> Plant:
    """This share of the baskets, drawn at random, holds ids that no release knows, as those of a new till."""

    def plant(baskets: Baskets, groups: Groups, rng: np.random.Generator) -> Baskets:
        of_basket = rng.random(len(baskets)) < share
        of_item = np.repeat(of_basket, np.diff(baskets.offsets))
        return _with_items(baskets, np.where(of_item, 0, baskets.items))

    return plant


def new_customers(share: float) -> Plant:
    """This share of the baskets is bought by customers that the release does not know."""

    def plant(baskets: Baskets, groups: Groups, rng: np.random.Generator) -> Baskets:
        users = np.where(rng.random(len(baskets)) < share, 0, baskets.users).astype(np.int32)
        named = np.ones(len(baskets), bool)
        return Baskets(baskets.offsets, baskets.items, users, named, baskets.times, baskets.day)

    return plant


def nothing(baskets: Baskets, groups: Groups, rng: np.random.Generator) -> Baskets:
    """A healthy shop."""
    return baskets


PLANTS: Final[Mapping[str, Plant]] = {
    "nothing": nothing,
    "new assortment, 2 % of the sales": new_assortment(0.02),
    "new assortment, 5 % of the sales": new_assortment(0.05),
    "new assortment, 10 % of the sales": new_assortment(0.1),
    "lost category, the 1st by sales": lost_category(0),
    "lost category, the 5th by sales": lost_category(4),
    "lost category, the 20th by sales": lost_category(19),
    "doubled baskets": doubled_baskets,
    "a till that sends other ids, 1 % of the baskets": other_ids(0.01),
    "a till that sends other ids, 5 % of the baskets": other_ids(0.05),
    "a till that sends other ids, 20 % of the baskets": other_ids(0.2),
    "new customers, 10 % of the baskets": new_customers(0.1),
}


def _with_items(baskets: Baskets, items: NDArray[np.integer]) -> Baskets:
    rows = items.astype(np.int32)
    return Baskets(baskets.offsets, rows, baskets.users, baskets.named, baskets.times, baskets.day)


def _keep_items(baskets: Baskets, kept: NDArray[np.bool_]) -> Baskets:
    before = np.concatenate([[0], np.cumsum(kept)])
    offsets = before[baskets.offsets]
    full = np.diff(offsets) > 0
    return Baskets(
        np.concatenate([[0], offsets[1:][full]]),
        baskets.items[kept],
        baskets.users[full],
        baskets.named[full],
        baskets.times[full],
        baskets.day,
    )
