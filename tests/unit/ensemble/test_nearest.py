"""The indexes: exact ones, those by lists, their files, and the recall that they must reach."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import faiss
import numpy as np
import pytest

from ensemble.candidate_sampler import nearest
from ensemble.candidate_sampler.arrays import SamplerArrays, load_arrays, save_arrays
from ensemble.candidate_sampler.nearest import (
    AIM,
    RECALL,
    Nearest,
    RecallError,
    build_index,
    exact_index,
    recall_of,
    sample_queries,
)
from ensemble.candidate_sampler.query import Query
from ensemble.candidate_sampler.sampler import CandidateSampler
from ensemble.candidate_sampler.sources import SIMILAR
from tests.building.world import arrays_of, proposed, random_shop, sampler_of, shop_of, tower_of

ITEMS = 2_000
LISTS = {"similar": 50, "cold": 3, "scan_up_to": 100}
SCANNED = LISTS | {"scan_up_to": ITEMS}


def shop_arrays() -> SamplerArrays:
    """Half of the items are cold, in 300 groups. The vectors lie in clusters, like a trained tower's."""
    rng = np.random.default_rng(5)
    shop = shop_of(
        [(1 + n % 3, n, rng.choice(np.arange(1, ITEMS + 1), 20, replace=False)) for n in range(600)],
        items=ITEMS,
        categories={"kind": [f"kind {n % 300}" for n in range(ITEMS)]},
    )
    arrays = arrays_of(shop, min_support=6, retrieval=tower_of(shop, rng, d=8))
    centres = rng.normal(size=(40, 8))[rng.integers(40, size=ITEMS + 1)]
    items = (centres + rng.normal(size=centres.shape) / 4).astype(np.float32)
    return arrays._replace(retrieval=arrays.retrieval._replace(items=items))


ARRAYS = shop_arrays()
QUERIES = np.random.default_rng(9).normal(size=(64, 8)).astype(np.float32)


def test_few_items_are_all_compared() -> None:
    """The largest inner products are computed by hand; bytes may miss some at the end of the list."""
    built, about = Nearest.build(ARRAYS, SCANNED)
    order = ARRAYS.popularity.order
    by_hand = order[np.argsort(-(QUERIES @ ARRAYS.retrieval.items[order].T), axis=1)]
    places = built.similar(QUERIES)
    for rows, right in zip(places, by_hand, strict=True):
        assert len({*rows.tolist()} & {*right[:50].tolist()}) >= 46
        assert {*right[:40].tolist()} <= {*rows.tolist()}
    assert about["similar"][:3] == (len(order), 0, 0)
    assert RECALL <= about["similar"].recall <= 1


def test_a_catalog_of_exactly_the_limit_is_scanned() -> None:
    many = len(ARRAYS.popularity.order)
    kinds = [Nearest.build(ARRAYS, SCANNED | {"scan_up_to": n})[1]["similar"].lists for n in (many, many - 1)]
    assert kinds == [0, round(2 * many**0.5)]


def test_lists_find_what_they_are_held_to_with_the_fewest_probes() -> None:
    """With one list fewer it would find less than AIM. Queries outside the sample find about as much."""
    vectors, queries = ARRAYS.retrieval.items[ARRAYS.popularity.order], sample_queries(ARRAYS)
    index, about = build_index("similar", vectors, queries, 50, 0)
    right = exact_index(vectors).search(queries, 50)[0]
    assert 1 < about.probes == index.nprobe < about.lists == index.nlist
    assert about.recall == pytest.approx(
        recall_of(index.search(queries, 50)[1], vectors, queries, right), abs=1e-4
    )
    assert about.recall >= AIM > RECALL
    index.nprobe = about.probes - 1
    assert recall_of(index.search(queries, 50)[1], vectors, queries, right) < AIM
    index.nprobe = about.probes
    right = exact_index(vectors).search(QUERIES, 50)[0]
    assert recall_of(index.search(QUERIES, 50)[1], vectors, QUERIES, right) > RECALL - 0.03


def test_vectors_that_half_precision_cannot_hold_are_refused() -> None:
    """Above 65,504 all values are infinite and so alike. The way out is to compare all items."""
    vectors = ARRAYS.retrieval.items * np.float32(1e6)
    with pytest.raises(
        RecallError, match=r"similar items finds 0\.\d+ .*; 0\.98 is the least.*scan_up_to to 2001"
    ):
        build_index("similar", vectors, sample_queries(ARRAYS), 50, 0)
    assert build_index("similar", vectors, QUERIES, 50, ITEMS + 1)[1].recall >= RECALL


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
@pytest.mark.parametrize("scan_up_to", [0, ITEMS + 1])
def test_vectors_that_are_no_numbers_are_refused(wrong: float, scan_up_to: int) -> None:
    """With one of them every query would find nothing, and nobody would notice."""
    vectors = ARRAYS.retrieval.items.copy()
    vectors[7, 3] = wrong
    with pytest.raises(RecallError, match="some vectors of similar items are not finite; train again"):
        build_index("similar", vectors, QUERIES, 50, scan_up_to)


