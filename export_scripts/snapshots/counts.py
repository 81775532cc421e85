"""Counts for the sampler: co-occurrence, popularity, histories, category lists, cold items.

Each function takes the shop and ``end``: only baskets with a smaller number are counted.
"""

import numba
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from ensemble.candidate_sampler.arrays import Categories, Cold, Histories, Ids, Neighbours, Popularity
from export_scripts.durations import step
from export_scripts.receipts.shop import Shop

RECENT_DAYS = 28


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
) -> Neighbours:
    """Return the strongest ``partners`` of every item by shrunk cosine.

    Skips baskets of more than ``largest_basket`` items: the number of their pairs grows with the square.

    n_ij is the number of baskets with both items; cosine = n_ij / sqrt(n_i n_j) and P(j|i) = n_ij / n_i, both
    times n_ij / (n_ij + shrinkage). Without the factor, pairs seen once or twice would lead the list.
    """
    counts = support(shop, end)
    baskets, items = _lines(shop, end, largest_basket)
    supported = counts[items] >= min_support
    places = (baskets[supported], items[supported])
    holds = sp.csr_array((np.ones(supported.sum(), np.float32), places), shape=(end, shop.n_items))
    return _pairs(holds, counts, partners, shrinkage)


def _lines(shop: Shop, end: int, largest_basket: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return (lines,) basket numbers and (lines,) items of the baskets that are not too large."""
    sizes = np.diff(shop.offsets[: end + 1])
    small = np.repeat(sizes <= largest_basket, sizes)
    baskets = np.repeat(np.arange(end, dtype=np.int32), sizes)
    return baskets[small], shop.items[: shop.offsets[end]][small]


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

    ``finest`` (items,) holds category numbers below ``n``. Category 0 means none and has no partners.
    """
    baskets, items = _lines(shop, end, largest_basket)
    category = finest[items]
    baskets, category = baskets[category > 0], category[category > 0]
    holds = sp.csr_array((np.ones(len(baskets), np.float32), (baskets, category)), shape=(end, n))
    holds.data[:] = 1  # a basket counts once per category
    return _pairs(holds, np.asarray(holds.sum(0)).astype(np.int64), partners, shrinkage)


def _pairs(holds: sp.csr_array, counts: NDArray[np.int64], partners: int, shrinkage: float) -> Neighbours:
    """Return the strongest partners by ``holds`` (baskets, items), 1 where the basket holds the item."""
    pairs = (holds.T @ holds).tocsr()
    offsets, rows, both = _strongest(
        pairs.indptr.astype(np.int64), pairs.indices.astype(np.int32), pairs.data, counts.astype(np.float64),
        partners, shrinkage,
    )  # fmt: skip
    owner = np.repeat(np.arange(len(counts)), np.diff(offsets))
    shrink = both / (both + shrinkage)
    return Neighbours(
        offsets,
        rows,
        (shrink * both / np.sqrt(counts[owner] * counts[rows])).astype(np.float32),
        (shrink * both / counts[owner]).astype(np.float32),
    )


@numba.njit(cache=True)
def _strongest(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    both: NDArray[np.float32],
    counts: NDArray[np.float64],
    partners: int,
    shrinkage: float,
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]]:
    """Return the `partners` entries of largest shrunk cosine in each row of the pair matrix, as CSR arrays.

    Leaves out the diagonal. The last array holds n_ij.
    """
    n = len(indptr) - 1
    sizes = np.minimum(np.diff(indptr), partners + 1)
    offsets = np.zeros(n + 1, np.int64)
    rows = np.empty(sizes.sum(), np.int32)
    together = np.empty(sizes.sum(), np.float64)
    at = 0
    for i in range(n):
        start, end = indptr[i], indptr[i + 1]
        strength = np.zeros(end - start)
        for k in range(start, end):
            j = indices[k]
            if j != i:
                strength[k - start] = (
                    both[k] * both[k] / (both[k] + shrinkage) / np.sqrt(counts[i] * counts[j])
                )
        order = np.argsort(-strength, kind="mergesort")
        for k in order[:partners]:
            if strength[k] > 0:
                rows[at], together[at] = indices[start + k], both[start + k]
                at += 1
        offsets[i + 1] = at
    return offsets, rows[:at], together[:at]


@step("histories")
def histories(shop: Shop, end: int, most_baskets: int) -> Histories:
    """Return the last ``most_baskets`` baskets of every known user, oldest first."""
    users = shop.users[:end]
    order = np.argsort(users, kind="stable").astype(np.int64)  # by user, then by time
    counts = np.bincount(users, minlength=shop.n_users)
    counts[0], skipped = 0, counts[0]  # unknown users have no history
    order = order[skipped:]
    from_end = np.repeat(np.cumsum(counts), counts) - np.arange(len(order))
    order = order[from_end <= most_baskets]
    sizes = np.diff(shop.offsets)[order]
    basket_offsets = np.zeros(len(order) + 1, np.int64)
    np.cumsum(sizes, out=basket_offsets[1:])
    places = np.repeat(shop.offsets[order] - basket_offsets[:-1], sizes) + np.arange(basket_offsets[-1])
    user_offsets = np.zeros(shop.n_users + 1, np.int64)
    np.cumsum(np.minimum(counts, most_baskets), out=user_offsets[1:])
    return Histories(user_offsets, shop.times[order], basket_offsets, shop.items[places])


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
    latest = np.full(shop.n_items, -1)
    np.maximum.at(
        latest, shop.items[: shop.offsets[end]], np.repeat(np.arange(end), np.diff(shop.offsets[: end + 1]))
    )
    order = np.lexsort((rows, -latest[rows], group))
    rows, group = rows[order], group[order]
    place = np.arange(len(rows)) - np.searchsorted(group, group)
    keep = place < most
    members = np.zeros((int(group[-1]) + 1, most), np.int32)
    members[group[keep], place[keep]] = rows[keep]
    return Cold(members)
