"""The compiled pass over a batch of queries: propose candidates, compute their features, keep the best C.

Every source writes into one table of touched items, so an item that several sources propose is one row with
several bits, and each feature is a by-product of the source that reads the data anyway. The prior is linear:
an item's score is the sum of what the item, its category, the user's history, its partners in the basket and
the retrieval tower bring, and only for the C that stay are the features written down. The tables are as long
as the catalog but only the touched part is ever cleared: cost grows with the query, not with the shop.

Numba believes a function's cache as long as its own file is the same, and goes on with old code after an
edit of another file that it calls. So what sample_batch calls stands here, all but largest.py, which scan.py
calls too: after an edit of that one, touch both.
"""

import math

import numba
import numpy as np

from .batch import (
    EXCLUDED,
    FREE,
    IN_BASKET,
    Candidates,
    Derived,
    Filter,
    Further,
    Limits,
    Queries,
    Tables,
    Touched,
)
from .features import FEATURES
from .largest import largest
from .live.forbidden import FORBIDDEN
from .sources import SOURCES

ZERO, ONE = np.float32(0.0), np.float32(1.0)  # keeps the arithmetic in single precision
# Not as literals, for each of which numba would compile a copy of what it is passed to.
USUAL, TOGETHER, SIMILAR, POPULAR, CATEGORY = (np.int32(bit) for bit in SOURCES.values())
ASKED_FOR = np.int32(0)  # by the query itself, which is no reason

(
    USER_COUNT, USER_SHARE, RECENCY_15, RECENCY_60, LAST_PURCHASE, DUE, OVERLAP, OVERLAP_BEST,
    COSINE_SUM, COSINE_MAX, PROBABILITY_SUM, PROBABILITY_MAX,
    WEIGHT_SUM, WEIGHT_MAX, POPULARITY, POPULARITY_28,
    CATEGORY_IN_BASKET, CATEGORY_SHARE, CATEGORY_RECENCY, CATEGORY_COSINE, CATEGORY_LIFT, IN_CATEGORY,
    RETRIEVAL_USER, RETRIEVAL_BASKET, HISTORY_SIZE, BASKET_SIZE, VARIETY, NEW_TO_USER,
) = range(len(FEATURES))  # fmt: skip
# Sums and shares with long tails; their square roots are what a linear score and an MLP read well.
IS_ROOT = np.isin(np.arange(len(FEATURES)), [
    USER_SHARE, RECENCY_15, RECENCY_60, DUE, OVERLAP, OVERLAP_BEST, COSINE_SUM, COSINE_MAX, PROBABILITY_SUM,
    PROBABILITY_MAX, WEIGHT_SUM, WEIGHT_MAX, CATEGORY_IN_BASKET, CATEGORY_SHARE, CATEGORY_RECENCY,
    CATEGORY_COSINE, CATEGORY_LIFT, IN_CATEGORY,
])  # fmt: skip

# The tables of Touched hold features that follow each other in FEATURES, from these on.
HISTORY, PARTNERS, CATEGORIES = USER_COUNT, COSINE_SUM, CATEGORY_IN_BASKET
COLUMNS = {HISTORY: 8, PARTNERS: 6, CATEGORIES: 5}

# The walks find a category's place where they need it, each with the same lines: a function for it, even one
# that numba inlines, adds a quarter to the sampler's time.


@numba.njit(nogil=True)
def _propose(items, most, source, n, t, passing):  # type: ignore[no-untyped-def]
    """Enter the first `most` items of a list that may be recommended into the tables; returns the new n.

    For whole lists only: a call costs as much as fifty items.
    """
    slot, allowed, rows, sources = t.slot, t.allowed, t.rows, t.sources
    by_category, is_live, live = passing.by_category, passing.is_live, passing.live
    taken = 0
    for item in items:
        if taken >= most:
            break
        if (
            slot[item] == FREE
            and n < rows.shape[0]
            and (allowed[item] or not by_category)
            and not (is_live and live[item] & FORBIDDEN)
        ):
            slot[item] = n
            rows[n] = item
            n += 1
        if slot[item] >= 0:
            sources[slot[item]] |= source
            taken += 1
    return n