def test_recall_counts_ties_and_not_what_is_missing() -> None:
    """The exact products are 3, 2, 2, and two places are filled; -1 is an empty place."""
    vectors, query = np.array([[1], [2], [2], [3]], np.float32), np.ones((1, 1), np.float32)
    right = exact_index(vectors).search(query, 2)[0]
    recalls = {(3, 1): 1.0, (3, 2): 1.0, (3, 0): 0.5, (3, -1): 0.5, (-1, -1): 0.0}
    for places, recall in recalls.items():
        assert recall_of(np.array([places]), vectors, query, right) == recall, places


def test_k_means_learns_from_the_long_vectors() -> None:
    """A sample of 50 from 1,000 vectors of length 1 and 10 of length 10 holds all ten. A small set is taken
    whole.
    """
    vectors = np.ones((1_010, 1), np.float32)
    vectors[::101] = 10
    assert (nearest._by_length(vectors, 50) == 10).sum() == 10
    np.testing.assert_array_equal(nearest._by_length(vectors, 1_010), vectors)


@pytest.mark.parametrize("limits", [SCANNED, LISTS], ids=["all", "lists"])
def test_what_is_saved_finds_the_same(limits: dict[str, int], tmp_path: Path) -> None:
    save_arrays(ARRAYS, tmp_path)
    built, about = Nearest.build(ARRAYS, limits)
    built.save(tmp_path)
    files = sorted(file.name for file in tmp_path.glob("nearest.*"))
    kind = "faiss" if limits is LISTS else "onnx"
    assert files == [f"nearest.cold.{kind}", f"nearest.similar.{kind}"]
    assert {bool(one.lists) for one in about.values()} == {limits is LISTS}
    loaded = Nearest.load(tmp_path, load_arrays(tmp_path), limits)
    for one in (Nearest.similar, Nearest.cold):
        found = one(built, QUERIES)
        assert found.any()
        np.testing.assert_array_equal(one(loaded, QUERIES), found)


