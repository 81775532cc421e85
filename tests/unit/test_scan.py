"""The scan over bytes: what it finds, in which order, and that a batch does not change an answer."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.candidate_sampler.scan import Scan, _search, coded

RNG = np.random.default_rng(3)


def vectors_of(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


@pytest.mark.parametrize("d", [1, 3, 4, 64, 70])
def test_codes_stand_for_the_vectors(d: int) -> None:
    """To half a step of 127, which the largest component spans."""
    vectors = vectors_of(50, d)
    codes, scales = coded(vectors)
    largest = np.abs(vectors).max(1)
    assert codes.dtype == np.int8
    assert (np.abs(codes * scales[:, None] - vectors).max(1) <= largest / 254 + 1e-6).all()


def test_a_vector_of_zeros_stays_one() -> None:
    codes, scales = coded(np.zeros((2, 3), np.float32))
    assert not codes.any()
    assert not scales.any()


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 5_000), d=st.integers(1, 9), wanted=st.integers(1, 200), seed=st.integers(0, 99))
def test_it_finds_the_largest_products(n: int, d: int, wanted: int, seed: int) -> None:
    """Of the vectors that its codes stand for; what numpy sorts, a rounding apart."""
    vectors, query = vectors_of(n, d, seed), vectors_of(1, d, seed + 1)
    codes, scales = coded(vectors - vectors.mean(0))
    right = (codes * scales[:, None]) @ query[0]
    scores, places = Scan(vectors).search(query, wanted)
    found = places[0][places[0] >= 0]
    assert len(found) == min(n, wanted) == len(set(found.tolist()))
    np.testing.assert_allclose(scores[0, : len(found)], right[found], rtol=1e-4, atol=1e-5)
    least = np.sort(right)[-len(found)]
    assert right[found].min() >= least - 1e-4


def test_of_equals_those_that_come_first_are_found() -> None:
    vectors = np.ones((4_000, 4), np.float32)
    vectors[3_900] *= 2
    _, places = Scan(vectors).search(np.ones((1, 4), np.float32), 10)
    assert sorted(places[0].tolist()) == [*range(9), 3_900]


def test_fewer_vectors_than_wanted_leave_places_empty() -> None:
    scores, places = Scan(vectors_of(3, 4)).search(vectors_of(2, 4, 1), 5)
    assert (places[:, 3:] == -1).all()
    assert np.isneginf(scores[:, 3:]).all()
    assert {tuple(sorted(row)) for row in places[:, :3].tolist()} == {(0, 1, 2)}


def test_no_vectors_find_nothing() -> None:
    _, places = Scan(np.zeros((0, 4), np.float32)).search(vectors_of(2, 4), 5)
    assert (places == -1).all()


def test_what_all_vectors_share_costs_no_recall() -> None:
    """A component of thirty in vectors that else differ by a third of one."""
    vectors = vectors_of(5_000, 64) * np.float32(0.3)
    vectors[:, 0] += 30
    queries = vectors_of(20, 64, 1)
    right = np.argsort(-(queries @ vectors.T), axis=1)[:, :150]
    _, places = Scan(vectors).search(queries, 150)
    shared = [len({*a.tolist()} & {*b.tolist()}) / 150 for a, b in zip(places, right, strict=True)]
    assert np.mean(shared) > 0.98


def test_a_batch_compiles_nothing_that_one_query_did_not() -> None:
    """Also where there are fewer vectors than wanted: no shopper waits for a compiler."""
    few = Scan(vectors_of(30, 8))
    few.search(vectors_of(1, 8), 150)
    before = len(_search.signatures)
    few.search(vectors_of(5, 8), 150)
    Scan(vectors_of(3_000, 8)).search(vectors_of(5, 8), 150)
    assert len(_search.signatures) == before


def test_a_batch_does_not_change_an_answer() -> None:
    """To the last bit: the same question may come alone or among sixty-three others."""
    scan, queries = Scan(vectors_of(7_001, 64)), vectors_of(64, 64, 1)
    together, places = scan.search(queries, 150)
    for i in range(0, 64, 7):
        alone, own = scan.search(queries[i : i + 1], 150)
        np.testing.assert_array_equal(own[0], places[i])
        np.testing.assert_array_equal(alone[0], together[i])


def test_bytes_find_what_full_vectors_find() -> None:
    """Recall of vectors that lie in heaps, as those of a trained tower do, at its size."""
    centres = RNG.normal(size=(200, 64))
    vectors = (centres[RNG.integers(200, size=20_000)] + RNG.normal(size=(20_000, 64)) / 2).astype(np.float32)
    queries = (centres[:50] + RNG.normal(size=(50, 64)) / 2).astype(np.float32)
    right = np.argsort(-(queries @ vectors.T), axis=1)[:, :150]
    _, places = Scan(vectors).search(queries, 150)
    shared = [len({*a.tolist()} & {*b.tolist()}) / 150 for a, b in zip(places, right, strict=True)]
    assert np.mean(shared) > 0.98
