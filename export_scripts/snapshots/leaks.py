"""Do the arrays know anything of the baskets that will be asked about? Checked before training and measuring.

What was counted is counted again over a shop that ends where knowing must end. Co-occurrence, too slow for
that, is checked by what every pair says of its items' sales, and a sample of it pair by pair.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from ensemble.candidate_sampler.arrays import Histories, SamplerArrays
from export_scripts.receipts.shop import Shop
from export_scripts.settings import SamplerSettings, Settings
from export_scripts.snapshots import counts
from export_scripts.snapshots.snapshot import category_pairs, cold
from operations.errors import CestaError

PAIRS_OF: Final = 200  # items whose partners are counted again, of those in the baskets not to be seen
EXACT: Final = 1e-6  # relative; float32 keeps 1e-7, one basket more among 100,000 is 5e-6 of a cosine

Check = Callable[[Shop, SamplerArrays, int, SamplerSettings], str]  # what leaked, "" if nothing did


def check_leaks(shop: Shop, arrays: SamplerArrays, start: int, settings: Settings) -> None:
    """Raise CestaError, naming what leaked, if the arrays know of the baskets from number ``start`` on.

    Histories may: a query sees of them what lies strictly before its moment. They must tell the true moments.
    """
    for name, check in CHECKS.items():
        if leaked := check(shop, arrays, start, settings.sampler):
            raise CestaError(
                f"leak: {name} {leaked}; nothing may know the baskets from number {start:,} on: this is an "
                "error of cesta, and its measures would be too good to be true"
            )


def _ended(shop: Shop, start: int) -> Shop:
    """The shop as it was before basket ``start``."""
    return replace(
        shop,
        offsets=shop.offsets[: start + 1],
        items=shop.items[: shop.offsets[start]],
        users=shop.users[:start],
        times=shop.times[:start],
    )


def _popularity(shop: Shop, arrays: SamplerArrays, start: int, s: SamplerSettings) -> str:
    expected = counts.popularity(_ended(shop, start), start, s.min_support)
    for name in ("score", "recent"):
        wrong = np.flatnonzero(getattr(arrays.popularity, name) != getattr(expected, name))
        if len(wrong):
            return f"counts ({name}) {_later(shop, wrong, start)}"
    return "" if np.array_equal(arrays.popularity.order, expected.order) else "orders best sellers otherwise"


def _neighbours(shop: Shop, arrays: SamplerArrays, start: int, s: SamplerSettings) -> str:
    """cosine / P(j|i) is the root of n_i / n_j, whatever the pair's own count and shrinkage."""
    near, sales = arrays.neighbours, counts.support(shop, start).astype(np.float64)
    owner = np.repeat(np.arange(shop.n_items), np.diff(near.offsets))
    unsold = sales[near.items] * sales[owner] == 0
    if unsold.any():
        return f"know {unsold.sum():,} pairs of {_later(shop, owner[unsold], start)}"
    wrong = _differ(near.cosine * np.sqrt(sales[near.items] / sales[owner]), near.probability)
    if wrong.any():
        return f"know {wrong.sum():,} pairs by sales of {_later(shop, owner[wrong], start)}"
    later = np.intersect1d(owner, shop.items[shop.offsets[start] :])
    asked = np.random.default_rng(start).choice(later, min(PAIRS_OF, len(later)), replace=False)
    column = np.full(shop.n_items, -1)
    column[asked] = np.arange(len(asked))
    places = np.flatnonzero(column[owner] >= 0)
    i, j = owner[places], near.items[places]
    both = _together(shop, asked, start, s.largest_basket)[j, column[i]]
    wrong = _differ(near.probability[places], both * both / (both + s.shrinkage) / sales[i])
    if wrong.any():
        return f"know {wrong.sum():,} of {len(places):,} pairs by baskets of {_later(shop, i[wrong], start)}"
    return ""


def _differ(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.bool_]:
    differ: NDArray[np.bool_] = np.abs(a - b) > EXACT * np.abs(b)
    return differ