@numba.njit(nogil=True)
def _walk_history(user, now, size, m, t, histories, finest, day, passing):  # type: ignore[no-untyped-def]
    """Usual purchases and own past baskets like this one; returns (n, m, baskets seen, purchases seen).

    USER_COUNT holds the number of purchases, LAST_PURCHASE and DUE the ages of the last and first in days.
    """
    slot, allowed, rows, sources, f = t.slot, t.allowed, t.rows, t.sources, t.history
    category_slot, numbers, sums = t.category_slot, t.category_numbers, t.categories
    by_category, is_live, live = passing.by_category, passing.is_live, passing.live
    times, offsets = histories.times, histories.basket_offsets
    n = baskets = purchases = np.int64(0)
    for b in range(histories.user_offsets[user], histories.user_offsets[user + 1]):
        if times[b] >= now:
            break  # oldest first: all that follow are later still
        items = histories.items[offsets[b] : offsets[b + 1]]
        baskets += 1
        purchases += items.shape[0]
        common = 0
        for item in items:
            common += slot[item] == IN_BASKET
        likeness = np.float32(common / math.sqrt(max(items.shape[0], 1) * max(size, 1)))
        age = np.float32((now - times[b]) / day)
        r15, r60 = np.float32(math.exp(-age / 15.0)), np.float32(math.exp(-age / 60.0))
        for item in items:
            place = slot[item]
            if (
                place == FREE
                and n < rows.shape[0]
                and (allowed[item] or not by_category)
                and not (is_live and live[item] & FORBIDDEN)
            ):
                place = slot[item] = n
                rows[n], sources[n] = item, USUAL
                f[n, DUE] = age
                n += 1
            if place < 0:
                if finest[item] > 0:
                    category = category_slot[finest[item]]
                    if category == FREE:
                        category = category_slot[finest[item]] = m
                        numbers[m] = finest[item]
                        m += 1
                    sums[category, CATEGORY_SHARE - CATEGORIES] += ONE
                    sums[category, CATEGORY_RECENCY - CATEGORIES] += r15
                continue
            f[place, USER_COUNT] += ONE
            f[place, RECENCY_15] += r15
            f[place, RECENCY_60] += r60
            f[place, LAST_PURCHASE] = age
            f[place, OVERLAP] += likeness * r60
            f[place, OVERLAP_BEST] = max(f[place, OVERLAP_BEST], likeness)
    for place in range(n):
        if finest[rows[place]] > 0:
            category = category_slot[finest[rows[place]]]
            if category == FREE:
                category = category_slot[finest[rows[place]]] = m
                numbers[m] = finest[rows[place]]
                m += 1
            sums[category, CATEGORY_SHARE - CATEGORIES] += f[place, USER_COUNT]
            sums[category, CATEGORY_RECENCY - CATEGORIES] += f[place, RECENCY_15]
    return n, m, baskets, purchases


@numba.njit(nogil=True)
def _walk_partners(basket, n, t, neighbours, passing):  # type: ignore[no-untyped-def]
    """Bought together: every partner of every basket item."""
    slot, allowed, rows, sources, f = t.slot, t.allowed, t.rows, t.sources, t.partners
    by_category, is_live, live = passing.by_category, passing.is_live, passing.live
    for item in basket:
        for k in range(neighbours.offsets[item], neighbours.offsets[item + 1]):
            partner = neighbours.items[k]
            place = slot[partner]
            if (
                place == FREE
                and n < rows.shape[0]
                and (allowed[partner] or not by_category)
                and not (is_live and live[partner] & FORBIDDEN)
            ):
                place = slot[partner] = n
                rows[n] = partner
                n += 1
            if place < 0:
                continue
            sources[place] |= TOGETHER
            cosine, probability = neighbours.cosine[k], neighbours.probability[k]
            weight = neighbours.weight[k]
            f[place, COSINE_SUM - PARTNERS] += cosine
            f[place, COSINE_MAX - PARTNERS] = max(f[place, COSINE_MAX - PARTNERS], cosine)
            f[place, PROBABILITY_SUM - PARTNERS] += probability
            f[place, PROBABILITY_MAX - PARTNERS] = max(f[place, PROBABILITY_MAX - PARTNERS], probability)
            f[place, WEIGHT_SUM - PARTNERS] += weight
            f[place, WEIGHT_MAX - PARTNERS] = max(f[place, WEIGHT_MAX - PARTNERS], weight)
    return n


