"""Other libraries' models; those that we wrote ourselves are worked out by hand."""

import numpy as np
import pytest
import scipy.sparse as sp

from ensemble.candidate_sampler.arrays import SamplerArrays
from ensemble.candidate_sampler.batch import Candidates
from ensemble.candidate_sampler.query import Query
from export_scripts.quality import rivals
from export_scripts.quality.baselines import Pool
from export_scripts.quality.metrics import MISSED
from export_scripts.quality.rankers import NO_CANDIDATES, QueryBatch
from tests.building.tiny_arrays import NOW, tiny_arrays


@pytest.fixture(scope="module")
def arrays() -> SamplerArrays:
    return tiny_arrays()


@pytest.fixture
def matrix() -> sp.csr_array:
    """Items 0 and 1 go together, 2 and 3 go together, 0 is also bought alone."""
    rows = [[1, 1, 0, 0]] * 8 + [[0, 0, 1, 1]] * 8 + [[1, 0, 0, 0]] * 2
    return sp.csr_array(np.array(rows, np.float32))


def test_a_query_is_the_users_past_and_its_basket(arrays: SamplerArrays) -> None:
    """Item 2 is in two earlier baskets, item 1 in one, item 4 only at NOW. The basket counts three times."""
    query = Query(user_row=1, basket=[3], now=NOW)
    row = rivals.profiles(arrays, Pool(arrays), [query], 3).toarray()
    np.testing.assert_allclose(row, [[1, 2, 3, 0]], rtol=1e-6)


def test_without_a_user_the_basket_stands_alone(arrays: SamplerArrays) -> None:
    rows = rivals.profiles(arrays, Pool(arrays), [Query(basket=[1]), Query()], 1).toarray()
    np.testing.assert_allclose(rows, [[1, 0, 0, 0], [0, 0, 0, 0]], rtol=1e-6)


def test_ease_is_the_closed_form(matrix: sp.csr_array) -> None:
    """The expectation is Steck's equation 8, by numpy's own inverse in double precision."""
    dense = matrix.toarray().astype(np.float64)
    inverse = np.linalg.inv(dense.T @ dense + 2 * np.eye(4))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    np.testing.assert_allclose(rivals.fit_ease(matrix, l2=2)(matrix), dense @ weights, atol=1e-5)


def test_ease_scores_best_sellers_only(matrix: sp.csr_array, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool is ordered by sales; items beyond the limit score 0."""
    monkeypatch.setattr(rivals, "EASE_ITEMS", 2)
    scores = rivals.fit_ease(matrix, l2=2)(matrix)
    assert scores.shape == matrix.shape
    assert scores[0, :2].all()
    assert not scores[:, 2:].any()


@pytest.mark.parametrize("name", ["item-kNN", "iALS"])
def test_implicit_finds_the_partner(name: str, matrix: sp.csr_array) -> None:
    """For item 2 it prefers item 3 to items 0 and 1."""
    pytest.importorskip("implicit", reason="pip install 'cesta[rivals]'")
    options = rivals.TUNABLE_MODELS[name]
    score = rivals.fit_to_counts(options, matrix, next(options.choices()))
    scores = np.asarray(score(sp.csr_array(np.array([[0, 0, 1, 0]], np.float32))))[0]
    assert scores[3] > max(scores[0], scores[1])


def test_counts_can_be_damped_for_training_and_asking_alike() -> None:
    """Both have log(1 + 1) and log(1 + 3); without damping the counts themselves."""
    seen = []
    options = rivals.TunableModel(lambda x: lambda rows: seen.extend([x.toarray(), rows.toarray()]), {})
    x, rows = sp.csr_array([[1.0, 3.0]]), sp.csr_array([[3.0, 0.0]])
    for choice in options.choices():
        rivals.fit_to_counts(options, x, choice)(rows)
    expected = [[[1, 3]], [[3, 0]], [[np.log(2), np.log(4)]], [[np.log(4), 0]]]
    np.testing.assert_allclose(np.array(seen), expected)


def test_the_basket_is_not_recommended(arrays: SamplerArrays) -> None:
    """All other items are ranked over the whole pool, repeats included; popularity breaks ties."""
    pool = Pool(arrays)
    ranker = rivals.UserItem("any", arrays, pool, lambda rows: np.ones(rows.shape), 1)
    questions = QueryBatch([Query(user_row=1, basket=[1], now=NOW)], np.array([2], np.int32), NO_CANDIDATES)
    placed = ranker.place(questions)["any"]
    assert placed.top[0, :3].tolist() == [2, 3, 4]
    assert placed.ranks.tolist() == [0]


def test_lambdarank_ranks_real_candidates() -> None:
    """The booster is asked about candidates without padding; an item that is no candidate is missed."""
    booster = type("Booster", (), {"predict": lambda self, x: -x[:, 0]})()
    rows = np.array([[7, 8, 0], [9, 0, 0]], np.int32)
    features = np.array([[[3], [1], [-9]], [[1], [-9], [-9]]], np.float32)
    questions = QueryBatch([Query(), Query()], np.array([7, 7], np.int32), Candidates(rows, features, rows))
    placed = rivals.Lambdarank(booster, "").place(questions)["LightGBM"]
    assert placed.top[:, :3].tolist() == [[8, 7, 0], [9, 0, 0]]
    assert placed.ranks.tolist() == [1, MISSED]
