"""The compiled pass over a batch of queries: propose candidates, compute their features, keep the best C.

Every source writes into one table of touched items, so an item that several sources propose is one row with
several bits, and each feature is a by-product of the source that reads the data anyway. The tables are as
long as the catalog but only the touched part is ever cleared: cost grows with the query, not with the shop.
"""

import math
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from .arrays import SamplerArrays
from .features import FEATURES
from .sources import CATEGORY, POPULAR, SIMILAR, TOGETHER, USUAL

Int = NDArray[np.int32]
Float = NDArray[np.float32]


class Queries(NamedTuple):
    """A batch of queries in rows instead of ids; ragged lists are flat with offsets of (batch + 1,)."""

    user_rows: Int  # (batch,) 0: unknown
    now: NDArray[np.int64]  # (batch,) only receipts strictly before this moment are seen
    basket_offsets: NDArray[np.int64]
    baskets: Int  # known item rows, distinct within a basket
    exclude_offsets: NDArray[np.int64]
    excludes: Int
    wanted_offsets: NDArray[np.int64]  # an empty list asks for every category
    wanted: Int  # category numbers
    similar: Int  # (batch, n) the retrieval tower's nearest items, 0 where there are fewer
    vectors: Float  # (batch, d) the query in the retrieval tower's space


class Limits(NamedTuple):
    """How many candidates a source may propose for one query."""

    popular: int
    per_category: int  # for each finest category in the basket
    basket_categories: int  # categories of the basket that are looked into, at most
    fill: int  # with `categories` or many excludes: go on down the best sellers until so many are found


class Candidates(NamedTuple):
    """What the scorer is fed: (batch, C), (batch, C, F) and (batch, C); row 0 with source 0 pads."""

    rows: Int
    features: Float
    sources: Int


class Touched(NamedTuple):
    """Scratch of one sampler: `slot` and the stamps are as long as the catalog, the rest as the widest query."""

    slot: Int  # (items,) place in the tables below, -1: not touched by this query
    blocked: Int  # (items,) stamp of the query that must not recommend the item
    in_basket: Int  # (items,) stamp of the query whose basket holds the item
    allowed: Int  # (items,) stamp of the query that asks for the item's category
    category_basket: Float  # (categories,) basket items of the category
    category_bought: Float  # (categories,) purchases of the category by the user
    rows: Int  # (width,) item rows, in order of discovery
    sources: Int  # (width,)
    sums: Float  # (width, 12) what the sources add up
    features: Float  # (width, F)


N_FEATURES = len(FEATURES)
ZERO, ONE = np.float32(0.0), np.float32(1.0)  # keeps the arithmetic in single precision
# Columns of Touched.sums.
COUNT, R15, R60, LAST, FIRST, OVERLAP, OVERLAP_BEST, COS, COS_MAX, PROB, PROB_MAX, SPARE = range(12)


def new_scratch(items: int, categories: int, width: int) -> Touched:
    """Cleared scratch for a catalog of `items` rows, `categories` names and at most `width` touched items."""
    return Touched(
        slot=np.full(items, -1, np.int32),
        blocked=np.zeros(items, np.int32),
        in_basket=np.zeros(items, np.int32),
        allowed=np.zeros(items, np.int32),
        category_basket=np.zeros(max(categories, 1), np.float32),
        category_bought=np.zeros(max(categories, 1), np.float32),
        rows=np.zeros(width, np.int32),
        sources=np.zeros(width, np.int32),
        sums=np.zeros((width, 12), np.float32),
        features=np.zeros((width, N_FEATURES), np.float32),
    )


@numba.njit(cache=True, nogil=True)
def _touch(item, n, source, slot, blocked, rows, sources, sums, stamp, filtered, allowed):  # type: ignore[no-untyped-def]
    """Place of `item` in the tables, taking the next one if it is new: (place or -1 if not allowed, n)."""
    place = slot[item]
    if place >= 0:
        sources[place] |= source
        return place, n
    if blocked[item] == stamp or n >= rows.shape[0] or (filtered and allowed[item] != stamp):
        return -1, n
    slot[item] = n
    rows[n] = item
    sources[n] = source
    for k in range(sums.shape[1]):
        sums[n, k] = 0.0
    return n, n + 1


