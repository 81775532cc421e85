"""The compiled pass over a batch of queries: propose candidates, compute their features, keep the best C.

Every source writes into one table of touched items, so an item that several sources propose is one row with
several bits, and each feature is a by-product of the source that reads the data anyway. The tables are as
long as the catalog but only the touched part is ever cleared: cost grows with the query, not with the shop.

Numba believes a function's cache as long as its own file is the same, and goes on with old code after an
edit of another file that it calls. So what sample_batch calls stands here, all but largest.py, which scan.py
calls too: after an edit of that one, touch both.
"""

import math

import numba
import numpy as np

from .arrays import SamplerArrays
from .batch import EXCLUDED, FREE, IN_BASKET, Candidates, Derived, Limits, Queries, Touched
from .features import FEATURES
from .largest import largest
from .sources import SOURCES

ZERO, ONE = np.float32(0.0), np.float32(1.0)  # keeps the arithmetic in single precision
# Not as literals, for each of which numba would compile a copy of what it is passed to.
USUAL, TOGETHER, SIMILAR, POPULAR, CATEGORY = (np.int32(bit) for bit in SOURCES.values())

# Columns of Touched.features, in the order of FEATURES. Until _finish_history, USER_COUNT holds the number of
# purchases, LAST_PURCHASE and DUE the ages of the last and of the first one in days.
(
    USER_COUNT, USER_SHARE, RECENCY_15, RECENCY_60, LAST_PURCHASE, DUE, OVERLAP, OVERLAP_BEST,
    COSINE_SUM, COSINE_MAX, PROBABILITY_SUM, PROBABILITY_MAX, POPULARITY, POPULARITY_28,
    CATEGORY_IN_BASKET, CATEGORY_SHARE, CATEGORY_RECENCY, CATEGORY_COSINE, CATEGORY_LIFT, IN_CATEGORY,
    RETRIEVAL_USER, RETRIEVAL_BASKET, HISTORY_SIZE, BASKET_SIZE, VARIETY, NEW_TO_USER,
) = range(len(FEATURES))  # fmt: skip
# Sums and shares with long tails; their square roots are what a linear score and an MLP read well.
IS_ROOT = np.isin(np.arange(len(FEATURES)), [
    USER_SHARE, RECENCY_15, RECENCY_60, DUE, OVERLAP, OVERLAP_BEST, COSINE_SUM, COSINE_MAX, PROBABILITY_SUM,
    PROBABILITY_MAX, CATEGORY_IN_BASKET, CATEGORY_SHARE, CATEGORY_RECENCY, CATEGORY_COSINE,
    CATEGORY_LIFT, IN_CATEGORY,
])  # fmt: skip


@numba.njit(nogil=True)
def _propose(items, most, source, n, t, filtered):  # type: ignore[no-untyped-def]
    """Enter the first `most` items of a list that may be recommended into the tables; returns the new n.

    For whole lists only: a call costs as much as fifty items.
    """
    slot, allowed, rows, sources, features = t.slot, t.allowed, t.rows, t.sources, t.features
    taken = 0
    for item in items:
        if taken >= most:
            break
        if slot[item] == FREE and n < rows.shape[0] and (allowed[item] or not filtered):
            slot[item] = n
            rows[n] = item
            sources[n] = 0
            for k in range(features.shape[1]):
                features[n, k] = ZERO
            n += 1
        if slot[item] >= 0:
            sources[slot[item]] |= source
            taken += 1
    return n


