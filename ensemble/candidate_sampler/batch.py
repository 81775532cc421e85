"""What the compiled pass is given, what it fills, and its scratch: numpy arrays in named tuples."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .features import FEATURES

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


class Candidates(NamedTuple):
    """What the scorer is fed: (batch, C), (batch, C, F) and (batch, C); row 0 with source 0 pads."""

    rows: Int
    features: Float
    sources: Int


class Touched(NamedTuple):
    """Scratch of one sampler, clean between queries: per item or category, then per touched item."""

    slot: Int  # (items,) place in the tables below, or one of FREE, EXCLUDED, IN_BASKET
    allowed: NDArray[np.bool_]  # (items,) the query asks for the item's category
    category_basket: Float  # (categories,) basket items of the category
    category_bought: Float  # (categories,) purchases of the category by the user
    category_recent: Float  # (categories,) the same, decayed
    category_cosine: Float  # (categories,) summed over the basket
    category_lift: Float  # (categories,) likewise
    rows: Int  # (width,) item rows, in order of discovery
    sources: Int  # (width,)
    features: Float  # (width, F) at first what the sources add up
    scores: Float  # (width,) by the prior


def new_scratch(items: int, categories: int, width: int) -> Touched:
    """Clean scratch for a catalog of `items` rows, `categories` names and at most `width` touched items."""
    slot = np.full(items, FREE, np.int32)
    slot[0] = EXCLUDED  # the unknown item
    return Touched(
        slot=slot,
        allowed=np.zeros(items, np.bool_),
        category_basket=np.zeros(categories, np.float32),
        category_bought=np.zeros(categories, np.float32),
        category_recent=np.zeros(categories, np.float32),
        category_cosine=np.zeros(categories, np.float32),
        category_lift=np.zeros(categories, np.float32),
        rows=np.zeros(width, np.int32),
        sources=np.zeros(width, np.int32),
        features=np.zeros((width, len(FEATURES)), np.float32),
        scores=np.zeros(width, np.float32),
    )
