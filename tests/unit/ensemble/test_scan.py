"""The scan over bytes: which items, in which order; and an answer is the same in any batch."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.candidate_sampler.scan import STEPS, Scan, _in_steps, _select, coded, scan_graph

RNG = np.random.default_rng(3)


def vectors_of(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def scan_of(vectors: np.ndarray) -> Scan:
    return Scan(scan_graph(vectors))


def rounded(queries: np.ndarray) -> np.ndarray:
    """Vectors as the scan reads them, in steps of their largest component."""
    longest = np.abs(queries).max(1, keepdims=True)
    return np.rint(queries * (np.float32(STEPS) / longest))


@pytest.mark.parametrize("d", [1, 3, 4, 64, 70])
def test_codes_stand_for_the_vectors(d: int) -> None:
    """They are exact to half a step; 127 steps span the largest component."""
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
    """The products of codes and rounded queries are sorted as numpy sorts them, to the last bit."""
    vectors, query = vectors_of(n, d, seed), vectors_of(1, d, seed + 1)
    codes, scales = coded(vectors - vectors.mean(0))
    products = codes.astype(np.int64) @ rounded(query)[0].astype(np.int64)
    right = products.astype(np.float32) * scales
    scores, places = scan_of(vectors).search(query, wanted)
    found = places[0][places[0] >= 0]
    assert len(found) == min(n, wanted) == len(set(found.tolist()))
    np.testing.assert_array_equal(scores[0, : len(found)], right[found])
    first = np.lexsort((np.arange(n), -right))[: len(found)]
    assert set(found.tolist()) == set(first.tolist())


def test_of_equals_those_that_come_first_are_found() -> None:
    vectors = np.ones((4_000, 4), np.float32)
    vectors[3_900] *= 2
    _, places = scan_of(vectors).search(np.ones((1, 4), np.float32), 10)
    assert sorted(places[0].tolist()) == [*range(9), 3_900]


def test_fewer_vectors_than_wanted_leave_places_empty() -> None:
    scores, places = scan_of(vectors_of(3, 4)).search(vectors_of(2, 4, 1), 5)
    assert (places[:, 3:] == -1).all()
    assert np.isneginf(scores[:, 3:]).all()
    assert {tuple(sorted(row)) for row in places[:, :3].tolist()} == {(0, 1, 2)}


def test_no_vectors_find_nothing() -> None:
    _, places = scan_of(np.zeros((0, 4), np.float32)).search(vectors_of(2, 4), 5)
    assert (places == -1).all()


def test_what_all_vectors_share_costs_no_recall() -> None:
    """All vectors share a component of thirty and otherwise differ by a third of one."""
    vectors = vectors_of(5_000, 64) * np.float32(0.3)
    vectors[:, 0] += 30
    queries = vectors_of(20, 64, 1)
    right = np.argsort(-(queries @ vectors.T), axis=1)[:, :150]
    _, places = scan_of(vectors).search(queries, 150)
    shared = [len({*a.tolist()} & {*b.tolist()}) / 150 for a, b in zip(places, right, strict=True)]
    assert np.mean(shared) > 0.98


def test_a_batch_compiles_nothing_that_one_query_did_not() -> None:
    """This also holds with fewer vectors than wanted: no shopper waits for a compiler."""
    few = scan_of(vectors_of(30, 8))
    few.search(vectors_of(1, 8), 150)
    before = len(_select.signatures), len(_in_steps.signatures)
    few.search(vectors_of(5, 8), 150)
    scan_of(vectors_of(3_000, 8)).search(vectors_of(5, 8), 150)
    assert (len(_select.signatures), len(_in_steps.signatures)) == before


def test_a_batch_does_not_change_an_answer() -> None:
    """The answers agree to the last bit: the same query may come alone or among sixty-three others."""
    scan, queries = scan_of(vectors_of(7_001, 64)), vectors_of(64, 64, 1)
    products, places = scan.search(queries, 150)
    for i in range(0, 64, 7):
        single_products, single_places = scan.search(queries[i : i + 1], 150)
        np.testing.assert_array_equal(single_places[0], places[i])
        np.testing.assert_array_equal(single_products[0], products[i])


def test_bytes_find_what_full_vectors_find() -> None:
    """The vectors lie in clusters, as those of a trained tower of its size do."""
    centres = RNG.normal(size=(200, 64))
    vectors = (centres[RNG.integers(200, size=20_000)] + RNG.normal(size=(20_000, 64)) / 2).astype(np.float32)
    queries = (centres[:50] + RNG.normal(size=(50, 64)) / 2).astype(np.float32)
    right = np.argsort(-(queries @ vectors.T), axis=1)[:, :150]
    _, places = scan_of(vectors).search(queries, 150)
    shared = [len({*a.tolist()} & {*b.tolist()}) / 150 for a, b in zip(places, right, strict=True)]
    assert np.mean(shared) > 0.98


def test_a_query_of_zeros_finds_those_that_come_first() -> None:
    """An unknown user with an unknown basket has this query; all items are equally near."""
    _, places = scan_of(vectors_of(3_000, 8)).search(np.zeros((1, 8), np.float32), 20)
    assert sorted(places[0].tolist()) == list(range(20))


def test_the_largest_bytes_do_not_overflow() -> None:
    """Some processors add two products in 16 bits. These products are the largest of either sign."""
    vectors = np.ones((2_000, 64), np.float32)
    vectors[1_000:] = -1
    queries = np.stack([np.ones(64, np.float32), -np.ones(64, np.float32)])
    scores, places = scan_of(vectors).search(queries, 5)
    assert (places[0] < 1_000).all()
    assert (places[1] >= 1_000).all()
    assert (STEPS + 1 + STEPS) * 127 * 2 < 2**15
    np.testing.assert_allclose(scores, STEPS * 64)


def test_what_is_saved_finds_the_same(tmp_path: Path) -> None:
    scan, queries = scan_of(vectors_of(500, 8)), vectors_of(3, 8, 1)
    scan.save(tmp_path / "one.onnx")
    again = Scan(tmp_path / "one.onnx")
    again.save(tmp_path / "two.onnx")
    assert again.shape == (500, 8)
    for found, right in zip(
        Scan(tmp_path / "two.onnx").search(queries, 20), scan.search(queries, 20), strict=True
    ):
        np.testing.assert_array_equal(found, right)


def test_serving_does_not_import_onnx(tmp_path: Path) -> None:
    """The serving environment has no onnx; only code that makes a graph imports it."""
    scan_of(vectors_of(50, 8)).save(tmp_path / "scan.onnx")
    code = (
        "import sys, numpy as np; from pathlib import Path\n"
        "from ensemble.candidate_sampler.scan import Scan\n"
        f"Scan(Path({str(tmp_path / 'scan.onnx')!r})).search(np.ones((1, 8), np.float32), 5)\n"
        "print('onnx' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
