"""The sampler's arrays of four items and one user, to work out by hand."""

import numpy as np

from ensemble.candidate_sampler.arrays import (
    Categories,
    Clock,
    Cold,
    Histories,
    Neighbours,
    Partners,
    Popularity,
    Prior,
    Retrieval,
    SamplerArrays,
)
from ensemble.candidate_sampler.features import FEATURES
from ensemble.candidate_sampler.ids import Ids

DAY = 10
NOW = 1_000
POPULAR = np.array([0, 3, 2, 1, 0], np.float32)  # row 0 is the unknown item


def tiny_arrays() -> SamplerArrays:
    """User 1 bought {1, 2} 60 days and {2} 30 days before NOW, and {4} at NOW; 1 and 3 go together."""
    ids = Ids.pack([b""])
    return SamplerArrays(
        item_ids=ids,
        user_ids=ids,
        category_names=ids,
        histories=Histories(
            user_offsets=np.array([0, 0, 3]),
            times=np.array([NOW - 60 * DAY, NOW - 30 * DAY, NOW]),
            basket_offsets=np.array([0, 2, 3, 4]),
            items=np.array([1, 2, 2, 4], np.int32),
        ),
        neighbours=Partners(
            offsets=np.array([0, 0, 1, 1, 2, 2]),
            items=np.array([3, 1], np.int32),
            cosine=np.array([0.4, 0.4], np.float32),
            probability=np.array([0.5, 0.3], np.float32),
            weight=np.array([0.2, 0.1], np.float32),
        ),
        popularity=Popularity(np.array([1, 2, 3, 4], np.int32), POPULAR, POPULAR),
        categories=Categories(np.zeros((5, 0), np.int32), np.array([0, 0]), np.zeros(0, np.int32)),
        category_pairs=Neighbours(
            np.array([0, 0]), *(np.zeros(0, kind) for kind in (np.int32, np.float32, np.float32))
        ),
        retrieval=Retrieval(*(np.zeros((n, 1), np.float32) for n in (2, 5, 5))),
        cold=Cold(np.zeros((0, 3), np.int32)),
        clock=Clock(np.array(NOW + 1), np.array(DAY, np.float32)),
        prior=Prior(np.zeros(len(FEATURES), np.float32)),
    )