def test_lists_stay_in_their_file(tmp_path: Path) -> None:
    """They are mapped and not copied: most of the index takes no memory of the process that reads it."""
    file = tmp_path / "big.faiss"
    vectors = np.random.default_rng(1).normal(size=(60_000, 32)).astype(np.float32)
    index, _ = build_index("similar", vectors, vectors[:8], 10, 0)
    faiss.write_index(index, str(file))
    code = (
        "import pathlib; from ensemble.candidate_sampler.nearest import map_index\n"
        "def anonymous():\n"
        "    lines = pathlib.Path('/proc/self/smaps_rollup').read_text().splitlines()\n"
        "    return next(int(l.split()[1]) for l in lines if l.startswith('Anonymous:'))\n"
        f"before = anonymous(); index = map_index(pathlib.Path({str(file)!r}))\n"
        "mappings = pathlib.Path('/proc/self/maps').read_text().count('big.faiss')\n"
        "print(anonymous() - before, mappings)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    grown_kib, mappings = map(int, done.stdout.split())
    assert mappings == 1
    assert grown_kib * 1024 < file.stat().st_size / 4


@pytest.mark.parametrize(("limits", "kind"), [(SCANNED, "onnx"), (LISTS, "faiss")])
def test_a_build_repeats_to_the_last_byte(limits: dict[str, int], kind: str, tmp_path: Path) -> None:
    """Other processes give the same bytes with any number of threads."""
    save_arrays(ARRAYS, tmp_path)
    code = (
        "import sys, pathlib; from ensemble.candidate_sampler.arrays import load_arrays\n"
        "from ensemble.candidate_sampler.nearest import Nearest; here = pathlib.Path(sys.argv[1])\n"
        f"Nearest.build(load_arrays(here.parent), {limits})[0].save(here)"
    )
    digests = set()
    for threads in ("1", "2"):
        folder = tmp_path / threads
        folder.mkdir()
        subprocess.run(
            [sys.executable, "-c", code, str(folder)],
            check=True,
            env={
                "OMP_NUM_THREADS": threads,
                "PYTHONPATH": ":".join(sys.path),
                "PYTHONDONTWRITEBYTECODE": "1",
            },
        )
        digests.add(hashlib.sha256((folder / f"nearest.similar.{kind}").read_bytes()).hexdigest())
    assert len(digests) == 1


def test_one_thread_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Afterwards faiss uses its threads again."""
    threads: list[int] = []
    whole = nearest._in_lists

    def noting(vectors: np.ndarray) -> object:
        threads.append(faiss.omp_get_max_threads())
        return whole(vectors)

    monkeypatch.setattr(nearest, "_in_lists", noting)
    before = faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(3)
        Nearest.build(ARRAYS, LISTS)
        assert (set(threads), faiss.omp_get_max_threads()) == ({1}, 3)
    finally:
        faiss.omp_set_num_threads(before)


@pytest.mark.parametrize(("limits", "kind"), [(SCANNED, "onnx"), (LISTS, "faiss")])
def test_a_file_that_is_missing_or_of_other_arrays_is_named(
    limits: dict[str, int], kind: str, tmp_path: Path
) -> None:
    save_arrays(ARRAYS, tmp_path)
    with pytest.raises(FileNotFoundError, match=rf"nearest\.similar\.{kind} is missing; publish"):
        Nearest.load(tmp_path, ARRAYS, limits)
    Nearest.build(ARRAYS, limits)[0].save(tmp_path)
    fewer = ARRAYS._replace(popularity=ARRAYS.popularity._replace(order=ARRAYS.popularity.order[:-1]))
    with pytest.raises(
        ValueError, match=rf"nearest\.similar\.{kind} indexes \d+ vectors of 8; the arrays have"
    ):
        Nearest.load(tmp_path, fewer, limits)


def test_the_sampler_proposes_the_same_by_either() -> None:
    """Only a few of the nearest, which lists miss, differ; other sources propose the same."""
    queries = [Query(user_row=1 + n % 3, basket=[n + 1, 2 * n + 3]) for n in range(40)]
    exact, lists = (
        sampler_of(ARRAYS, capacity=800, similar=50, scan_up_to=n).sample(queries) for n in (ITEMS, 100)
    )
    same = []
    for number in range(len(queries)):
        a, b = proposed(exact, number), proposed(lists, number)
        near = {row for row, bits in a.items() if bits & SIMILAR}
        same.append(len(near & {row for row, bits in b.items() if bits & SIMILAR}) / len(near))
        assert {row: bits & ~SIMILAR for row, bits in a.items() if bits != SIMILAR} == {
            row: bits & ~SIMILAR for row, bits in b.items() if bits != SIMILAR
        }
    assert 0.95 < np.mean(same) < 1.0


def test_a_sample_asks_with_and_without_users() -> None:
    """User 1 has one basket, of items 2 and 3: its first query has the user. A shop of one basket has no
    second query.
    """
    shop = shop_of([(1, 0, [2, 3]), (1, 1, [1])], items=3)
    tower = tower_of(shop, np.random.default_rng(2))
    users, basket = tower.users, tower.basket
    by_hand = np.array([users[1] + (basket[2] + basket[3]) / np.sqrt(np.float32(2)), users[0] + basket[1]])
    np.testing.assert_allclose(sample_queries(arrays_of(shop, retrieval=tower)), by_hand, rtol=1e-6)


def test_a_shop_without_users_asks_about_its_best_sellers() -> None:
    shop = random_shop(np.random.default_rng(3))
    arrays = arrays_of(shop, retrieval=tower_of(shop, np.random.default_rng(4), d=8))
    nobody = arrays.histories._replace(times=arrays.histories.times[:0])
    order, tower = arrays.popularity.order, arrays.retrieval
    queries = sample_queries(arrays._replace(histories=nobody))
    assert len(queries) == len(order)
    np.testing.assert_array_equal(queries[1], tower.users[0] + tower.basket[order[1]])


def test_a_loaded_release_is_searched_by_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No index is built again."""
    limits = LISTS | {"capacity": 60, "basket_slots": 200, "popular": 0, "per_category": 0}
    limits |= {"basket_categories": 1, "fill": 0, "width": 4096}
    save_arrays(ARRAYS, tmp_path)
    (tmp_path / "limits.json").write_text(json.dumps(limits))
    built = Nearest.build(ARRAYS, limits)[0]
    built.save(tmp_path)
    right = CandidateSampler(ARRAYS, limits, built).sample([Query(basket=[1])])
    monkeypatch.delattr(nearest, "_in_lists")
    candidates = CandidateSampler.load(tmp_path).sample([Query(basket=[1])])
    np.testing.assert_array_equal(candidates.rows, right.rows)


def test_what_nothing_is_asked_of_has_no_index(tmp_path: Path) -> None:
    limits = SCANNED | {"similar": 0}
    built, about = Nearest.build(ARRAYS, limits)
    built.save(tmp_path)
    assert list(about) == ["cold"]
    assert [file.name for file in tmp_path.iterdir()] == ["nearest.cold.onnx"]
    loaded = Nearest.load(tmp_path, ARRAYS, limits)
    assert loaded.similar(QUERIES).shape == (len(QUERIES), 0)
    np.testing.assert_array_equal(loaded.cold(QUERIES), built.cold(QUERIES))