def _together(shop: Shop, asked: NDArray[np.int64], start: int, largest: int) -> NDArray[np.float64]:
    """(items, asked): baskets before ``start`` with both, of at most ``largest`` items."""
    items, sizes = shop.items[: shop.offsets[start]], np.diff(shop.offsets[: start + 1])
    shape = (start, shop.n_items)
    counted = np.repeat(sizes <= largest, sizes).astype(np.float32)
    x = sp.csr_array((counted, items, shop.offsets[: start + 1]), shape=shape)
    together: NDArray[np.float64] = (x.T @ x.tocsc()[:, asked]).toarray().astype(np.float64)
    return together


def _categories(shop: Shop, arrays: SamplerArrays, start: int, _: SamplerSettings) -> str:
    expected, _names = counts.categories(_ended(shop, start), start)
    same = np.array_equal(arrays.categories.members, expected.members)
    return "" if same else "order best sellers by other sales"


def _category_pairs(shop: Shop, arrays: SamplerArrays, start: int, s: SamplerSettings) -> str:
    expected = category_pairs(_ended(shop, start), start, arrays.categories, s)
    same = all(np.array_equal(a, b) for a, b in zip(arrays.category_pairs, expected, strict=True))
    return "" if same else "know other baskets"


def _cold(shop: Shop, arrays: SamplerArrays, start: int, s: SamplerSettings) -> str:
    expected = cold(_ended(shop, start), start, arrays.categories, s)
    same = np.array_equal(arrays.cold.members, expected.members)
    return "" if same else "items are not those that hardly sold"


def _histories(shop: Shop, arrays: SamplerArrays, _start: int, _: SamplerSettings) -> str:
    """Every entry is one basket of the user's own, at its own second, whole, and in its place."""
    h = arrays.histories
    owner = np.repeat(np.arange(shop.n_users), np.diff(h.user_offsets))
    if ((np.diff(h.times) < 0) & (np.diff(owner) == 0)).any():
        return "are not in the order of time"
    real = Histories(h.user_offsets, shop.times, shop.offsets, shop.items)
    strange = _entries(owner, h) - _entries(shop.users, real)
    if strange:
        user, time, *_rest = next(iter(strange))
        told = f"{len(strange):,} baskets that were not, or not then, or not so often"
        return f"tell {told}, e.g. of user {shop.user_ids[user]!r} at {time}"
    return ""


def _entries(owner: NDArray[np.int64] | NDArray[np.int32], h: Histories) -> Counter[tuple[int, ...]]:
    """(user, time, size, sum of rows) of every basket: two that differ hardly agree in all four."""
    sums = np.concatenate([[0], np.cumsum(h.items, dtype=np.int64)])[h.basket_offsets]
    columns = (owner, h.times, np.diff(h.basket_offsets), np.diff(sums))
    return Counter(zip(*(column.tolist() for column in columns), strict=True))


def _retrieval(shop: Shop, arrays: SamplerArrays, start: int, s: SamplerSettings) -> str:
    """Who was not met is the unknown user; what hardly sold is told apart by its categories alone."""
    tower = arrays.retrieval
    met = np.bincount(shop.users[:start], minlength=shop.n_users) > 0
    strange = ~met & (tower.users != tower.users[0]).any(1)
    if strange.any():
        user = shop.user_ids[int(np.flatnonzero(strange)[0])]
        return f"knows {strange.sum():,} users that came later, e.g. {user!r}"
    rare = np.flatnonzero(counts.support(shop, start) < s.min_support)[1:]  # without the unknown item
    of_item = arrays.categories.of_item[rare]
    _, first, twin = np.unique(of_item, axis=0, return_index=True, return_inverse=True)
    for vectors in (tower.items[rare], tower.basket[rare]):
        apart = (vectors != vectors[first][twin.ravel()]).any(1)
        if apart.any():
            return f"has vectors of their own for {_later(shop, rare[apart], start)}"
    return ""


def _later(shop: Shop, items: NDArray[np.int64], start: int) -> str:
    """Which items, and the first basket not to be seen that holds one."""
    text = f"{len(np.unique(items)):,} items, e.g. {shop.catalog['item_id'].iloc[int(items[0])]!r}"
    held = np.flatnonzero(np.isin(shop.items[shop.offsets[start] :], items))
    if len(held):
        basket = int(np.searchsorted(shop.offsets, shop.offsets[start] + held[0], side="right")) - 1
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
    }
)
# Ids and clock are of the whole shop on purpose; the prior is fitted to queries before ``start``.
NOT_COUNTED: Final = frozenset({"item_ids", "user_ids", "category_names", "clock", "prior"})
