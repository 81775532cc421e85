"""Counts and histories by partition: the same bytes from 1, 2 and 4 processes."""

import hashlib
from collections.abc import Iterator

import numpy as np
import pytest

from export_scripts.engines.interface import Engine
from export_scripts.engines.local import open_local
from export_scripts.snapshots import counts
from export_scripts.snapshots.partitions import (
    Baskets,
    Countable,
    Receipts,
    Users,
    count_in_parts,
    count_part,
    cut_baskets,
    histories_in_parts,
    make_histories,
    merge_histories,
)
from tests.building.world import random_shop

SHOP = random_shop(np.random.default_rng(4), users=30)
LINES = counts.lines_of(SHOP, largest=10)
FINEST = counts.categories(SHOP, SHOP.n_baskets)[0].finest()
RECEIPTS = Receipts(SHOP.offsets, SHOP.items, SHOP.users, SHOP.times, SHOP.n_users, most=5)


@pytest.fixture(scope="module", params=[1, 2, 4])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with open_local(request.param) as opened:
        yield opened


def digest(arrays: tuple[np.ndarray, ...]) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


ALL = Baskets(0, SHOP.n_baskets)
KINDS = {"items": Countable(LINES), "categories": Countable(LINES, FINEST, int(FINEST.max()) + 1)}


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_are_the_same_from_any_number_of_processes(engine: Engine, kind: str) -> None:
    assert digest(count_in_parts(KINDS[kind], ALL, engine)) == digest(count_part(KINDS[kind], ALL))


def test_histories_are_the_same_from_any_number_of_processes(engine: Engine) -> None:
    whole = make_histories(RECEIPTS, Users(0, 1))
    assert digest(histories_in_parts(RECEIPTS, engine)) == digest(whole)


def test_a_worker_makes_the_histories_of_its_users_only() -> None:
    parts = [make_histories(RECEIPTS, Users(k, 3)) for k in range(3)]
    assert sum(len(part.times) for part in parts) == len(merge_histories(parts).times)
    assert all(np.diff(part.user_offsets).max() == 5 for part in parts)


@pytest.mark.parametrize("n", [1, 2, 7, 1000])
def test_ranges_of_baskets_have_about_equal_lines(n: int) -> None:
    parts = cut_baskets(SHOP.offsets, Baskets(20, 200), n)
    assert parts[0].start == 20
    assert parts[-1].end == 200
    assert [part.start for part in parts[1:]] == [part.end for part in parts[:-1]]
    sizes = [SHOP.offsets[part.end] - SHOP.offsets[part.start] for part in parts]
    assert max(sizes) - min(sizes) <= 24  # two baskets
    assert min(n, 170) <= len(parts) <= min(n, 180)


def test_no_baskets_are_one_empty_range() -> None:
    assert cut_baskets(SHOP.offsets, Baskets(0, 0), 4) == [Baskets(0, 0)]