@numba.njit(nogil=True)
def _walk_history(user, now, basket_size, t, histories, finest, day, filtered):  # type: ignore[no-untyped-def]
    """Usual purchases and own past baskets like this one; returns (n, baskets seen, purchases seen)."""
    slot, f, bought, lately = t.slot, t.features, t.category_bought, t.category_recent
    times, offsets = histories.times, histories.basket_offsets
    n = baskets = purchases = np.int64(0)
    for b in range(histories.user_offsets[user], histories.user_offsets[user + 1]):
        if times[b] >= now:
            break  # oldest first: all that follow are later still
        items = histories.items[offsets[b] : offsets[b + 1]]
        baskets += 1
        purchases += items.shape[0]
        n = _propose(items, items.shape[0], USUAL, n, t, filtered)
        common = 0
        for item in items:
            common += slot[item] == IN_BASKET
        likeness = np.float32(common / math.sqrt(max(items.shape[0], 1) * max(basket_size, 1)))
        age = np.float32((now - times[b]) / day)
        r15, r60 = np.float32(math.exp(-age / 15.0)), np.float32(math.exp(-age / 60.0))
        for item in items:
            bought[finest[item]] += ONE
            lately[finest[item]] += r15
            place = slot[item]
            if place < 0:
                continue
            if f[place, USER_COUNT] == ZERO:
                f[place, DUE] = age
            f[place, USER_COUNT] += ONE
            f[place, RECENCY_15] += r15
            f[place, RECENCY_60] += r60
            f[place, LAST_PURCHASE] = age
            f[place, OVERLAP] += likeness * r60
            f[place, OVERLAP_BEST] = max(f[place, OVERLAP_BEST], likeness)
    return n, baskets, purchases


@numba.njit(nogil=True)
def _walk_neighbours(basket, n, t, neighbours, filtered):  # type: ignore[no-untyped-def]
    """Bought together: every partner of every basket item."""
    slot, f = t.slot, t.features
    for item in basket:
        start, end = neighbours.offsets[item], neighbours.offsets[item + 1]
        n = _propose(neighbours.items[start:end], end - start, TOGETHER, n, t, filtered)
        for k in range(start, end):
            place = slot[neighbours.items[k]]
            if place < 0:
                continue
            cosine, probability = neighbours.cosine[k], neighbours.probability[k]
            f[place, COSINE_SUM] += cosine
            f[place, COSINE_MAX] = max(f[place, COSINE_MAX], cosine)
            f[place, PROBABILITY_SUM] += probability
            f[place, PROBABILITY_MAX] = max(f[place, PROBABILITY_MAX], probability)
    return n


@numba.njit(nogil=True)
def _walk_categories(basket, finest, n, t, categories, limits, filtered):  # type: ignore[no-untyped-def]
    """The best sellers of the finest categories in the basket."""
    looked_into = 0
    for k in range(basket.shape[0]):
        category = finest[basket[k]]
        earlier = False
        for other in range(k):
            earlier = earlier or finest[basket[other]] == category
        if category == 0 or earlier or looked_into >= limits.basket_categories:
            continue
        looked_into += 1
        n = _propose(_members(category, categories), limits.per_category, CATEGORY, n, t, filtered)
    return n


@numba.njit(nogil=True)
def _walk_category_pairs(basket, finest, t, pairs):  # type: ignore[no-untyped-def]
    """What the categories of the basket go with."""
    for item in basket:
        category = finest[item]
        for k in range(pairs.offsets[category], pairs.offsets[category + 1]):
            t.category_cosine[pairs.items[k]] += pairs.cosine[k]
            t.category_lift[pairs.items[k]] += pairs.probability[k]


@numba.njit(nogil=True)
def _members(category, categories):  # type: ignore[no-untyped-def]
    return categories.members[categories.members_offsets[category] : categories.members_offsets[category + 1]]


@numba.njit(nogil=True)
def _finish_history(n, f, baskets, purchases):  # type: ignore[no-untyped-def]
    history = np.float32(math.log1p(baskets))
    distinct = 0
    for place in range(n):
        distinct += f[place, USER_COUNT] > ZERO
    variety = np.float32(distinct / max(purchases, 1))
    for place in range(n):
        count, last, first = f[place, USER_COUNT], f[place, LAST_PURCHASE], f[place, DUE]
        f[place, HISTORY_SIZE] = history
        f[place, VARIETY] = variety
        f[place, NEW_TO_USER] = ONE if baskets > 0 and count == ZERO else ZERO
        if count == ZERO:
            continue
        gap = (first - last) / max(count - ONE, ONE)
        f[place, USER_COUNT] = math.log1p(count)
        f[place, USER_SHARE] = count / np.float32(baskets)
        f[place, LAST_PURCHASE] = math.exp(-last / np.float32(30.0))
        f[place, DUE] = min(last / gap, np.float32(4.0)) if gap > ZERO else ZERO


