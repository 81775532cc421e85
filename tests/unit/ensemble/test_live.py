"""Forbidden items: a table by row, and the thread that follows the log."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ensemble.candidate_sampler.ids import Ids, Rows
from ensemble.candidate_sampler.live.change_log import (
    AVAILABLE,
    BETWEEN,
    FOLLOWERS,
    GONE,
    STOCK,
    UNSAID,
    Change,
    Group,
    encode,
)
from ensemble.candidate_sampler.live.follower import Follower
from ensemble.candidate_sampler.live.forbidden import Forbidden
from tests.running.stack import eventually

ITEMS = Rows(Ids.pack([b"", b"milk", b"bread", b"eggs"]))
LABELS = {"release": "7", "model_instance": "0"}


def change(version: int, *entries: tuple[str, str, int], replace: bool = False) -> Change:
    return Change(
        version, 0.0, replace, tuple(Group(store, state, 1, item.encode()) for store, item, state in entries)
    )


def forbidden(table: Forbidden, store: bytes = b"") -> list[int]:
    return [row for row in range(1, 4) if table.is_forbidden(row, store)]


@pytest.fixture
def table() -> Forbidden:
    return Forbidden(4, ITEMS.find_joined)


def test_ids_that_are_joined_are_found_in_order() -> None:
    found: NDArray[np.int32] = ITEMS.find_joined(BETWEEN.join([b"eggs", b"tea", b"milk"]), 3)
    assert found.tolist() == [3, 0, 1]
    with pytest.raises(ValueError, match="another number of ids than 2"):
        ITEMS.find_joined(b"eggs", 2)


def test_a_table_without_entries_has_one_byte(table: Forbidden) -> None:
    """The sampler then looks at no item. Items of another release leave it so."""
    table.apply([change(4, ("", "tea", GONE))])
    assert table.bytes_by_item.shape == (1, 1)
    assert table.version == 4
    assert forbidden(table) == []


def test_a_store_follows_the_whole_shop_until_it_says_something_itself(table: Forbidden) -> None:
    table.apply([change(1, ("", "milk", GONE), ("A", "milk", AVAILABLE), ("A", "eggs", GONE))])
    assert (forbidden(table), forbidden(table, b"A"), forbidden(table, b"B")) == ([1], [3], [1])
    table.apply([change(2, ("", "bread", GONE), ("", "milk", AVAILABLE))])
    assert (forbidden(table), forbidden(table, b"A")) == ([2], [2, 3])
    table.apply([change(3, ("A", "eggs", UNSAID), ("A", "bread", AVAILABLE))])
    assert (forbidden(table), forbidden(table, b"A")) == ([2], [])
    table.apply([change(4, ("", "bread", AVAILABLE), ("A", "bread", UNSAID))])
    assert (forbidden(table), forbidden(table, b"A")) == ([], [])


def test_a_replacement_leaves_nothing_of_before(table: Forbidden) -> None:
    table.apply([change(1, ("A", "milk", GONE)), change(2, ("", "eggs", GONE), replace=True)])
    assert (forbidden(table), forbidden(table, b"A")) == ([3], [3])


def test_stores_whose_entries_ended_take_no_memory(table: Forbidden) -> None:
    """A shop may name other stores each day; those that say nothing any more make room for them."""
    table.apply([change(1, ("kept", "eggs", GONE), ("", "milk", GONE))])
    for n in range(2, 60, 2):
        table.apply([change(n, (f"store-{n}", "bread", GONE))])
        table.apply([change(n + 1, (f"store-{n}", "bread", UNSAID), (f"other-{n}", "bread", UNSAID))])
    assert len(table.bytes_by_item) <= 4
    assert forbidden(table, b"kept") == [1, 3]
    assert forbidden(table, b"store-2") == forbidden(table) == [1]


def test_a_follower_applies_what_the_log_gains(tmp_path: Path, table: Forbidden) -> None:
    """From its first moment on; what is not finished waits, and a log that is written anew replaces all."""
    log = tmp_path / STOCK
    log.write_bytes(encode(change(1, ("", "milk", GONE))))
    follower = Follower(tmp_path, table, LABELS)
    assert (table.version, forbidden(table)) == (1, [1])
    second = encode(change(2, ("", "bread", GONE)))
    with log.open("ab") as file:
        file.write(second[:-2])
        file.flush()
        eventually(lambda: follower._damage)
        assert table.version == 1
        file.write(second[-2:])
    eventually(lambda: table.version == 2)
    (told,) = (tmp_path / FOLLOWERS).glob("*.json")
    eventually(lambda: json.loads(told.read_text())["version"] == 2)
    fresh = tmp_path / "fresh"
    fresh.write_bytes(encode(change(3, ("", "eggs", GONE))))
    fresh.replace(log)
    eventually(lambda: table.version == 3)
    assert forbidden(table) == [3]
    follower.close()