@numba.njit(cache=True, nogil=True)
def _walk_history(user, now, basket_size, n, t, histories, categories, clock, stamp, filtered):  # type: ignore[no-untyped-def]
    """Usual purchases and own past baskets like this one; returns (n, baskets seen, purchases seen)."""
    slot, blocked, allowed, rows, sources, table = t.slot, t.blocked, t.allowed, t.rows, t.sources, t.sums
    baskets = 0
    purchases = 0
    finest = categories.of_item.shape[1] - 1
    day = clock.day.item()
    for b in range(histories.user_offsets[user], histories.user_offsets[user + 1]):
        if histories.times[b] >= now:
            break  # oldest first: all that follow are later still
        start, end = histories.basket_offsets[b], histories.basket_offsets[b + 1]
        age = np.float32((now - histories.times[b]) / day)
        common = 0
        for k in range(start, end):
            common += t.in_basket[histories.items[k]] == stamp
        r15, r60 = math.exp(-age / 15.0), math.exp(-age / 60.0)
        likeness = common / math.sqrt((end - start) * max(basket_size, 1))
        baskets += 1
        for k in range(start, end):
            item = histories.items[k]
            purchases += 1
            if finest >= 0:
                t.category_bought[categories.of_item[item, finest]] += 1.0
            place, n = _touch(item, n, USUAL, slot, blocked, rows, sources, table, stamp, filtered, allowed)
            if place < 0:
                continue
            sums = table[place]
            if sums[COUNT] == 0.0:
                sums[FIRST] = age
            sums[COUNT] += 1.0
            sums[R15] += r15
            sums[R60] += r60
            sums[LAST] = age
            sums[OVERLAP] += likeness * r60
            sums[OVERLAP_BEST] = max(sums[OVERLAP_BEST], likeness)
    return n, baskets, purchases


@numba.njit(cache=True, nogil=True)
def _walk_neighbours(basket, n, t, neighbours, stamp, filtered):  # type: ignore[no-untyped-def]
    """Bought together: every partner of every basket item."""
    slot, blocked, allowed, rows, sources, table = t.slot, t.blocked, t.allowed, t.rows, t.sources, t.sums
    for item in basket:
        for k in range(neighbours.offsets[item], neighbours.offsets[item + 1]):
            place, n = _touch(neighbours.items[k], n, TOGETHER, slot, blocked, rows, sources, table, stamp, filtered, allowed)
            if place < 0:
                continue
            sums = table[place]
            cosine, probability = neighbours.cosine[k], neighbours.probability[k]
            sums[COS] += cosine
            sums[COS_MAX] = max(sums[COS_MAX], cosine)
            sums[PROB] += probability
            sums[PROB_MAX] = max(sums[PROB_MAX], probability)
    return n


@numba.njit(cache=True, nogil=True)
def _walk_list(items, wanted, source, n, t, stamp, filtered):  # type: ignore[no-untyped-def]
    """Take the first `wanted` allowed items of a list, e.g. of the best sellers."""
    slot, blocked, allowed, rows, sources, table = t.slot, t.blocked, t.allowed, t.rows, t.sources, t.sums
    taken = 0
    for item in items:
        if taken >= wanted:
            break
        place, n = _touch(item, n, source, slot, blocked, rows, sources, table, stamp, filtered, allowed)
        taken += place >= 0
    return n


@numba.njit(cache=True, nogil=True)
def _members(category, categories):  # type: ignore[no-untyped-def]
    return categories.members[categories.members_offsets[category] : categories.members_offsets[category + 1]]


@numba.njit(cache=True, nogil=True)
def _walk_categories(basket, n, t, categories, limits, stamp, filtered):  # type: ignore[no-untyped-def]
    """The best sellers of the finest categories in the basket."""
    finest = categories.of_item.shape[1] - 1
    if finest < 0:
        return n
    looked_into = 0
    for k in range(basket.shape[0]):
        category = categories.of_item[basket[k], finest]
        earlier = False
        for other in range(k):
            earlier = earlier or categories.of_item[basket[other], finest] == category
        if category == 0 or earlier or looked_into >= limits.basket_categories:
            continue
        looked_into += 1
        n = _walk_list(_members(category, categories), limits.per_category, CATEGORY, n, t, stamp, filtered)
    return n


@numba.njit(cache=True, nogil=True)
def _history_features(n, sums, baskets, out):  # type: ignore[no-untyped-def]
    for place in range(n):
        s, f = sums[place], out[place]
        count = s[COUNT]
        gap = (s[FIRST] - s[LAST]) / (count - ONE) if count > 1 else ZERO
        f[0] = math.log1p(count)
        f[1] = count / np.float32(max(baskets, 1))
        f[2] = s[R15]
        f[3] = s[R60]
        f[4] = math.exp(-s[LAST] / np.float32(30.0)) if count > 0 else ZERO
        f[5] = min(s[LAST] / gap, np.float32(4.0)) if gap > 0 else ZERO
        f[6] = s[OVERLAP]
        f[7] = s[OVERLAP_BEST]
        f[19] = ONE if baskets > 0 and count == 0 else ZERO


@numba.njit(cache=True, nogil=True)
def _basket_features(n, rows, sums, basket_size, popular, recent, out):  # type: ignore[no-untyped-def]
    root = np.float32(math.sqrt(max(basket_size, 1)))
    size = np.float32(math.log1p(basket_size))
    for place in range(n):
        s, f, item = sums[place], out[place], rows[place]
        f[8] = s[COS] / root
        f[9] = s[COS_MAX]
        f[10] = s[PROB] / root
        f[11] = s[PROB_MAX]
        f[12] = popular[item]
        f[13] = recent[item]
        f[18] = size


@numba.njit(cache=True, nogil=True)
def _category_features(n, rows, of_item, in_basket, bought, basket_size, purchases, out):  # type: ignore[no-untyped-def]
    finest = of_item.shape[1] - 1
    per_basket = ONE / np.float32(max(basket_size, 1))
    per_purchase = ONE / np.float32(max(purchases, 1))
    for place in range(n):
        category = of_item[rows[place], finest] if finest >= 0 else 0
        out[place, 14] = in_basket[category] * per_basket if category > 0 else ZERO
        out[place, 15] = bought[category] * per_purchase if category > 0 else ZERO