@numba.njit(nogil=True)
def _finish_basket(n, rows, f, basket_size, popular, recent):  # type: ignore[no-untyped-def]
    root = np.float32(math.sqrt(max(basket_size, 1)))
    size = np.float32(math.log1p(basket_size))
    for place in range(n):
        item = rows[place]
        f[place, COSINE_SUM] /= root
        f[place, PROBABILITY_SUM] /= root
        f[place, POPULARITY] = popular[item]
        f[place, POPULARITY_28] = recent[item]
        f[place, BASKET_SIZE] = size


@numba.njit(nogil=True)
def _finish_categories(n, rows, f, t, derived, basket_size, purchases):  # type: ignore[no-untyped-def]
    finest, in_basket, bought = derived.finest, t.category_basket, t.category_bought
    per_basket = ONE / np.float32(max(basket_size, 1))
    per_root = np.float32(math.sqrt(per_basket))
    per_purchase = ONE / np.float32(max(purchases, 1))
    for place in range(n):
        category = finest[rows[place]]
        if category > 0:
            f[place, CATEGORY_IN_BASKET] = in_basket[category] * per_basket
            f[place, CATEGORY_SHARE] = bought[category] * per_purchase
            f[place, CATEGORY_RECENCY] = t.category_recent[category]
            f[place, CATEGORY_COSINE] = t.category_cosine[category] * per_root
            f[place, CATEGORY_LIFT] = t.category_lift[category] * per_root
            f[place, IN_CATEGORY] = derived.in_category[rows[place]]


@numba.njit(
    nogil=True, fastmath={"reassoc", "contract"}
)  # a sum of products in any order: four times as fast
def _finish_retrieval(n, rows, f, user, basket, items):  # type: ignore[no-untyped-def]
    for place in range(n):
        item = rows[place]
        by_user = by_basket = ZERO
        for k in range(user.shape[0]):
            by_user += user[k] * items[item, k]
            by_basket += basket[k] * items[item, k]
        f[place, RETRIEVAL_USER] = by_user
        f[place, RETRIEVAL_BASKET] = by_basket


@numba.njit(nogil=True, fastmath={"reassoc", "contract"})
def _score(n, f, weights, scores):  # type: ignore[no-untyped-def]
    """Take the roots and sum up, in one walk over the table: every column alike, so that many go at once."""
    for place in range(n):
        total = ZERO
        for k in range(len(FEATURES)):
            value = f[place, k]
            value = np.float32(math.sqrt(abs(value))) if IS_ROOT[k] else value
            f[place, k] = value
            total += weights[k] * value
        scores[place] = total


@numba.njit(nogil=True)
def _reserve(places, scores):  # type: ignore[no-untyped-def]
    """Keep a range of places whatever the prior, to which what hardly sold is always the worst."""
    for place in range(places[0], places[1]):
        scores[place] = np.inf


@numba.njit(nogil=True)
def _keep_best(n, t, rows, features, sources):  # type: ignore[no-untyped-def]
    """Copy the candidates into the outputs; when they are too many, those with the highest score."""
    capacity = rows.shape[0]
    threshold = largest(t.scores[:n], capacity) if n > capacity else np.float32(-np.inf)
    kept = 0
    for ties in (False, True):  # last, so that ties at the threshold cannot push out a better one
        for place in range(n):
            score = t.scores[place]
            if kept < capacity and (score == threshold if ties else score > threshold):
                rows[kept], sources[kept] = t.rows[place], t.sources[place]
                for k in range(features.shape[1]):
                    features[kept, k] = t.features[place, k]
                kept += 1


@numba.njit(nogil=True)
def _block(basket, excludes, wanted, t, categories, finest):  # type: ignore[no-untyped-def]
    """Mark what must not and what may be recommended, and count the basket's categories."""
    for category in wanted:
        for item in _members(category, categories):
            t.allowed[item] = True
    for item in excludes:
        t.slot[item] = EXCLUDED
    for item in basket:
        t.slot[item] = IN_BASKET
        t.category_basket[finest[item]] += ONE


