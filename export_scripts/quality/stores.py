"""Measure what asking with the store adds: query by query, and how much of the lists is on sale there.

On sale in a store is what was sold there in the measured period or in the 28 days before it. Receipts tell
nothing else: an item that lay on the shelf for weeks without a sale counts as not on sale.
"""

from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from export_scripts.engines.interface import Engine
from export_scripts.quality.groups import Groups
from export_scripts.quality.metrics import Placement, gains
from export_scripts.quality.paired import COMPARED, DIGITS
from export_scripts.quality.questions import Questions
from export_scripts.quality.rankers import Ranker
from export_scripts.quality.results import Difference, InStores, OneStore, StoresResult
from export_scripts.receipts.shop import BasketStores, Shop
from export_scripts.snapshots.counts import RECENT_DAYS

MOST_STORES: Final = 20  # with a line of their own: those with the most queries
Floats = NDArray[np.float64]


class _Asked(NamedTuple):
    """The queries of one way to ask: (n, 2) HR@10 and NDCG@10, and (n,) share of the list on sale."""

    gains: Floats
    on_sale: Floats


def measure_stores(
    questions: Questions, ranker: Ranker, placed: Placement, start: int, groups: Groups, engine: Engine
) -> InStores:
    """Compare the lists ``placed`` with those for the same queries without their store.

    The measured period begins with basket ``start``. The result is empty if no query names a store.
    """
    shop, hidden = questions.shop, questions.hidden
    if shop.stores is None or not (named := shop.stores.rows[hidden.baskets] > 0).any():
        return {}
    rows = shop.stores.rows[hidden.baskets]
    blind = Questions(replace(shop, stores=None), hidden, questions.sampler, [ranker])
    without = blind.rank(engine, True, "no store")[ranker.names[0]]
    sold = sold_pairs(shop, shop.stores, start)
    asked = [
        _Asked(gains(one.ranks)[:, : len(COMPARED)], on_sale(sold, rows, one.top, shop.n_items))
        for one in (placed, without)
    ]
    lists, of_item = questions.sampler.arrays.stores, rows.astype(np.int64) * shop.n_items + hidden.items
    owners = np.repeat(np.arange(len(lists.offsets) - 1), np.diff(lists.offsets))
    listed = np.isin(of_item[named], owners * shop.n_items + lists.items)
    result: StoresResult = {
        "with_store": groups.summarise(placed.ranks, named),
        "without_store": groups.summarise(without.ranks, named),
        "store_adds": _differences(groups, asked, named),
        "on_sale": _mean(asked[0].on_sale[named]),
        "on_sale_without_store": _mean(asked[1].on_sale[named]),
        "hidden_in_lists": _mean(listed),
        "stores": len(np.unique(rows[named])),
        "by_store": _by_store(shop.stores, rows, asked),
    }
    return {"stores": result}


def sold_pairs(shop: Shop, stores: BasketStores, start: int) -> NDArray[np.int64]:
    """Return store * items + item of what was sold from 28 days before basket ``start`` on, distinct."""
    first = shop.first_basket_at(int(shop.times[start] - RECENT_DAYS * shop.day))
    rows = np.repeat(stores.rows[first:].astype(np.int64), np.diff(shop.offsets[first:]))
    pairs: NDArray[np.int64] = np.unique(rows * shop.n_items + shop.items[shop.offsets[first] :])
    return pairs


def on_sale(sold: NDArray[np.int64], rows: NDArray[np.int32], top: NDArray[np.int32], n_items: int) -> Floats:
    """Return (n,) the share of each list ``top`` (n, 10) that is on sale in the store ``rows`` (n,).

    Places without an item do not count; a list without any has the share 0.
    """
    found = np.isin(rows.astype(np.int64)[:, None] * n_items + top, sold) & (top > 0)
    share: Floats = found.sum(1) / np.maximum((top > 0).sum(1), 1)
    return share


def _differences(groups: Groups, asked: list[_Asked], named: NDArray[np.bool_]) -> dict[str, Difference]:
    with_store, without = (np.column_stack([one.gains, one.on_sale])[named] for one in asked)
    added = with_store - without
    bounds = groups.intervals(added, named).round(DIGITS).tolist()
    return {
        name: {"difference": _mean(column), "interval": interval}
        for name, column, interval in zip((*COMPARED, "on_sale"), added.T, bounds, strict=True)
    }


def _by_store(stores: BasketStores, rows: NDArray[np.int32], asked: list[_Asked]) -> dict[str, OneStore]:
    """The stores with the most queries, then all others together."""
    queries = np.bincount(rows, minlength=len(stores.ids))
    queries[0] = 0
    largest = np.argsort(-queries, kind="stable")[:MOST_STORES]
    largest = largest[queries[largest] > 0]
    chosen = {stores.ids[store]: rows == store for store in largest.tolist()}
    others = (rows > 0) & ~np.isin(rows, largest)
    chosen |= {"(others)": others} if others.any() else {}
    return {name: _one_store(mask, asked) for name, mask in chosen.items()}


def _one_store(chosen: NDArray[np.bool_], asked: list[_Asked]) -> OneStore:
    with_store, without = asked
    hr, ndcg = with_store.gains[chosen].mean(0).round(DIGITS).tolist()
    return {
        "n": int(chosen.sum()),
        "hr_at_10": hr,
        "ndcg_at_10": ndcg,
        "ndcg_without_store": _mean(without.gains[chosen, 1]),
        "on_sale": _mean(with_store.on_sale[chosen]),
        "on_sale_without_store": _mean(without.on_sale[chosen]),
    }


def _mean(values: NDArray[np.generic]) -> float:
    return round(float(np.asarray(values, np.float64).mean()), DIGITS)