@numba.njit(nogil=True)
def _walk_categories(basket, finest, n, t, categories, limits, passing):  # type: ignore[no-untyped-def]
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
        n = _propose(_members(category, categories), limits.per_category, CATEGORY, n, t, passing)
    return n


@numba.njit(nogil=True)
def _walk_category_pairs(basket, finest, t, pairs):  # type: ignore[no-untyped-def]
    """What the categories of the basket are, and what they go with; returns their number."""
    slot, numbers, sums = t.category_slot, t.category_numbers, t.categories
    m = 0
    for item in basket:
        category = finest[item]
        if category > 0:
            place = slot[category]
            if place == FREE:
                place = slot[category] = m
                numbers[m] = category
                m += 1
            sums[place, CATEGORY_IN_BASKET - CATEGORIES] += ONE
        for k in range(pairs.offsets[category], pairs.offsets[category + 1]):
            if pairs.items[k] > 0:
                place = slot[pairs.items[k]]
                if place == FREE:
                    place = slot[pairs.items[k]] = m
                    numbers[m] = pairs.items[k]
                    m += 1
                sums[place, CATEGORY_COSINE - CATEGORIES] += pairs.cosine[k]
                sums[place, CATEGORY_LIFT - CATEGORIES] += pairs.probability[k]
    return m


@numba.njit(nogil=True)
def _members(category, categories):  # type: ignore[no-untyped-def]
    return categories.members[categories.members_offsets[category] : categories.members_offsets[category + 1]]


@numba.njit(nogil=True)
def _finish_history(n, f, baskets):  # type: ignore[no-untyped-def]
    """Turn the numbers and ages that the walk left into features."""
    for place in range(n):
        count, last, first = f[place, USER_COUNT], f[place, LAST_PURCHASE], f[place, DUE]
        gap = (first - last) / max(count - ONE, ONE)
        f[place, USER_COUNT] = math.log1p(count)
        f[place, USER_SHARE] = count / np.float32(baskets)
        f[place, LAST_PURCHASE] = math.exp(-last / np.float32(30.0))
        f[place, DUE] = min(last / gap, np.float32(4.0)) if gap > ZERO else ZERO


def _finishing(first):  # type: ignore[no-untyped-def]
    """Compile what finishes the first n rows of a table: divide, take roots, and add to the scores."""
    columns, is_root = COLUMNS[first], IS_ROOT[first : first + COLUMNS[first]]

    @numba.njit(nogil=True, fastmath={"reassoc", "contract"})
    def finish(n, table, shares, weights, scores):  # type: ignore[no-untyped-def]
        for place in range(n):
            total = ZERO
            for k in range(columns):
                value = table[place, k] * shares[k]
                value = np.float32(math.sqrt(max(value, ZERO))) if is_root[k] else value  # weights may be < 0
                table[place, k] = value
                total += weights[first + k] * value
            scores[place] += total

    return finish


_score_history, _score_partners, _score_categories = map(_finishing, COLUMNS)


@numba.njit(
    nogil=True, fastmath={"reassoc", "contract"}
)  # a sum of products in any order: four times as fast
def _score_items(n, t, derived, direction, items):  # type: ignore[no-untyped-def]
    """What item, category and retrieval tower bring."""
    rows, scores, category_slot, by_category = t.rows, t.scores, t.category_slot, t.category_scores
    finest, by_item = derived.finest, derived.score
    for place in range(n):
        item = rows[place]
        product = ZERO
        for k in range(direction.shape[0]):
            product += direction[k] * items[item, k]
        category = category_slot[finest[item]]
        scores[place] = by_item[item] + product + (by_category[category] if category >= 0 else ZERO)


