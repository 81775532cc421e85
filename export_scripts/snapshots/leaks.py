"""Checks, before training and before measuring, that no array contains the baskets that queries come from.

Counts are made again over a shop that ends before these baskets, never from the sums that a snapshot adds up
(``partials.py``). Counting all pairs of items again would take too long: every pair is checked against the
sales of its two items, and the pairs of a sample of items are counted again, by scipy. The sums themselves
are compared with the number of lines of the same baskets where they are made.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from ensemble.candidate_sampler.arrays import Neighbours, SamplerArrays, Stores
from export_scripts.durations import step
from export_scripts.receipts.shop import Shop
from export_scripts.settings import Settings
from export_scripts.snapshots import counts, stores
from export_scripts.snapshots.partials import hash_baskets
from export_scripts.snapshots.regressions import L2, MOST
from export_scripts.snapshots.snapshot import category_pairs, cold
from export_scripts.snapshots.splits import cut_off
from operations.errors import CestaError

SAMPLED_ITEMS: Final = 200  # items whose partners are counted again, from the baskets not to be seen
REFITTED_ITEMS: Final = 3  # items whose weights are fitted again
BASKETS_AT_ONCE: Final = 2**18  # counted again in one product
EXACT: Final = 1e-6  # relative; float32 keeps 1e-7, one more basket among 100,000 is 5e-6 of a cosine

Check = Callable[[Shop, SamplerArrays, int, Settings], str]  # returns what leaked, "" for nothing


@step("leak check")
def check_leaks(shop: Shop, arrays: SamplerArrays, start: int, settings: Settings) -> None:
    """Raise CestaError with what leaked if the arrays contain the baskets from number ``start`` on.

    Histories may contain them, since a query sees only what lies strictly before its moment. The check
    compares their moments with the shop's.
    """
    for name, check in CHECKS.items():
        if leak := check(shop, arrays, start, settings):
            raise CestaError(
                f"leak: {name} {leak}; no array may contain baskets from number {start:,} on: this is an "
                "error of cesta, and its metrics would be too good"
            )


def _popularity(shop: Shop, arrays: SamplerArrays, start: int, settings: Settings) -> str:
    expected = counts.popularity(cut_off(shop, start), start, settings.sampler.min_support)
    for name in ("score", "recent"):
        wrong = np.flatnonzero(getattr(arrays.popularity, name) != getattr(expected, name))
        if len(wrong):
            return f"counts ({name}) {_describe(shop, wrong, start)}"
    return (
        ""
        if np.array_equal(arrays.popularity.order, expected.order)
        else "orders best sellers by other sales"
    )


def _neighbours(shop: Shop, arrays: SamplerArrays, start: int, settings: Settings) -> str:
    """Check the pairs: cosine / P(j|i) is the root of n_i / n_j, whatever n_ij and the shrinkage are."""
    near, sales = arrays.neighbours, counts.support(shop, start).astype(np.float64)
    owner = np.repeat(np.arange(shop.n_items), np.diff(near.offsets))
    unsold = sales[near.items] * sales[owner] == 0
    if unsold.any():
        return f"know {unsold.sum():,} pairs of {_describe(shop, owner[unsold], start)}"
    wrong = _differ(near.cosine * np.sqrt(sales[near.items] / sales[owner]), near.probability)
    if wrong.any():
        return f"know {wrong.sum():,} pairs by sales of {_describe(shop, owner[wrong], start)}"
    sampled = _sample_later(shop, arrays, start, SAMPLED_ITEMS)
    column = np.full(shop.n_items, -1)
    column[sampled] = np.arange(len(sampled))
    places = np.flatnonzero(column[owner] >= 0)
    i, j = owner[places], near.items[places]
    both = _count_pairs(shop, sampled, start, settings.sampler.largest_basket)[j, column[i]]
    wrong = _differ(near.probability[places], both * both / (both + settings.sampler.shrinkage) / sales[i])
    if wrong.any():
        return (
            f"know {wrong.sum():,} of {len(places):,} pairs by baskets of {_describe(shop, i[wrong], start)}"
        )
    return _weights(shop, arrays, start, settings)


def _weights(shop: Shop, arrays: SamplerArrays, start: int, settings: Settings) -> str:
    """Fit the weights of a few items again, by another inverse, from the baskets not to be seen."""
    near = arrays.neighbours
    for item in _sample_later(shop, arrays, start, REFITTED_ITEMS):
        part = slice(near.offsets[item], near.offsets[item + 1])
        rows = np.array([item, *near.items[part][:MOST]])
        together = _count_pairs(shop, rows, start, settings.sampler.largest_basket)[rows]
        inverse = np.linalg.inv(together + L2 * np.eye(len(rows)))
        expected = np.zeros(part.stop - part.start)
        expected[: len(rows) - 1] = -inverse[0, 1:] / np.diag(inverse)[1:]
        if (np.abs(near.weight[part] - expected) > EXACT).any():
            return f"weigh by other baskets the partners of {_describe(shop, np.array([item]), start)}"
    return ""


def _sample_later(shop: Shop, arrays: SamplerArrays, start: int, most: int) -> NDArray[np.int64]:
    """At most ``most`` of the items with partners that are sold from ``start`` on."""
    has_partners = np.diff(arrays.neighbours.offsets) > 0
    later = np.flatnonzero(has_partners & (counts.support(shop, shop.n_baskets, start) > 0))
    return np.random.default_rng(start).choice(later, min(most, len(later)), replace=False)


def _differ(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.bool_]:
    differ: NDArray[np.bool_] = np.abs(a - b) > EXACT * np.abs(b)
    return differ


def _count_pairs(shop: Shop, sampled: NDArray[np.integer], start: int, largest: int) -> NDArray[np.float64]:
    """Return (items, sampled) the baskets before ``start`` with both items, of at most ``largest`` items."""
    column, pairs = np.full(shop.n_items, -1), np.zeros((shop.n_items, len(sampled)))
    column[sampled] = np.arange(len(sampled))
    for first in range(0, start, BASKETS_AT_ONCE):
        offsets = shop.offsets[first : min(first + BASKETS_AT_ONCE, start) + 1]
        items, sizes = shop.items[offsets[0] : offsets[-1]], np.diff(offsets)
        ones, shape = np.ones(len(items), np.int32), (len(sizes), shop.n_items)
        holds = sp.csr_array((ones, items, offsets - offsets[0]), shape=shape)
        baskets = np.repeat(np.arange(len(sizes)), sizes)
        chosen = (column[items] >= 0) & (sizes <= largest)[baskets]
        places = (baskets[chosen], column[items[chosen]])
        of_sample = sp.csr_array((ones[chosen], places), shape=(len(sizes), len(sampled)))
        pairs += (holds.T @ of_sample).toarray()
    return pairs


def _categories(shop: Shop, arrays: SamplerArrays, start: int, _: Settings) -> str:
    expected, _names = counts.categories(cut_off(shop, start), start)
    same = np.array_equal(arrays.categories.members, expected.members)
    return "" if same else "order best sellers by other sales"


def _category_pairs(shop: Shop, arrays: SamplerArrays, start: int, settings: Settings) -> str:
    pairs = arrays.category_pairs
    expected = category_pairs(cut_off(shop, start), start, arrays.categories, settings.sampler)
    same = all(np.array_equal(getattr(pairs, name), getattr(expected, name)) for name in Neighbours._fields)
    return "" if same else "count other baskets"


def _cold(shop: Shop, arrays: SamplerArrays, start: int, settings: Settings) -> str:
    expected = cold(cut_off(shop, start), start, arrays.categories, settings.sampler)
    same = np.array_equal(arrays.cold.members, expected.members)
    return "" if same else "items are not those that hardly sold"


def _stores(shop: Shop, arrays: SamplerArrays, start: int, settings: Settings) -> str:
    expected = stores.count(cut_off(shop, start), start, settings.stores)
    names = Stores._fields
    same = all(np.array_equal(getattr(arrays.stores, name), getattr(expected, name)) for name in names)
    return "" if same else "know the sales of later baskets"


def _histories(shop: Shop, arrays: SamplerArrays, _start: int, _: Settings) -> str:
    """Check that every entry is one whole basket of the user, at its true second and in its place."""
    histories = arrays.histories
    owner = np.repeat(np.arange(shop.n_users), np.diff(histories.user_offsets))
    if ((np.diff(histories.times) < 0) & (np.diff(owner) == 0)).any():
        return "are not in the order of time"
    rows = np.random.default_rng(0).integers(2**63, size=shop.n_items, dtype=np.uint64)
    held = _hash(owner, histories.times, histories.basket_offsets, histories.items, rows)
    true = np.sort(_hash(shop.users, shop.times, shop.offsets, shop.items, rows))
    order = np.argsort(held)
    held = held[order]
    repetition = np.arange(len(held)) - np.searchsorted(held, held)
    wrong = repetition >= np.searchsorted(true, held, "right") - np.searchsorted(true, held)
    if wrong.any():
        place = order[wrong].min()
        n = len(np.unique(held[wrong]))
        baskets = f"{n:,} baskets that do not exist, or not at that time, or not so often"
        return f"hold {baskets}, e.g. of user {shop.user_ids[owner[place]]!r} at {histories.times[place]}"
    return ""


def _hash(
    users: NDArray[np.integer],
    times: NDArray[np.int64],
    offsets: NDArray[np.int64],
    items: NDArray[np.int32],
    rows: NDArray[np.uint64],
) -> NDArray[np.uint64]:
    """Hash each basket by user, time, size and items; different baskets hardly ever agree.

    ``rows`` (items,) holds a random number for each item.
    """
    by_user, by_time, by_size = np.random.default_rng(1).integers(2**63, size=3, dtype=np.uint64)
    hashed: NDArray[np.uint64] = (
        users.astype(np.uint64) * by_user
        + times.astype(np.uint64) * by_time
        + np.diff(offsets).astype(np.uint64) * by_size
        + hash_baskets(offsets, items, rows)
    )
    return hashed


def _retrieval(shop: Shop, arrays: SamplerArrays, start: int, settings: Settings) -> str:
    """Check that later users have the unknown user's vector and that rare items differ by categories only."""
    tower = arrays.retrieval
    earlier = np.bincount(shop.users[:start], minlength=shop.n_users) > 0
    wrong = ~earlier & (tower.users != tower.users[0]).any(1)
    if wrong.any():
        user = shop.user_ids[int(np.flatnonzero(wrong)[0])]
        return f"knows {wrong.sum():,} users that came later, e.g. {user!r}"
    is_rare = counts.support(shop, start) < settings.sampler.min_support
    rare = np.flatnonzero(is_rare)[1:]  # without the unknown item
    of_item = arrays.categories.of_item[rare]
    _, first, twin = np.unique(of_item, axis=0, return_index=True, return_inverse=True)
    for vectors in (tower.items[rare], tower.basket[rare]):
        differs = (vectors != vectors[first][twin.ravel()]).any(1)
        if differs.any():
            return f"has separate vectors for {_describe(shop, rare[differs], start)}"
    return ""


def _describe(shop: Shop, items: NDArray[np.int64], start: int) -> str:
    """Name the number of items, an example, and the first basket from ``start`` on that holds one of them."""
    text = f"{len(np.unique(items)):,} items, e.g. {shop.catalog['item_id'].iloc[int(items[0])]!r}"
    places = np.flatnonzero(np.isin(shop.items[shop.offsets[start] :], items))
    if len(places):
        basket = int(np.searchsorted(shop.offsets, shop.offsets[start] + places[0], side="right")) - 1
        text += f", as first in basket {basket:,}"
    return text


CHECKS: Final[Mapping[str, Check]] = MappingProxyType(
    {
        "popularity": _popularity,
        "neighbours": _neighbours,
        "categories": _categories,
        "category_pairs": _category_pairs,
        "histories": _histories,
        "retrieval": _retrieval,
        "cold": _cold,
        "stores": _stores,
    }
)
# Ids and clock cover the whole shop on purpose; the prior is fitted to queries before ``start``.
NOT_COUNTED: Final = frozenset({"item_ids", "user_ids", "store_ids", "category_names", "clock", "prior"})
