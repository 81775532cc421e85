"""The event log: who comes while it writes is committed together, and a full queue refuses."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from operations.events.event import Event
from operations.events.log import Committed, EventLog, QueueFull
from operations.events.sqlite_store import SqliteStore
from operations.events.store import Offset, Outcome, State, StoreFault
from tests.running.event_stores import purchase

WAIT_S = 60


class SlowStore(SqliteStore):
    """Waits in each commit until it may go on."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.entered, self.may = threading.Semaphore(0), threading.Semaphore(0)
        self.sizes: list[int] = []

    def append(
        self, events: Sequence[Event], received_ms: int, offsets: Sequence[Offset] = ()
    ) -> list[Outcome]:
        self.sizes.append(len(events))
        self.entered.release()
        assert self.may.acquire(timeout=WAIT_S)
        return super().append(events, received_ms, offsets)


def test_what_arrives_during_a_commit_shares_the_next_one(tmp_path: Path) -> None:
    store = SlowStore(tmp_path)
    log = EventLog(lambda: store)
    log.start()
    first = log.offer([purchase("e1")])
    assert store.entered.acquire(timeout=WAIT_S)
    later = [log.offer([purchase(f"e{n}")]) for n in range(2, 12)]
    assert log.queued == 11
    store.may.release(2)
    assert first.result(WAIT_S) == [Outcome(State.ACCEPTED, 1)]
    assert [each.result(WAIT_S)[0].position for each in later] == list(range(2, 12))
    assert store.sizes == [1, 10]
    log.close()
    assert log.queued == 0


def test_a_full_queue_refuses_a_call_whole(tmp_path: Path) -> None:
    store = SlowStore(tmp_path)
    log = EventLog(lambda: store, most_queued=3)
    log.start()
    taken = log.offer([purchase("e1"), purchase("e2")])
    with pytest.raises(QueueFull, match="2 events wait for the disk; at most 3 may"):
        log.offer([purchase("e3"), purchase("e4")])
    also = log.offer([purchase("e5")])
    store.may.release(2)
    assert [each.position for each in (*taken.result(WAIT_S), *also.result(WAIT_S))] == [1, 2, 3]
    log.close()


def test_closing_commits_what_is_queued_and_takes_no_more(tmp_path: Path) -> None:
    log = EventLog(lambda: SqliteStore(tmp_path))
    outcome = log.offer([purchase("e1")])  # before its thread runs
    log.start()
    log.close()
    assert outcome.result(0) == [Outcome(State.ACCEPTED, 1)]
    with pytest.raises(QueueFull):
        log.offer([purchase("e2")])


def test_a_store_that_fails_tells_all_callers_and_is_opened_anew(tmp_path: Path) -> None:
    opened: list[SqliteStore] = []
    commits: list[Committed] = []

    def open_store() -> SqliteStore:
        opened.append(SqliteStore(tmp_path))
        return opened[-1]

    log = EventLog(open_store, commits.append)
    log.start()
    log.offer([purchase("e1")]).result(WAIT_S)
    opened[0].close()  # SQLite refuses the next call
    with pytest.raises(StoreFault, match="events cannot be kept"):
        log.offer([purchase("e2")]).result(WAIT_S)
    assert log.fault is not None
    assert log.offer([purchase("e2")]).result(WAIT_S) == [Outcome(State.ACCEPTED, 2)]
    assert (log.fault, len(opened), log.position) == (None, 2, 2)
    log.close()
    assert [(each.events, each.good) for each in commits] == [(1, True), (1, False), (1, True)]


def test_a_store_that_cannot_be_opened_is_tried_again_for_each_event(tmp_path: Path) -> None:
    (tmp_path / "events").write_text("a file in the folder's place")
    log = EventLog(lambda: SqliteStore(tmp_path / "events"))
    log.start()
    with pytest.raises(StoreFault):
        log.offer([purchase("e1")]).result(WAIT_S)
    (tmp_path / "events").unlink()
    assert log.offer([purchase("e1")]).result(WAIT_S) == [Outcome(State.ACCEPTED, 1)]
    log.close()