@numba.njit(nogil=True, fastmath={"reassoc", "contract"})
def _product(some, others):  # type: ignore[no-untyped-def]
    total = ZERO
    for k in range(some.shape[0]):
        total += some[k] * others[k]
    return total


@numba.njit(nogil=True)
def _score(places, seen, t, derived, weights, user, basket, items):  # type: ignore[no-untyped-def]
    """Finish the tables and fill the scores, of the first places of items, categories and usual purchases."""
    (n, m, usual), (size, baskets, purchases) = places, seen
    per_item, per_purchase = ONE / np.float32(max(size, 1)), ONE / np.float32(max(purchases, 1))
    per_root = np.float32(math.sqrt(per_item))
    shares = (per_item, per_purchase, ONE, per_root, per_root)
    _score_categories(m, t.categories, shares, weights, t.category_scores)
    direction = weights[RETRIEVAL_USER] * user + weights[RETRIEVAL_BASKET] * basket
    _score_items(n, t, derived, direction, items)
    _score_partners(n, t.partners, (per_root, ONE, per_root, ONE, per_root, ONE), weights, t.scores)
    _finish_history(usual, t.history, baskets)
    _score_history(usual, t.history, (ONE, ONE, ONE, ONE, ONE, ONE, ONE, ONE), weights, t.scores)
    for place in range(usual, n if baskets else usual):
        t.scores[place] += weights[NEW_TO_USER]


@numba.njit(nogil=True)
def _reserve(places, scores):  # type: ignore[no-untyped-def]
    """Keep a range of places whatever the prior, to which what hardly sold is always the worst."""
    for place in range(places[0], places[1]):
        scores[place] = np.inf


@numba.njit(nogil=True)
def _best(n, scores, capacity, kept):  # type: ignore[no-untyped-def]
    """Fill `kept` with the places of the highest scores; returns how many."""
    threshold = largest(scores[:n], capacity) if n > capacity else np.float32(-np.inf)
    found = 0
    for ties in (False, True):  # last, so that ties at the threshold cannot push out a better one
        for place in range(n):
            score = scores[place]
            if found < capacity and (score == threshold if ties else score > threshold):
                kept[found] = place
                found += 1
    return found


@numba.njit(nogil=True)
def _write(places, usual, seen, t, derived, popularity, user, basket, items, out):  # type: ignore[no-untyped-def]
    """Copy the candidates at `places` into the outputs, with all features; the first `usual` were bought."""
    rows, features, sources = out
    size, baskets, purchases = seen
    history, basket_size = np.float32(math.log1p(baskets)), np.float32(math.log1p(size))
    variety = np.float32(usual / max(purchases, 1))
    for i in range(places.shape[0]):
        place = places[i]
        item = t.rows[place]
        rows[i], sources[i] = item, t.sources[place]
        f = features[i]
        for k in range(t.history.shape[1]):
            f[HISTORY + k] = t.history[place, k]
        for k in range(t.partners.shape[1]):
            f[PARTNERS + k] = t.partners[place, k]
        f[POPULARITY], f[POPULARITY_28] = popularity.score[item], popularity.recent[item]
        category = t.category_slot[derived.finest[item]]
        for k in range(t.categories.shape[1]):
            f[CATEGORIES + k] = t.categories[category, k] if category >= 0 else ZERO
        f[IN_CATEGORY] = derived.in_category[item]
        f[RETRIEVAL_USER], f[RETRIEVAL_BASKET] = _product(user, items[item]), _product(basket, items[item])
        f[HISTORY_SIZE], f[BASKET_SIZE], f[VARIETY] = history, basket_size, variety
        f[NEW_TO_USER] = np.float32(baskets > 0 and place >= usual)


@numba.njit(nogil=True)
def _list_of(store, stores):  # type: ignore[no-untyped-def]
    return stores.items[stores.offsets[store] : stores.offsets[store + 1]]


