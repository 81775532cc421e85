"""The stock of a shop: versions in order, parts, and what an acknowledgement waits for."""

import fcntl
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ensemble.candidate_sampler.live.change_log import FOLLOWERS, GONE
from operations.errors import CestaError
from operations.live import stock as module
from operations.live import table, uploads
from operations.live.stock import NotKept, OlderVersion, Part, Stock
from operations.live.table import LiveTable, Version
from tests.running.stack import eventually

WAIT_S = 30.0


class Sampler:
    """A process that follows the stock, as far as its file tells."""

    def __init__(self, folder: Path, version: int) -> None:
        path = folder / FOLLOWERS / f"{version}.json"
        path.parent.mkdir(exist_ok=True)
        self._file = path.open("w+")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self.apply(version)

    def apply(self, version: int) -> None:
        told = {"release": "3", "model_instance": "0", "version": version}
        self._file.seek(0)
        self._file.write(json.dumps(told).ljust(200))
        self._file.flush()

    def end(self) -> None:
        self._file.close()


@pytest.fixture
def told() -> list[str]:
    """The keys that the gateway was given."""
    return []


@pytest.fixture
def start(tmp_path: Path, told: list[str]) -> Iterator[Callable[[], Stock]]:
    stocks: list[Stock] = []

    def begin() -> Stock:
        stocks.append(stock := Stock(tmp_path, told.append))
        threading.Thread(target=stock.run, daemon=True).start()
        return stock

    yield begin
    for stock in stocks:
        stock.end()


def gone(*items: str, number: int = 0, replace: bool = False) -> Version:
    return Version(number, {("", item): GONE for item in items}, replace)


def test_changes_that_come_together_are_one_version_of_the_samplers(
    start: Callable[[], Stock], told: list[str], tmp_path: Path
) -> None:
    """Each is acknowledged by its own number."""
    stock = start()
    outcomes = [stock.put(None, gone(f"item-{n}")) for n in range(20)]
    assert [outcome.result(WAIT_S).version for outcome in outcomes] == list(range(1, 21))
    assert len(told) < 10
    assert LiveTable(tmp_path).gone() == 20


def test_an_acknowledgement_waits_for_the_samplers_and_tells_the_gateway_afterwards(
    start: Callable[[], Stock], told: list[str], tmp_path: Path
) -> None:
    stock, sampler = start(), Sampler(tmp_path, 0)
    outcome = stock.put(5, gone("milk"))
    eventually(lambda: stock.table.version == 5)
    assert told == []
    sampler.apply(5)
    done = outcome.result(WAIT_S)
    assert (done.samplers, done.applied, stock.lag_s()) == (1, 1, 0)
    assert [key.partition(".")[0] for key in told] == ["5"]
    sampler.end()


def test_a_sampler_that_is_late_changes_the_key_once_more(
    start: Callable[[], Stock], told: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sampler's late answers lie in the cache under the first key."""
    monkeypatch.setattr(module, "APPLIED_S", 0.05)
    stock, sampler = start(), Sampler(tmp_path, 0)
    done = stock.put(5, gone("milk")).result(WAIT_S)
    assert (done.samplers, done.applied) == (1, 0)
    assert len(told) == 1
    assert stock.lag_s() > 0
    sampler.apply(5)
    eventually(lambda: len(told) == 2)
    assert told[0] != told[1]
    eventually(lambda: stock.lag_s() == 0)
    sampler.end()


def test_versions_are_refused_that_are_not_newer(start: Callable[[], Stock]) -> None:
    """The same content is acknowledged again, also while it waits."""
    stock = start()
    first, again = stock.put(7, gone("milk")), stock.put(7, gone("milk"))
    assert first.result(WAIT_S) == again.result(WAIT_S)
    assert stock.put(7, gone("milk")).result(WAIT_S).changed == 0
    with pytest.raises(OlderVersion, match="version 7 is known with other content; send version 8"):
        stock.put(7, gone("bread"))
    with pytest.raises(OlderVersion, match="version 6 is older than version 7"):
        stock.put(6, gone("milk"))
    assert stock.refused == 2


def test_parts_outlive_a_restart_and_count_together(start: Callable[[], Stock]) -> None:
    assert start().put_part(gone("milk", number=3), Part(2, 2)) == 1
    stock = start()
    with pytest.raises(CestaError, match="part 1 of 3 does not fit; parts: 2"):
        stock.put_part(gone("bread", number=3), Part(1, 3))
    outcome = stock.put_part(gone("bread", number=3), Part(1, 2))
    assert not isinstance(outcome, int)
    assert outcome.result(WAIT_S).changed == 2
    assert stock.table.gone() == 2


def test_parts_with_too_many_pairs_are_refused_while_they_are_read(
    start: Callable[[], Stock], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "MOST_PAIRS", 1)
    stock = start()
    stock.put_part(gone("milk", "bread", number=3), Part(1, 2))
    with pytest.raises(CestaError, match="version 3 has over 1 pairs"):
        stock.put_part(gone("tea", number=3), Part(2, 2))
    assert stock.put(4, gone("tea")).result(WAIT_S).version == 4


def test_versions_that_wait_count_against_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They become one version, which the table must have room for."""
    monkeypatch.setattr(table, "MOST_STORES", 2)
    stock = Stock(tmp_path, lambda _: None)
    for store in ("a", "b"):
        stock.put(None, Version(0, {(store, "milk"): GONE}))
    with pytest.raises(CestaError, match="over 2 stores"):
        stock.put(None, Version(0, {("c", "milk"): GONE}))


def test_a_newer_version_ends_parts(start: Callable[[], Stock]) -> None:
    stock = start()
    stock.put_part(gone("milk", number=3), Part(1, 2))
    stock.put_part(gone("tea", number=4), Part(1, 2))
    with pytest.raises(OlderVersion, match="version 3 is older than version 4"):
        stock.put_part(gone("bread", number=3), Part(2, 2))
    stock.put(5, gone("eggs")).result(WAIT_S)
    with pytest.raises(OlderVersion, match="version 4 is older than version 5"):
        stock.put_part(gone("bread", number=4), Part(2, 2))


def test_on_a_full_disk_nothing_is_acknowledged(
    start: Callable[[], Stock], told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The version before holds, and the next change is kept again once there is room."""
    stock = start()
    stock.put(1, gone("milk")).result(WAIT_S)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "x")

    with monkeypatch.context() as patch:
        patch.setattr(stock.table, "write", full)
        with pytest.raises(NotKept, match="version 2 was not kept: x: No space left on device; free some"):
            stock.put(2, gone("bread")).result(WAIT_S)
    assert stock.is_available("bread", "")
    assert stock.put(2, gone("bread")).result(WAIT_S).version == 2


def test_a_start_gives_the_gateway_a_new_key(start: Callable[[], Stock], told: list[str]) -> None:
    """Whatever an earlier one was: the cache may hold answers of then."""
    start().put(1, gone("milk")).result(WAIT_S)
    start()
    eventually(lambda: len(told) == 2)
    assert len({*told}) == 2
