"""Counts what sells in each store before a moment: shares of baskets, backed off to region and whole shop.

With n of a store's N baskets holding an item, its share p is (n + s q) / (N + s), where q is the share in its
region and s the smoothing: the mean of a Dirichlet posterior (MacKay and Peto 1995). A region's own share is
backed off to the whole shop's likewise. Of the last 28 days, too few baskets tell of one store. That share is
backed off to the region's of these days, times p / q, by RECENT baskets.
"""

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from ensemble.candidate_sampler.arrays import NO_STORE_IDS, NO_STORES, Stores
from ensemble.candidate_sampler.ids import Ids
from export_scripts.receipts.shop import BasketStores, Shop
from export_scripts.settings import StoresSettings
from export_scripts.snapshots.counts import RECENT_DAYS, support

BASKETS_AT_ONCE = 2**18  # counted in one matrix
PER = 10_000  # baskets: the unit of Popularity
RECENT = 300  # baskets of a store in the last 28 days that count as much as what is expected of them
TINY = 1e-12  # below any share: an item that was never sold is expected nowhere
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class _Sales(NamedTuple):
    """Baskets with each item in a stretch of time, by store and in all."""

    by_store: sp.csr_array  # (stores, items)
    of_item: Floats  # (items,) also of baskets whose store is unknown
    baskets: Floats  # (stores,)
    total: int


def ids(shop: Shop) -> Ids:
    """Return the ids of the stores, row 0 unknown."""
    return Ids.pack([store.encode() for store in shop.stores.ids]) if shop.stores else NO_STORE_IDS


def count(shop: Shop, end: int, settings: StoresSettings) -> Stores:
    """Count the baskets before ``end``; a shop without stores gets empty arrays."""
    if shop.stores is None:
        return NO_STORES
    stores, last = shop.stores, int(shop.times[end - 1])
    listed_from = min(shop.first_basket_at(round(last - settings.days * shop.day)), end - 1)
    recent_from = min(shop.first_basket_at(int(last - RECENT_DAYS * shop.day)), end - 1)
    ever = _sales(shop, stores, 0, end)
    listed = ever if listed_from == 0 else _sales(shop, stores, listed_from, end)
    rows, items, settled = _lists(listed, stores.regions, settings)
    region, smoothing = stores.regions[rows], settings.smoothing
    shares, left = _in_regions(ever, stores.regions, smoothing), _left(ever, smoothing)
    here = _backed_off(ever, rows, items, shares[region, items], smoothing)
    recent = _sales(shop, stores, recent_from, end)
    lately_in_regions = _in_regions(recent, stores.regions, smoothing)
    expected = lately_in_regions[region, items] * here / np.maximum(shares[region, items], TINY)
    lately_here = _backed_off(recent, rows, items, expected, RECENT)
    order = np.lexsort((items, -here, rows))
    left = left * _left(recent, RECENT)
    if settings.assortment != "off":
        left[settled] = 0
    closed = settled & (settings.assortment == "only")
    return Stores(
        offsets=np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(settled)))]),
        items=items[order].astype(np.int32),
        recent=_log(lately_here[order]),
        region=stores.regions,
        left=left.astype(np.float32),
        closed=closed,
        shares=(PER * lately_in_regions).astype(np.float32),
    )


def _sales(shop: Shop, stores: BasketStores, start: int, end: int) -> _Sales:
    shape = (len(stores.ids), shop.n_items)
    total = sp.csr_array(shape, dtype=np.int64)
    for first in range(start, end, BASKETS_AT_ONCE):
        part = slice(first, min(first + BASKETS_AT_ONCE, end))
        offsets = shop.offsets[part.start : part.stop + 1]
        items = shop.items[offsets[0] : offsets[-1]]
        rows = np.repeat(stores.rows[part], np.diff(offsets))
        total = total + sp.csr_array((np.ones(len(items), np.int64), (rows, items)), shape=shape)
    baskets = np.bincount(stores.rows[start:end], minlength=shape[0])
    return _Sales(total, support(shop, end, start).astype(float), baskets.astype(float), end - start)


def _lists(
    sales: _Sales, regions: NDArray[np.int32], settings: StoresSettings
) -> tuple[Ints, Ints, NDArray[np.bool_]]:
    """Return the stores and items of the stores' lists, and which stores (stores,) sell nothing else.

    A list is what was sold in the store lately. A store that sold too little to tell takes the list of its
    region. If that sold too little, too, the store may sell anything.
    """
    holds, member = (sales.by_store > 0).astype(np.int8), _membership(regions)
    settled = sales.baskets >= settings.least_baskets
    of_region = (member @ sales.baskets >= settings.least_baskets)[regions]
    borrows = ~settled & (regions > 0) & of_region & (settings.assortment != "off")
    if borrows.any():
        holds = holds + (member.T @ (member @ holds)).multiply(borrows[:, None])
    rows, items = holds.tocoo().coords
    settled[0] = False
    kept = rows > 0
    return rows[kept].astype(np.int64), items[kept].astype(np.int64), settled | borrows


def _in_regions(sales: _Sales, regions: NDArray[np.int32], smoothing: float) -> Floats:
    """(regions, items) smoothed shares. Region 0 is the whole shop, with its baskets of unknown stores."""
    member = _membership(regions)
    whole = sales.of_item / max(sales.total, 1)
    sold, baskets = (member @ sales.by_store).toarray(), member @ sales.baskets
    shares: Floats = (sold + smoothing * whole) / (baskets + smoothing)[:, None]
    shares[0] = whole
    return shares


def _backed_off(sales: _Sales, rows: Ints, items: Ints, expected: Floats, smoothing: float) -> Floats:
    """(n,) the share of each item in its store, where ``expected`` (n,) counts as much as the smoothing."""
    sold = np.asarray(sales.by_store[rows, items]).ravel()
    shares: Floats = (sold + smoothing * expected) / (sales.baskets[rows] + smoothing)
    return shares


def _left(sales: _Sales, smoothing: float) -> Floats:
    """(stores,) the share of what is expected that an item without a sale has."""
    left: Floats = smoothing / (sales.baskets + smoothing)
    return left


def _membership(regions: NDArray[np.int32]) -> sp.csr_array:
    """(regions, stores) 1 where the store is in the region."""
    stores = np.arange(len(regions))
    return sp.csr_array(
        (np.ones(len(regions)), (regions, stores)), shape=(int(regions.max()) + 1, len(regions))
    )


def _log(shares: Floats) -> NDArray[np.float32]:
    """Return the values of Popularity: log(1 + baskets with the item per 10,000)."""
    values: NDArray[np.float32] = np.log1p(PER * shares).astype(np.float32)
    return values
