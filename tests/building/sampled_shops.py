"""Two shops for the sampler: one to work out by hand, one without any pattern."""

import numpy as np

from ensemble.candidate_sampler.arrays import Retrieval, SamplerArrays
from ensemble.candidate_sampler.batch import Candidates
from ensemble.candidate_sampler.kernels import sample_batch
from ensemble.candidate_sampler.query import Query
from ensemble.candidate_sampler.sampler import CandidateSampler
from tests.building.world import DAY, arrays_of, random_shop, sampler_of, shop_of, tower_of

# Items 1 and 2 are of kind a, 3, 4 and 6 of kind b; 5 has no kind, 5 and 6 were never sold.
# Counted before day 60: n_1 = n_3 = 2, n_2 = n_4 = 1; the pairs 1-2, 3-4 and 1-3 once each.
SHOP = shop_of(
    [(1, 0, [1, 2]), (2, 10, [3, 4]), (1, 30, [1, 3]), (1, 60, [4])],
    items=6,
    categories={"kind": ["a", "a", "b", "b", "", "b"]},
)
TOWER = Retrieval(
    users=np.array([[0, 0], [1, 0], [0, 0]], np.float32),
    basket=np.array([[0, 0], [0, 1], [0, 2], [0, 0], [0, 0], [0, 0], [0, 0]], np.float32),
    items=np.array([[0, 0], [3, 4], [0, 0], [0, 1], [0, 9], [0, 0], [0, 0]], np.float32),
)
ARRAYS = arrays_of(SHOP, end=3, shrinkage=1.0, retrieval=TOWER)
QUERY = Query(user_row=1, basket=[2], now=60 * DAY)

RANDOM = random_shop(np.random.default_rng(3))
RANDOM_ARRAYS = arrays_of(
    RANDOM,
    retrieval=tower_of(RANDOM, np.random.default_rng(4), d=8),
    prior={"recency_60": 1, "popularity": 0.1},
)


def random_sampler(arrays: SamplerArrays = RANDOM_ARRAYS, threads: int = 1) -> CandidateSampler:
    return sampler_of(arrays, threads, capacity=120, similar=30, popular=20, per_category=5, fill=60, cold=10)


def random_queries(rng: np.random.Generator, n: int) -> list[Query]:
    return [
        Query(
            user_row=int(rng.integers(RANDOM.n_users)),
            basket=np.sort(rng.choice(np.arange(1, 301), rng.integers(0, 30), replace=False)).tolist(),
            exclude=rng.choice(np.arange(1, 301), rng.integers(0, 60), replace=False).tolist(),
            wanted=np.unique(rng.integers(1, 22, rng.integers(1, 4) * (rng.random() < 0.3))).tolist(),
            now=None if rng.random() < 0.5 else int(rng.integers(220) * DAY),
        )
        for _ in range(n)
    ]


def assert_equal(one: Candidates, other: Candidates) -> None:
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def plain_kernels() -> int:
    """The number of compiled kernels for batches without further inputs; there is another for the rest."""
    return sum(str(signature[-1]) == "none" for signature in sample_batch.signatures)


def further_kernels() -> int:
    """The number of compiled kernels for batches with further inputs."""
    return len(sample_batch.signatures) - plain_kernels()
