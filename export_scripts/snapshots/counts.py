"""Counts for the sampler: co-occurrence, popularity, histories, category lists, cold items.

Each function takes the shop and ``end``: only baskets with a smaller number are counted.
"""

import numba
import numpy as np
from numpy.typing import NDArray

from ensemble.candidate_sampler.arrays import Categories, Cold, Histories, Neighbours, Partners, Popularity
from ensemble.candidate_sampler.ids import Ids
from export_scripts.receipts.shop import Shop
from export_scripts.snapshots.pairs import Lines, PairCounts, count_pairs
from export_scripts.snapshots.partitions import (
    Baskets,
    Countable,
    Receipts,
    Users,
    count_part,
    make_histories,
)
from export_scripts.snapshots.partners import strongest
from export_scripts.snapshots.regressions import fit_weights

RECENT_DAYS = 28


def lines_of(shop: Shop, largest: int) -> Lines:
    """The lines of all baskets, read-only as in a worker: numba compiles anew for another kind."""
    offsets, items = shop.offsets.view(), shop.items.view()
    offsets.flags.writeable = items.flags.writeable = False
    return Lines(offsets, items, shop.n_items, largest)


def support(shop: Shop, end: int, start: int = 0) -> NDArray[np.int64]:
    """Return (items,) the number of baskets from start to end - 1 that hold the item."""
    counts = np.bincount(shop.items[shop.offsets[start] : shop.offsets[end]], minlength=shop.n_items)
    counts[0] = 0
    return counts


def popularity(shop: Shop, end: int, min_support: int) -> Popularity:
    """Return best sellers and log shares. ``order`` holds the items with at least ``min_support`` baskets."""
    recent_from = min(shop.first_basket_at(int(shop.times[end - 1] - RECENT_DAYS * shop.day)), end - 1)
    counts, recent = support(shop, end), support(shop, end, recent_from)
    recommendable = np.flatnonzero(counts >= min_support)
    order = recommendable[np.argsort(-counts[recommendable], kind="stable")]
    return Popularity(order.astype(np.int32), _log_share(counts, end), _log_share(recent, end - recent_from))


def _log_share(counts: NDArray[np.int64], baskets: int) -> NDArray[np.float32]:
    """Return log(1 + purchases per 10,000 baskets): 0 for never, comparable between shops and periods."""
    share: NDArray[np.float32] = np.log1p(counts * (10_000 / max(baskets, 1))).astype(np.float32)
    return share


def cooccurrence(
    shop: Shop, end: int, min_support: int, partners: int, shrinkage: float, largest_basket: int
) -> Partners:
    """Return the strongest ``partners`` of every item, see ``strongest``; all baskets are counted here."""
    pairs = count_pairs(lines_of(shop, largest_basket).before(end))
    return weighted(pairs, strongest(pairs, support(shop, end), min_support, partners, shrinkage))


def weighted(pairs: PairCounts, near: Neighbours) -> Partners:
    """Return the partners ``near`` of every item with their weights, all of them from ``pairs``."""
    return Partners(*near, weight=fit_weights(pairs, near.offsets, near.items))


def category_pairs(
    shop: Shop,
    end: int,
    finest: NDArray[np.int32],
    n: int,
    partners: int,
    shrinkage: float,
    largest_basket: int,
) -> Neighbours:
    """Return the same for finest categories, which also covers items that sell too little for pairs.

    ``finest`` (items,) holds category numbers below ``n``. Category 0 means none and has no partners. A
    basket counts once per category.
    """
    pairs = count_part(Countable(lines_of(shop, largest_basket), finest, n), Baskets(0, end))
    return strongest(pairs, pairs.alone, 1, partners, shrinkage)


def histories(shop: Shop, end: int, most_baskets: int) -> Histories:
    """Return the last ``most_baskets`` baskets of every known user, oldest first."""
    receipts = Receipts(
        shop.offsets[: end + 1], shop.items, shop.users[:end], shop.times[:end], shop.n_users, most_baskets
    )
    return make_histories(receipts, Users(0, 1))


def categories(shop: Shop, end: int) -> tuple[Categories, Ids]:
    """Return the categories of all items with the items of each, best sellers first, and their names."""
    order = np.argsort(-support(shop, end)[1:], kind="stable").astype(np.int32) + 1
    columns = [shop.catalog[c] for c in shop.category_columns]
    names = sorted({name for column in columns for name in column.unique() if name})
    number = {name: i + 1 for i, name in enumerate(names)} | {"": 0}
    of_item = np.zeros((shop.n_items, len(columns)), np.int32)
    for k, column in enumerate(columns):
        of_item[:, k] = column.map(number).to_numpy(np.int32)
    member = np.repeat(order, len(columns))
    category = of_item[order].ravel()
    by_category = np.lexsort((np.repeat(np.arange(len(order)), len(columns)), category))
    member, category = member[by_category], category[by_category]
    repeated = np.zeros(len(member), bool)  # an item with the same name in two columns
    repeated[1:] = (member[1:] == member[:-1]) & (category[1:] == category[:-1])
    member, category = member[~repeated & (category > 0)], category[~repeated & (category > 0)]
    offsets = np.zeros(len(names) + 2, np.int64)
    np.cumsum(np.bincount(category, minlength=len(names) + 1), out=offsets[1:])
    return Categories(of_item, offsets, member), Ids.pack([b"", *(name.encode() for name in names)])


def cold(shop: Shop, end: int, min_support: int, of_item: NDArray[np.int32], most: int) -> Cold:
    """Return the items in fewer than ``min_support`` baskets, in groups of equal categories.

    ``of_item`` (items, columns) holds category numbers; items without a category are left out. A group keeps
    the ``most`` items that sold last, ties in the order of the catalog: one sale last week promises more than
    four last year.
    """
    sales = support(shop, end)
    rows = np.flatnonzero((sales < min_support) & (of_item > 0).any(1)).astype(np.int32)
    if not len(rows):
        return Cold(np.zeros((0, most), np.int32))
    group = np.unique(of_item[rows], axis=0, return_inverse=True)[1].ravel()
    latest = _latest_baskets(shop.offsets[: end + 1], shop.items, shop.n_items)
    order = np.lexsort((rows, -latest[rows], group))
    rows, group = rows[order], group[order]
    place = np.arange(len(rows)) - np.searchsorted(group, group)
    keep = place < most
    members = np.zeros((int(group[-1]) + 1, most), np.int32)
    members[group[keep], place[keep]] = rows[keep]
    return Cold(members)


@numba.njit(cache=True)
def _latest_baskets(offsets, items, n):  # type: ignore[no-untyped-def]  # numba infers the types
    """Return (items,) the number of the last basket with each item, -1 for none."""
    latest = np.full(n, -1)
    for b in range(len(offsets) - 1):
        for k in range(offsets[b], offsets[b + 1]):
            latest[items[k]] = b
    return latest
