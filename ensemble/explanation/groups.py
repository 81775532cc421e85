"""The named groups of what a score depends on. Each feature is in one of them.

An explanation tells what each group adds to a score. Features of one group measure one thing in several ways,
and their single parts of the network mean little. The number of passes through the network doubles with each
group, so there are at most MOST.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ensemble.candidate_sampler.features import FEATURES

MOST: Final = 8
VECTORS: Final = "vectors"  # no feature: the item's own vector and its bias, which the graph looks up by row
GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "own_purchases": ("user_count", "user_share", "recency_15", "recency_60", "last_purchase", "due"),
    "own_baskets": ("overlap", "overlap_best"),
    "with_basket": (
        *("cosine_sum", "cosine_max", "probability_sum", "probability_max"),
        *("weight_sum", "weight_max"),
    ),
    "popularity": ("popularity", "popularity_28", "in_category"),
    "category": (
        *("category_in_basket", "category_share", "category_recency"),
        *("category_cosine", "category_lift"),
    ),
    "retrieval": ("retrieval_user", "retrieval_basket"),
    "gates": ("history_size", "basket_size", "variety", "new_to_user"),
    VECTORS: (),
}
MEANINGS: Final[Mapping[str, str]] = {
    "own_purchases": "the customer's own purchases of the item",
    "own_baskets": "the customer's past baskets that resemble this one and hold the item",
    "with_basket": "items of the basket that the item is bought together with",
    "popularity": "sales of the item in the whole shop and in its category",
    "category": "the item's category in the basket and among the customer's purchases",
    "retrieval": "nearness of the item to the customer and to the basket in the retrieval tower",
    "gates": "whether the item is new to the customer; sizes of history and basket",
    VECTORS: "the item's vector in the network, and its bias",
}


def columns() -> dict[str, NDArray[np.int64]]:
    """The places of each group's features in FEATURES. Raises KeyError for a feature without a group."""
    group_of = {feature: name for name, features in GROUPS.items() for feature in features}
    names = np.array([group_of[feature] for feature in FEATURES])
    return {name: np.flatnonzero(names == name) for name in GROUPS}