@numba.njit(nogil=True)
def _clear(n, user, now, basket, excludes, wanted, t, histories, categories, pairs, finest):  # type: ignore[no-untyped-def]
    """Undo _block and the walks."""
    for place in range(n):
        t.slot[t.rows[place]] = FREE
    for item in excludes:
        t.slot[item] = FREE
    for item in basket:
        t.slot[item] = FREE
        t.category_basket[finest[item]] = ZERO
        for k in range(pairs.offsets[finest[item]], pairs.offsets[finest[item] + 1]):
            t.category_cosine[pairs.items[k]] = ZERO
            t.category_lift[pairs.items[k]] = ZERO
    for category in wanted:
        for item in _members(category, categories):
            t.allowed[item] = False
    for b in range(histories.user_offsets[user], histories.user_offsets[user + 1]):
        if histories.times[b] >= now:
            break
        for k in range(histories.basket_offsets[b], histories.basket_offsets[b + 1]):
            t.category_bought[finest[histories.items[k]]] = ZERO
            t.category_recent[finest[histories.items[k]]] = ZERO


@numba.njit(cache=True, nogil=True)
def outside(rows, first, end):  # type: ignore[no-untyped-def]
    """Place of the first of `rows` that is not in first … end - 1, or -1."""
    for place in range(rows.shape[0]):
        if rows[place] < first or rows[place] >= end:
            return place
    return -1


@numba.njit(cache=True, nogil=True)
def pool(vectors, offsets, rows, out) -> None:  # type: ignore[no-untyped-def]
    """Add each list's `vectors` (items, d), over the root of its size, to `out` (batch, d), which is zero."""
    for i in range(out.shape[0]):
        size = offsets[i + 1] - offsets[i]
        for row in rows[offsets[i] : offsets[i + 1]]:
            for k in range(out.shape[1]):
                out[i, k] += vectors[row, k]
        for k in range(out.shape[1]):
            out[i, k] /= np.float32(math.sqrt(max(size, 1)))


@numba.njit(cache=True, nogil=True)
def sample_batch(
    q: Queries, a: SamplerArrays, derived: Derived, limits: Limits, t: Touched, out: Candidates
) -> None:
    """Fill `out`, which must be zeroed, for every query of the batch. `t` is clean before and after.

    Rows in `q` must lie inside the arrays: nothing is checked here.
    """
    finest, day = derived.finest, a.clock.day.item()
    for i in range(q.user_rows.shape[0]):
        user, now = q.user_rows[i], q.now[i]
        basket = q.baskets[q.basket_offsets[i] : q.basket_offsets[i + 1]]
        wanted = q.wanted[q.wanted_offsets[i] : q.wanted_offsets[i + 1]]
        excludes = q.excludes[q.exclude_offsets[i] : q.exclude_offsets[i + 1]]
        filtered = wanted.shape[0] > 0
        size = basket.shape[0]
        _block(basket, excludes, wanted, t, a.categories, finest)

        n, baskets, purchases = _walk_history(user, now, size, t, a.histories, finest, day, filtered)
        known = user > 0 or size > 0  # else there is nothing that an item could be similar to
        n = _propose(q.similar[i], q.similar.shape[1] if known else 0, SIMILAR, n, t, filtered)
        first_cold = n  # without those the user bought before, which need no help
        n = after_cold = _propose(q.cold[i], limits.cold if known else 0, SIMILAR, n, t, filtered)
        n = _propose(a.popularity.order, limits.popular, POPULAR, n, t, filtered)
        n = _walk_categories(basket, finest, n, t, a.categories, limits, filtered)
        n = _walk_neighbours(basket, n, t, a.neighbours, filtered)
        _walk_category_pairs(basket, finest, t, a.category_pairs)
        for category in wanted:
            n = _propose(_members(category, a.categories), limits.fill, CATEGORY, n, t, filtered)
        if n < limits.fill and not filtered:
            n = _propose(derived.best_first, limits.fill, POPULAR, n, t, filtered)

        _finish_history(n, t.features, baskets, purchases)
        _finish_basket(n, t.rows, t.features, size, a.popularity.score, a.popularity.recent)
        _finish_categories(n, t.rows, t.features, t, derived, size, purchases)
        _finish_retrieval(n, t.rows, t.features, q.user_vectors[i], q.basket_vectors[i], a.retrieval.items)
        _score(n, t.features, a.prior.weights, t.scores)
        _reserve((first_cold, after_cold), t.scores)
        _keep_best(n, t, out.rows[i], out.features[i], out.sources[i])
        _clear(n, user, now, basket, excludes, wanted, t, a.histories, a.categories, a.category_pairs, finest)