@numba.njit(nogil=True)
def _enter_store(store, wanted, only, t, further, categories):  # type: ignore[no-untyped-def]
    """Enter the list of the query's store, and of a closed one allow no other items."""
    own, listed = _list_of(store, further.stores), further.listed
    for k in range(own.shape[0]):
        listed[own[k]] = k + 1
    if not further.stores.closed[store]:
        return
    for category in wanted:
        for item in _members(category, categories):
            t.allowed[item] = t.allowed[item] and listed[item] > 0
    for item in only:
        t.allowed[item] = t.allowed[item] and listed[item] > 0
    if wanted.shape[0] == 0 and only.shape[0] == 0:
        for item in own:
            t.allowed[item] = True


@numba.njit(nogil=True)
def _leave_store(store, t, further):  # type: ignore[no-untyped-def]
    """Undo _enter_store."""
    for item in _list_of(store, further.stores):
        further.listed[item] = 0
        t.allowed[item] = False


@numba.njit(nogil=True)
def _recent_in(store, item, further):  # type: ignore[no-untyped-def]
    """The popularity of an item in a store in the last 28 days."""
    stores, place = further.stores, further.listed[item]
    if place > 0:
        return stores.recent[stores.offsets[store] + place - 1]
    return np.float32(math.log1p(stores.left[store] * stores.shares[stores.region[store], item]))


@numba.njit(nogil=True)
def _score_in(store, n, t, further, popularity, weights):  # type: ignore[no-untyped-def]
    """Replace what the popularity in the whole shop brought by that in the store, if there is one."""
    for place in range(n if store > 0 else 0):
        item = t.rows[place]
        t.scores[place] += weights[POPULARITY_28] * (
            _recent_in(store, item, further) - popularity.recent[item]
        )


@numba.njit(nogil=True)
def _write_in(store, rows, features, further):  # type: ignore[no-untyped-def]
    """Write the popularity in the store, if there is one, into the features of the rows (C,)."""
    for i in range(rows.shape[0] if store > 0 else 0):
        if rows[i] > 0:
            features[i, POPULARITY_28] = _recent_in(store, rows[i], further)


@numba.njit(nogil=True)
def _block(basket, excludes, wanted, t, categories):  # type: ignore[no-untyped-def]
    """Mark what must not and what may be recommended."""
    for category in wanted:
        for item in _members(category, categories):
            t.allowed[item] = True
    for item in excludes:
        t.slot[item] = EXCLUDED
    for item in basket:
        t.slot[item] = IN_BASKET


@numba.njit(nogil=True)
def _block_further(only, wanted, unwanted, t, categories):  # type: ignore[no-untyped-def]
    """Allow no other items than `only`, if there are any, and none of the categories that are unwanted."""
    if only.shape[0] > 0:
        for item in only:
            if wanted.shape[0] > 0 and not t.allowed[item] and t.slot[item] == FREE:
                t.slot[item] = EXCLUDED
        for category in wanted:
            for item in _members(category, categories):
                t.allowed[item] = False
        for item in only:
            t.allowed[item] = True
    for category in unwanted:
        for item in _members(category, categories):
            if t.slot[item] == FREE:
                t.slot[item] = EXCLUDED


@numba.njit(nogil=True)
def _clear(n, m, usual, basket, excludes, wanted, t, categories):  # type: ignore[no-untyped-def]
    """Undo _block and the walks."""
    for item in t.rows[:n]:
        t.slot[item] = FREE
    for item in excludes:
        t.slot[item] = FREE
    for item in basket:
        t.slot[item] = FREE
    for category in t.category_numbers[:m]:
        t.category_slot[category] = FREE
    for category in wanted:
        for item in _members(category, categories):
            t.allowed[item] = False
    t.sources[:n] = 0
    t.history[:usual] = ZERO
    t.partners[:n] = ZERO
    t.categories[:m] = ZERO
    t.category_scores[:m] = ZERO


@numba.njit(nogil=True)
def _clear_further(only, unwanted, t, categories):  # type: ignore[no-untyped-def]
    """Undo _block_further."""
    for category in unwanted:
        for item in _members(category, categories):
            t.slot[item] = FREE
    for item in only:
        t.slot[item], t.allowed[item] = FREE, False
    t.slot[0] = EXCLUDED  # the unknown item