@numba.njit(cache=True, nogil=True, fastmath=True)  # a sum of products in any order: four times as fast
def _retrieval_features(n, rows, vector, items, baskets, out):  # type: ignore[no-untyped-def]
    history = np.float32(math.log1p(baskets))
    for place in range(n):
        item = items[rows[place]]
        fit = ZERO
        for k in range(vector.shape[0]):
            fit += vector[k] * item[k]
        out[place, 16] = fit
        out[place, 17] = history


@numba.njit(cache=True, nogil=True)
def _keep_best(n, t, prior, rows, features, sources):  # type: ignore[no-untyped-def]
    """Copy the candidates into the outputs; when they are too many, those with the highest prior score."""
    capacity = rows.shape[0]
    threshold = np.float32(-np.inf)
    scores = np.zeros(n, np.float32)
    if n > capacity:
        for place in range(n):
            total = np.float32(0.0)
            for k in range(prior.shape[0]):
                total += prior[k] * t.features[place, k]
            scores[place] = total
        threshold = np.partition(scores, n - capacity)[n - capacity]
    # Those above the threshold first, so that ties at it cannot push out a better one.
    kept = 0
    for place in range(n):
        if n <= capacity or scores[place] > threshold:
            rows[kept], sources[kept] = t.rows[place], t.sources[place]
            features[kept, :] = t.features[place, :]
            kept += 1
    if n > capacity:
        for place in range(n):
            if scores[place] == threshold and kept < capacity:
                rows[kept], sources[kept] = t.rows[place], t.sources[place]
                features[kept, :] = t.features[place, :]
                kept += 1


@numba.njit(cache=True, nogil=True)
def _clear(n, user, now, basket, t, histories, categories):  # type: ignore[no-untyped-def]
    for place in range(n):
        t.slot[t.rows[place]] = -1
    finest = categories.of_item.shape[1] - 1
    if finest < 0:
        return
    for item in basket:
        t.category_basket[categories.of_item[item, finest]] = 0.0
    for b in range(histories.user_offsets[user], histories.user_offsets[user + 1]):
        if histories.times[b] >= now:
            break
        for k in range(histories.basket_offsets[b], histories.basket_offsets[b + 1]):
            t.category_bought[categories.of_item[histories.items[k], finest]] = 0.0


@numba.njit(cache=True, nogil=True)
def sample_batch(q: Queries, a: SamplerArrays, limits: Limits, t: Touched, first_stamp: int, out: Candidates) -> None:
    """Fill `out` for every query of the batch; `first_stamp` must grow by the batch's size from call to call.

    `out` must be zeroed. Rows in `q` must lie inside the arrays: nothing is checked here.
    """
    finest = a.categories.of_item.shape[1] - 1
    for i in range(q.user_rows.shape[0]):
        stamp = first_stamp + i
        user, now = q.user_rows[i], q.now[i]
        basket = q.baskets[q.basket_offsets[i] : q.basket_offsets[i + 1]]
        wanted = q.wanted[q.wanted_offsets[i] : q.wanted_offsets[i + 1]]
        excludes = q.excludes[q.exclude_offsets[i] : q.exclude_offsets[i + 1]]
        filtered = wanted.shape[0] > 0
        t.blocked[0] = stamp
        for category in wanted:
            for item in _members(category, a.categories):
                t.allowed[item] = stamp
        for item in excludes:
            t.blocked[item] = stamp
        for item in basket:
            t.blocked[item] = stamp
            t.in_basket[item] = stamp
            if finest >= 0:
                t.category_basket[a.categories.of_item[item, finest]] += 1.0

        n = 0
        size = basket.shape[0]
        n, baskets, purchases = _walk_history(
            user, now, size, n, t, a.histories, a.categories, a.clock, stamp, filtered
        )
        n = _walk_list(q.similar[i], q.similar.shape[1], SIMILAR, n, t, stamp, filtered)
        n = _walk_list(a.popularity.order, limits.popular, POPULAR, n, t, stamp, filtered)
        n = _walk_categories(basket, n, t, a.categories, limits, stamp, filtered)
        for category in wanted:
            n = _walk_list(_members(category, a.categories), limits.fill, CATEGORY, n, t, stamp, filtered)
        n = _walk_neighbours(basket, n, t, a.neighbours, stamp, filtered)

        _history_features(n, t.sums, baskets, t.features)
        _basket_features(n, t.rows, t.sums, size, a.popularity.score, a.popularity.recent, t.features)
        _category_features(
            n, t.rows, a.categories.of_item, t.category_basket, t.category_bought, size, purchases, t.features
        )
        _retrieval_features(n, t.rows, q.vectors[i], a.retrieval.items, baskets, t.features)
        _keep_best(n, t, a.prior.weights, out.rows[i], out.features[i], out.sources[i])
        _clear(n, user, now, basket, t, a.histories, a.categories)
