"""The table of the stock: versions on disk, damage, and a log that is written anew."""

from pathlib import Path

import pytest

from ensemble.candidate_sampler.live.change_log import AVAILABLE, GONE, STOCK, UNSAID, read_from
from operations.errors import CestaError
from operations.live import table
from operations.live.table import BEFORE, LiveTable, Version, merged


@pytest.fixture
def two_versions(tmp_path: Path) -> Path:
    """Version 3: milk is gone everywhere but in store 7. Version 5: bread is gone."""
    stock = LiveTable(tmp_path)
    stock.write(Version(3, {("", "milk"): GONE, ("7", "milk"): AVAILABLE}))
    stock.write(Version(5, {("", "bread"): GONE}))
    return tmp_path


def test_a_store_s_own_entry_counts_before_that_of_the_whole_shop(two_versions: Path) -> None:
    stock = LiveTable(two_versions)
    assert (stock.version, stock.pairs(), stock.stores(), stock.gone()) == (5, 3, 1, 2)
    assert [stock.is_available("milk", store) for store in ("", "7", "8")] == [False, True, False]
    assert not stock.is_available("bread", "7")
    stock.write(Version(6, {("7", "milk"): UNSAID, ("", "bread"): AVAILABLE}))
    assert not stock.is_available("milk", "7")
    assert stock.pairs() == 1


def test_a_replacement_forgets_what_it_does_not_name(two_versions: Path) -> None:
    LiveTable(two_versions).write(Version(9, {("", "eggs"): GONE}, replace=True))
    stock = LiveTable(two_versions)
    assert (stock.version, stock.pairs()) == (9, 1)
    assert stock.is_available("milk")


@pytest.mark.parametrize("lost", [1, 20])
def test_a_version_that_was_not_finished_is_not_there(two_versions: Path, lost: int) -> None:
    """A kill in the middle of a write leaves the version before; the next write goes on from there."""
    log = two_versions / STOCK
    log.write_bytes(log.read_bytes()[:-lost])
    stock = LiveTable(two_versions)
    assert stock.version == 3
    assert stock.is_available("bread")
    assert "version 3 holds" in stock.damage
    stock.write(Version(6, {("", "eggs"): GONE}))
    assert [change.version for change in read_from(log).changes] == [3, 6]


def test_a_log_whose_beginning_is_damaged_is_replaced_by_the_one_before(
    two_versions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log is written anew once it has grown; the earlier one then holds what was true before."""
    monkeypatch.setattr(table, "LEAST_REWRITTEN_BYTES", 1)
    stock = LiveTable(two_versions)
    for number in range(6, 20):
        stock.write(Version(number, {("", f"item-{number}"): GONE}))
    assert (two_versions / BEFORE).exists()
    earlier = read_from(two_versions / BEFORE).changes[-1].version
    log = two_versions / STOCK
    log.write_bytes(b"x" + log.read_bytes()[1:])
    stock = LiveTable(two_versions)
    assert stock.version == earlier
    assert not stock.is_available("milk")
    assert f"version {earlier} holds" in stock.damage
    assert read_from(log).changes[-1].version == earlier  # the samplers have it, too


def test_a_version_that_finds_no_room_changes_nothing(
    two_versions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the table nor the file."""
    before = (two_versions / STOCK).read_bytes()
    stock = LiveTable(two_versions)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        stock.write(Version(6, {("", "eggs"): GONE}))
    assert stock.version == 5
    assert stock.is_available("eggs")
    assert (two_versions / STOCK).read_bytes() == before


def test_another_writer_s_versions_are_read_before_a_write(two_versions: Path) -> None:
    """A supervisor that replaces another may start before that one ends."""
    first, second = LiveTable(two_versions), LiveTable(two_versions)
    first.write(Version(6, {("", "eggs"): GONE}))
    second.write(Version(7, {("", "tea"): GONE}))
    stock = LiveTable(two_versions)
    assert not any(stock.is_available(item) for item in ("milk", "bread", "eggs", "tea"))


def test_a_table_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "MOST_PAIRS", 1)
    with pytest.raises(CestaError, match="over 1 pairs"):
        LiveTable(tmp_path).check_room(Version(1, {("", "a"): GONE, ("", "b"): GONE}))


def test_a_full_table_takes_changes_of_what_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "MOST_PAIRS", 1)
    stock = LiveTable(tmp_path)
    stock.write(Version(1, {("7", "a"): GONE}))
    stock.check_room(Version(2, {("7", "a"): AVAILABLE, ("", "b"): AVAILABLE}))
    stock.check_room(Version(2, {("7", "a"): UNSAID}))


def test_a_thousand_stores_with_the_longest_names_are_read_again(tmp_path: Path) -> None:
    """JSON writes a control character in six letters, so the line before the ids takes over 1 MiB."""
    stores = [f"{n:04}{chr(1) * 124}" for n in range(table.MOST_STORES)]
    states = {(store, item): state for store in stores for item, state in (("a", GONE), ("b", AVAILABLE))}
    LiveTable(tmp_path).write(Version(1, states))
    stock = LiveTable(tmp_path)
    assert (stock.damage, stock.pairs()) == ("", 2 * table.MOST_STORES)


def test_versions_that_come_together_are_one() -> None:
    """The last word counts; what came before a replacement does not."""
    milk, bread = ("", "milk"), ("", "bread")
    one = merged([Version(1, {milk: GONE}), Version(2, {bread: GONE}, True), Version(4, {bread: AVAILABLE})])
    assert one == Version(4, {bread: AVAILABLE}, True)
