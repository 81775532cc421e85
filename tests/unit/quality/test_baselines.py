"""Untrained rankers, worked out by hand on four items and one user."""

import numpy as np
import pytest

from ensemble.candidate_sampler.arrays import SamplerArrays
from ensemble.candidate_sampler.query import Query
from export_scripts.quality import baselines
from tests.building.tiny_arrays import NOW, POPULAR, tiny_arrays


@pytest.fixture(scope="module")
def arrays() -> SamplerArrays:
    return tiny_arrays()


def scores(arrays: SamplerArrays, name: str, **query: object) -> np.ndarray:
    """Scores by item row; row 0, the unknown item, scores 0."""
    pool = baselines.Pool(arrays)
    evidence = baselines.evidence(arrays, pool, Query(**{"user_row": 1, "now": NOW} | query))  # type: ignore[arg-type]
    by_row = np.zeros(5, np.float32)
    by_row[pool.rows] = baselines.scores(pool, name, evidence)
    return by_row


def test_popularity_is_the_same_for_everybody(arrays: SamplerArrays) -> None:
    """It is the same for everybody."""
    np.testing.assert_allclose(scores(arrays, "popularity"), POPULAR, rtol=1e-5)


def test_frequency_counts_past_baskets(arrays: SamplerArrays) -> None:
    """Item 2 counts twice, item 1 once. Item 4 is bought at NOW, which is not before."""
    np.testing.assert_allclose(scores(arrays, "personal frequency"), [0, 1, 2, 0, 0], atol=1e-5)


def test_a_query_without_a_moment_sees_everything(arrays: SamplerArrays) -> None:
    """Production asks this way."""
    np.testing.assert_allclose(scores(arrays, "personal frequency", now=None), [0, 1, 2, 0, 1], atol=1e-5)


def test_recency_decays_by_sixty_days(arrays: SamplerArrays) -> None:
    """The weights are exp(-1) for 60 days and exp(-0.5) for 30."""
    expected = [0, np.exp(-1), np.exp(-1) + np.exp(-0.5), 0, 0]
    np.testing.assert_allclose(scores(arrays, "personal recency"), expected, atol=1e-5)


def test_cooccurrence_sums_cosines(arrays: SamplerArrays) -> None:
    """A basket of item 1 has the partner 3, one of 1 and 3 has both."""
    np.testing.assert_allclose(scores(arrays, "co-occurrence", basket=[1]), [0, 0, 0, 0.4, 0], atol=1e-5)
    np.testing.assert_allclose(scores(arrays, "co-occurrence", basket=[1, 3]), [0, 0.4, 0, 0.4, 0], atol=1e-5)


def test_overlap_weighs_past_baskets_by_likeness(arrays: SamplerArrays) -> None:
    """Basket {1}: cosine 1 / sqrt(2) with {1, 2} and 0 with {2}."""
    weight = np.exp(-1) / np.sqrt(2)
    np.testing.assert_allclose(scores(arrays, "overlap", basket=[1]), [0, weight, weight, 0, 0], atol=1e-5)


def test_the_blends_are_weighted_sums(arrays: SamplerArrays) -> None:
    """Their names give the weights."""
    by_name = {name: scores(arrays, name, basket=[1]) for name in baselines.RANKERS}
    recency, cosine, overlap = (by_name[name] for name in ("personal recency", "co-occurrence", "overlap"))
    np.testing.assert_allclose(
        by_name["recency + 1.5 cosine + .5 overlap"], recency + 1.5 * cosine + 0.5 * overlap, atol=1e-5
    )
    np.testing.assert_allclose(
        by_name[".5 recency + cosine + overlap"], 0.5 * recency + cosine + overlap, atol=1e-5
    )


def test_only_what_can_be_recommended_is_ranked(arrays: SamplerArrays) -> None:
    """Item 4 leaves the pool: it has no column, and purchases of it count nowhere."""
    few = arrays._replace(popularity=arrays.popularity._replace(order=np.array([1, 2, 3], np.int32)))
    pool = baselines.Pool(few)
    evidence = baselines.evidence(few, pool, Query(user_row=1, now=None, basket=[4, 2]))
    np.testing.assert_array_equal(evidence.frequency, [1, 2, 0])
    values = pool.without(baselines.scores(pool, "personal frequency", evidence), Query(basket=[4, 2]))
    assert np.isneginf(values).tolist() == [False, True, False]


def test_popularity_breaks_ties_only(arrays: SamplerArrays) -> None:
    """Items that the user never bought are ordered by sales, far below any purchase."""
    by_row = scores(arrays, "personal frequency", user_row=0)
    assert list(np.argsort(-by_row[1:]) + 1) == [1, 2, 3, 4]
    assert by_row.max() < 1e-4


@pytest.mark.parametrize("name", baselines.RANKERS)
def test_an_unknown_user_with_an_empty_basket_is_answered(arrays: SamplerArrays, name: str) -> None:
    """Only popularity is left."""
    by_row = scores(arrays, name, user_row=0)
    assert np.isfinite(by_row).all()
    np.testing.assert_array_equal(np.argsort(-by_row[1:]) + 1, [1, 2, 3, 4])
