"""One battery over all stores of events: nothing acknowledged is lost, nothing is counted twice."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from operations.events.event import Event, read_event
from operations.events.store import EventStore, Offset, Outcome, State
from tests import ROOT
from tests.running.event_stores import Folder, RedisServer, purchase

STORES = {"folder": Folder, "redis": RedisServer}


@pytest.fixture(params=STORES)
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Folder | RedisServer]:
    home = STORES[request.param](tmp_path / "events")
    yield home
    home.close()


@pytest.fixture
def store(home: Folder | RedisServer) -> Iterator[EventStore]:
    store = home.open()
    yield store
    store.close()


def ids(store: EventStore) -> list[str]:
    return [read_event(logged.content).event_id for logged in store.read(0)]


def test_events_get_growing_positions_and_come_back_whole(store: EventStore) -> None:
    first = purchase("e1", "bread", "milk", user_id="u7", store_id="s1", at_ms=500, request_id="r")
    second = Event("returned", "e2", "basket of e1", ("milk",))
    outcomes = store.append([first, second], 1000)
    assert outcomes == [Outcome(State.ACCEPTED, 1), Outcome(State.ACCEPTED, 2)]
    logged = store.read(0)
    assert [read_event(each.content) for each in logged] == [first, second]
    assert [(each.position, each.at_ms, each.received_ms) for each in logged] == [
        (1, 500, 1000),
        (2, 1000, 1000),
    ]


def test_a_time_ahead_of_the_clock_counts_as_now(store: EventStore) -> None:
    store.append([purchase("e1", at_ms=2000)], 1000)
    (logged,) = store.read(0)
    assert logged.at_ms == 1000
    assert read_event(logged.content).at_ms == 2000


def test_the_same_event_again_is_known_at_its_position(store: EventStore) -> None:
    store.append([purchase("e1"), purchase("e2")], 1)
    assert store.append([purchase("e1")], 2) == [Outcome(State.KNOWN, 1)]
    assert store.append([purchase("e3")], 3) == [Outcome(State.ACCEPTED, 3)]
    assert ids(store) == ["e1", "e2", "e3"]


def test_another_event_with_a_known_id_is_refused_and_the_first_one_stays(store: EventStore) -> None:
    store.append([purchase("e1", "milk")], 1)
    assert store.append([purchase("e1", "beer")], 2) == [Outcome(State.CHANGED, 1)]
    (logged,) = store.read(0)
    assert read_event(logged.content).item_ids == ("milk",)


def test_an_event_twice_in_one_call_is_kept_once(store: EventStore) -> None:
    outcomes = store.append([purchase("e1"), purchase("e1"), purchase("e1", "beer")], 1)
    assert [outcome.state for outcome in outcomes] == [State.ACCEPTED, State.KNOWN, State.CHANGED]
    assert ids(store) == ["e1"]


def test_a_reader_goes_on_from_a_position(store: EventStore) -> None:
    store.append([purchase(f"e{n}") for n in range(1, 6)], 1)
    assert [logged.position for logged in store.read(2, most=2)] == [3, 4]
    assert store.read(5) == []
    assert store.last_position() == 5


def test_a_log_keeps_its_name_and_its_events_when_it_is_opened_again(home: Folder | RedisServer) -> None:
    store = home.open()
    name = store.log_id()
    store.append([purchase("e1")], 1)
    store.close()
    again = home.open()
    assert (again.log_id(), again.last_position(), ids(again)) == (name, 1, ["e1"])
    assert again.append([purchase("e1")], 2) == [Outcome(State.KNOWN, 1)]
    again.close()
    assert len(name) == 32


def test_two_writers_share_the_positions(home: Folder | RedisServer) -> None:
    one, two = home.open(), home.open()
    assert one.append([purchase("e1")], 1) == [Outcome(State.ACCEPTED, 1)]
    assert two.append([purchase("e1"), purchase("e2")], 1) == [
        Outcome(State.KNOWN, 1),
        Outcome(State.ACCEPTED, 2),
    ]
    assert one.append([purchase("e3")], 1) == [Outcome(State.ACCEPTED, 3)]
    assert ids(two) == ["e1", "e2", "e3"]
    one.close()
    two.close()


def test_a_second_store_of_the_process_takes_nothing_from_the_first(home: Folder | RedisServer) -> None:
    """Another process opens and closes the log in between, and would tidy up what nobody seems to use."""
    command = [sys.executable, "-m", "operations.cli", "events", "export", "--store", home.address]

    def export() -> list[str]:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
        return [json.loads(line)["event_id"] for line in done.stdout.splitlines()]

    first = home.open()
    first.append([purchase("e1")], 1)
    home.open().close()
    assert export() == ["e1"]
    first.append([purchase("e2")], 1)
    assert export() == ["e1", "e2"]
    first.close()


def test_offsets_are_kept_with_the_events_and_never_go_back(store: EventStore) -> None:
    assert store.offsets("sales") == {}
    store.append([purchase("e1")], 1, [Offset("sales", 0, 5), Offset("sales", 1, 7)])
    store.append([], 1, [Offset("sales", 0, 4), Offset("other", 0, 1)])
    assert store.offsets("sales") == {0: 5, 1: 7}
    assert store.offsets("other") == {0: 1}


def test_a_log_with_events_takes_space(store: EventStore) -> None:
    store.append([purchase(f"e{n}", "milk" * 30) for n in range(500)], 1)
    assert store.size_bytes() > 500 * 120


def test_a_writer_killed_at_any_step_loses_nothing_acknowledged_and_keeps_nothing_twice(
    home: Folder | RedisServer,
) -> None:
    command = [sys.executable, "-m", "tests.running.killed_event_writer", home.address]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stderr) == (0, "")
    lives = [json.loads(line) for line in done.stdout.splitlines()]
    acknowledged = {event_id for life in lives for event_id in life["acknowledged"]}
    assert len(lives) > 3
    assert acknowledged == set(lives[-1]["tried"])
    store = home.open()
    kept = ids(store)
    assert acknowledged <= set(kept)
    for life in lives:  # whole or not at all
        assert len(set(life["tried"]) & set(kept)) in (0, len(life["tried"]))
    for number, life in enumerate(lives, start=1):  # an offset is kept with its events
        assert (life["offset"] == number) == (life["tried"][0] in kept)
    for number, life in enumerate(lives, start=1):  # each caller tries again
        again = [Event("purchase", event_id, f"basket-{event_id}", ("milk",)) for event_id in life["tried"]]
        expected = {State.KNOWN if set(life["tried"]) <= set(kept) else State.ACCEPTED}
        assert {outcome.state for outcome in store.append(again, number)} == expected
    assert Counter(ids(store)) == Counter(event_id for life in lives for event_id in life["tried"])
    assert [logged.position for logged in store.read(0)] == list(range(1, store.last_position() + 1))
    store.close()
