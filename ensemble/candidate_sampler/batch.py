"""What the compiled pass is given, what it fills, and its scratch: numpy arrays in named tuples."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .arrays import Categories, Clock, Histories, Neighbours, Partners, Popularity, Prior, Stores

Int = NDArray[np.int32]
Float = NDArray[np.float32]

FREE, EXCLUDED, IN_BASKET = -1, -2, -3  # in Touched.slot, of an item without a place


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
    cold: Int  # (batch, m) the same of items with too few sales to be counted; may be of no width
    user_vectors: Float  # (batch, d) the query's user in the retrieval tower's space
    basket_vectors: Float  # (batch, d) likewise its basket


class Further(NamedTuple):
    """What few batches have: numba compiles the pass without it for all others."""

    unwanted_offsets: NDArray[np.int64]
    unwanted: Int  # category numbers whose items are no candidates
    only_offsets: NDArray[np.int64]  # an empty list asks for every item
    only: Int  # item rows; 0 alone: none is known
    has_past: NDArray[np.bool_]  # (batch,) the query brings its own history, in place of its user's
    past: Histories  # by the query's place in the batch
    live: NDArray[np.uint8]  # (1 + stores, items) live/forbidden.py; (1, 1): nothing is forbidden
    live_rows: Int  # (batch,) in live; 0: the whole shop, -1: nothing is forbidden
    store_rows: Int  # (batch,) in stores; 0: the whole shop
    stores: Stores
    listed: Int  # (items,) scratch, clean between queries: 1 + place in the list of the store, 0: not in it


class Filter(NamedTuple):
    """What one query must not be recommended, beside what stands in Touched.slot."""

    by_category: bool  # only items that are set in Touched.allowed
    is_live: bool  # not what `live` forbids
    live: NDArray[np.uint8]  # (items,) of the query's store


class Tables(NamedTuple):
    """What the pass reads of the release's arrays."""

    histories: Histories
    neighbours: Partners
    popularity: Popularity
    categories: Categories
    category_pairs: Neighbours
    clock: Clock
    prior: Prior
    vectors: Float  # (items, d) what a query is compared with


class Limits(NamedTuple):
    """How many candidates a source may propose for one query."""

    popular: int
    per_category: int  # for each finest category in the basket
    basket_categories: int  # categories of the basket that are looked into, at most
    fill: int  # go on down the best sellers (of each category asked for) until so many are found
    cold: int  # items with too few sales to be counted


class Derived(NamedTuple):
    """What the pass needs beside the release's arrays, made of them at load."""

    best_first: Int  # every item row, best seller first, those without sales last
    finest: Int  # (items,) number of the item's finest category, 0: none
    in_category: Float  # (items,) the item's share of its finest category's sales
    score: Float  # (items,) by the prior, of the features that no query changes


class Candidates(NamedTuple):
    """What the scorer is fed: (batch, C), (batch, C, F) and (batch, C); row 0 with source 0 pads."""

    rows: Int
    features: Float
    sources: Int


class Touched(NamedTuple):
    """Scratch of one sampler, clean between queries: what the sources add up by item and by category."""

    slot: Int  # (items,) place in the tables below, or one of FREE, EXCLUDED, IN_BASKET
    allowed: NDArray[np.bool_]  # (items,) the query asks for the item's category
    rows: Int  # (width,) item rows, in order of discovery: those of the user's history come first
    sources: Int  # (width,)
    history: Float  # (width, 8) features in the order of FEATURES: USER_COUNT and what follows
    partners: Float  # (width, 6) COSINE_SUM and what follows
    scores: Float  # (width,) by the prior
    category_slot: Int  # (categories,) place in the tables below, or FREE
    category_numbers: Int  # (categories,) in order of discovery
    categories: Float  # (categories, 5) CATEGORY_IN_BASKET and what follows
    category_scores: Float  # (categories,) by the prior


def new_scratch(items: int, categories: int, width: int) -> Touched:
    """Clean scratch for a catalog of `items` rows, `categories` names and at most `width` touched items."""
    slot = np.full(items, FREE, np.int32)
    slot[0] = EXCLUDED  # the unknown item
    return Touched(
        slot=slot,
        allowed=np.zeros(items, np.bool_),
        rows=np.zeros(width, np.int32),
        sources=np.zeros(width, np.int32),
        history=np.zeros((width, 8), np.float32),
        partners=np.zeros((width, 6), np.float32),
        scores=np.zeros(width, np.float32),
        category_slot=np.full(categories, FREE, np.int32),
        category_numbers=np.zeros(categories, np.int32),
        categories=np.zeros((categories, 5), np.float32),
        category_scores=np.zeros(categories, np.float32),
    )