@numba.njit(cache=True, nogil=True)
def sample_batch(
    q: Queries,
    a: Tables,
    derived: Derived,
    limits: Limits,
    t: Touched,
    out: Candidates,
    further: Further | None,
) -> None:
    """Fill `out`, which must be zeroed, for every query of the batch. `t` is clean before and after.

    `further` is None for most batches: numba compiles that case by itself, without any of the code for it.

    Rows in `q` and `further` must lie inside the arrays: nothing is checked here.
    """
    finest, day = derived.finest, a.clock.day.item()
    weights, vectors = a.prior.weights, a.vectors
    places, nothing = np.empty(out.rows.shape[1], np.int32), np.zeros(1, np.uint8)
    for i in range(q.user_rows.shape[0]):
        user, now = q.user_rows[i], q.now[i]
        basket = q.baskets[q.basket_offsets[i] : q.basket_offsets[i + 1]]
        wanted = q.wanted[q.wanted_offsets[i] : q.wanted_offsets[i + 1]]
        excludes = q.excludes[q.exclude_offsets[i] : q.exclude_offsets[i + 1]]
        size, chosen = basket.shape[0], wanted.shape[0] > 0
        best, past, whose = a.popularity.order, a.histories, np.int64(user)
        passing = Filter(chosen, False, nothing)
        _block(basket, excludes, wanted, t, a.categories)
        if further is not None:
            unwanted = further.unwanted[further.unwanted_offsets[i] : further.unwanted_offsets[i + 1]]
            only = further.only[further.only_offsets[i] : further.only_offsets[i + 1]]
            chosen, filtered = chosen or only.shape[0] > 0, chosen or only.shape[0] > 0
            _block_further(only, wanted, unwanted, t, a.categories)
            store, stores = further.store_rows[i], further.stores
            if store > 0:
                filtered = chosen or stores.closed[store]
                if stores.offsets[store + 1] - stores.offsets[store] >= limits.popular:
                    best = _list_of(store, stores)
                _enter_store(store, wanted, only, t, further, a.categories)
            if further.has_past[i]:
                past, whose = further.past, np.int64(i)
            live = further.live_rows[i]
            is_live = further.live.shape[1] > 1 and live >= 0
            passing = Filter(filtered, is_live, further.live[max(live, 0)])

        m = _walk_category_pairs(basket, finest, t, a.category_pairs)
        n, m, baskets, purchases = _walk_history(whose, now, size, m, t, past, finest, day, passing)
        usual = n
        known = user > 0 or size > 0  # else there is nothing that an item could be similar to
        n = _propose(q.similar[i], q.similar.shape[1] if known else 0, SIMILAR, n, t, passing)
        first_cold = n  # without those the user bought before, which need no help
        n = after_cold = _propose(q.cold[i], limits.cold if known else 0, SIMILAR, n, t, passing)
        n = _propose(best, limits.popular, POPULAR, n, t, passing)
        n = _walk_categories(basket, finest, n, t, a.categories, limits, passing)
        n = _walk_partners(basket, n, t, a.neighbours, passing)
        for category in wanted:
            n = _propose(_members(category, a.categories), limits.fill, CATEGORY, n, t, passing)
        if n < limits.fill and not chosen:
            n = _propose(derived.best_first, limits.fill, POPULAR, n, t, passing)
        if further is not None:
            n = _propose(only, only.shape[0], ASKED_FOR, n, t, passing)

        seen = (size, baskets, purchases)
        _score((n, m, usual), seen, t, derived, weights, q.user_vectors[i], q.basket_vectors[i], vectors)
        if further is not None:
            _score_in(further.store_rows[i], n, t, further, a.popularity, weights)
        _reserve((first_cold, after_cold), t.scores)

        kept = places[: _best(n, t.scores, places.shape[0], places)]
        _write(
            kept, usual, seen, t, derived, a.popularity, q.user_vectors[i], q.basket_vectors[i], vectors,
            (out.rows[i], out.features[i], out.sources[i]),
        )  # fmt: skip
        _clear(n, m, usual, basket, excludes, wanted, t, a.categories)
        if further is not None:
            _write_in(further.store_rows[i], out.rows[i], out.features[i], further)
            _leave_store(further.store_rows[i], t, further)
            _clear_further(only, unwanted, t, a.categories)
