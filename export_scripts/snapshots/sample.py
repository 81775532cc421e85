"""The users whose baskets train scorer and tower, where all are too many. Counts and histories take all.

A user is drawn by a hash of the id, with the whole history. So the same users train the next release, a
smaller sample is a part of a larger one, and each worker of a partition decides for itself.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from export_scripts.receipts.shop import Shop


def mark_sampled(shop: Shop, users: int | None) -> NDArray[np.bool_]:
    """Mark (baskets,) the baskets of about so many ``users``; None marks all.

    Baskets without a user are drawn in the same share, each by its number.
    """
    known = shop.n_users - 1
    if users is None or users >= known:
        return np.ones(shop.n_baskets, bool)
    share = users / known
    drawn = _hashes(np.array(shop.user_ids, object)) < share
    by_number = _hashes(np.arange(shop.n_baskets)) < share
    return np.where(shop.users > 0, drawn[shop.users], by_number)


def _hashes(values: NDArray[np.generic]) -> NDArray[np.float64]:
    """(n,) ids or numbers → (n,) numbers from 0 to 1 that depend on nothing else."""
    hashes: NDArray[np.float64] = pd.util.hash_array(values, categorize=False) / 2.0**64
    return hashes
