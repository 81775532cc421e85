"""The log in a real Redis: what is acknowledged outlives it; one that could lose events is refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ensemble.event_tail import EventTail
from operations.errors import CestaError
from operations.events.event import read_event
from operations.events.local_copy import LocalCopy
from operations.events.opening import open_store
from operations.events.sqlite_store import FILE, SqliteStore
from operations.events.store import State, StoreFault
from tests.running.event_stores import RedisServer, purchase

WAIT_S = 60


def await_(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    started: list[RedisServer] = []

    def start(*options: str) -> RedisServer:
        started.append(RedisServer(tmp_path / f"redis-{len(started)}", *options))
        return started[-1]

    yield start
    for server in started:
        server.close()


def test_a_redis_that_is_killed_while_it_works_loses_nothing_acknowledged(
    start: Callable[..., RedisServer],
) -> None:
    server = start()
    acknowledged: list[str] = []

    def sell() -> None:
        store = server.open()
        for n in range(1_000_000):
            try:
                store.append([purchase(f"e{n}")], 1)
            except StoreFault:
                return
            acknowledged.append(f"e{n}")

    seller = threading.Thread(target=sell)
    seller.start()
    await_(lambda: len(acknowledged) > 50)
    server.kill()
    seller.join(WAIT_S)
    server.start()
    store = server.open()
    kept = [read_event(logged.content).event_id for logged in store.read(0, 1_000_000)]
    assert kept[: len(acknowledged)] == acknowledged
    assert len(set(kept)) == len(kept) <= len(acknowledged) + 1
    again = store.append([purchase(event_id) for event_id in acknowledged], 2)
    assert {outcome.state for outcome in again} == {State.KNOWN}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ["--appendonly", "no"],
            "has appendonly no, so nothing would be on its disk; set appendonly yes there",
        ),
        (["--appendfsync", "everysec"], "it would answer before its disk is flushed"),
        (["--no-appendfsync-on-rewrite", "yes"], "it would not flush while it rewrites the file"),
        (["--maxmemory-policy", "allkeys-lru"], "it would delete events when its memory is full"),
    ],
)
def test_a_redis_that_could_lose_events_is_refused(
    options: list[str], sentence: str, start: Callable[..., RedisServer]
) -> None:
    with pytest.raises(StoreFault, match=sentence):
        start(*options).open()


def test_a_full_redis_acknowledges_nothing(start: Callable[..., RedisServer]) -> None:
    store = start("--maxmemory", "3mb").open()
    with pytest.raises(StoreFault, match="maxmemory"):
        fill(store)
    kept = store.last_position()
    assert [logged.position for logged in store.read(0, 1_000_000)] == list(range(1, kept + 1))


def fill(store: object) -> None:
    for n in range(100_000):
        store.append([purchase(f"{n}-{m}", "x" * 120) for m in range(100)], 1)  # type: ignore[attr-defined]


def test_a_redis_that_is_away_is_a_fault_and_a_password_in_the_address_is_refused() -> None:
    pytest.importorskip("redis")
    with pytest.raises(StoreFault, match=r"events cannot be kept at redis://127\.0\.0\.1:1"):
        open_store("redis://127.0.0.1:1")
    with pytest.raises(CestaError, match="CESTA_REDIS_PASSWORD_FILE") as caught:
        open_store("redis://user:secret@127.0.0.1:1")
    assert "secret" not in str(caught.value)


def test_a_password_comes_from_a_file(
    start: Callable[..., RedisServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start()
    store = server.open()
    store._redis.config_set("requirepass", "milk")  # type: ignore[attr-defined]
    with pytest.raises(StoreFault, match="HELLO must be called with the client already authenticated"):
        server.open()
    (tmp_path / "password").write_text("milk\n")
    monkeypatch.setenv("CESTA_REDIS_PASSWORD_FILE", str(tmp_path / "password"))
    assert server.open().last_position() == 0


def test_each_machine_has_a_copy_that_samplers_follow(
    start: Callable[..., RedisServer], tmp_path: Path
) -> None:
    shared = start().open()
    shared.append([purchase("e1"), purchase("e2")], 5)
    tail = EventTail(tmp_path / "events" / FILE)
    address = shared._address  # type: ignore[attr-defined]
    with LocalCopy(lambda: open_store(address), tmp_path / "events") as copy:
        await_(lambda: len(tail.read(0)) == 2)
        shared.append([purchase("e3")], 6)
        await_(lambda: copy.position == 3)
    assert tail.read(0) == shared.read(0)
    assert tail.log_id() == shared.log_id()


def test_a_copy_goes_on_where_it_was_and_after_redis_was_away(
    start: Callable[..., RedisServer], tmp_path: Path
) -> None:
    server = start()
    shared = server.open()
    shared.append([purchase("e1")], 5)
    for event_id, position in (("e2", 2), ("e3", 3)):
        with LocalCopy(server.open, tmp_path / "events") as copy:
            shared.append([purchase(event_id)], 6)
            await_(lambda copy=copy, position=position: copy.position == position)
            server.kill()
            await_(lambda copy=copy: copy.fault)
            server.start()
            await_(lambda copy=copy: copy.fault is None)
    assert [logged.position for logged in EventTail(tmp_path / "events" / FILE).read(0)] == [1, 2, 3]


def test_the_log_of_a_former_store_is_set_aside(start: Callable[..., RedisServer], tmp_path: Path) -> None:
    former = SqliteStore(tmp_path / "events")
    former.append([purchase("old")], 1)
    name = former.log_id()
    former.close()
    server = start()
    server.open().append([purchase("new")], 1)
    with LocalCopy(server.open, tmp_path / "events") as copy:
        await_(lambda: copy.position == 1)
    (logged,) = EventTail(tmp_path / "events" / FILE).read(0)
    assert read_event(logged.content).event_id == "new"
    (old,) = EventTail(tmp_path / f"events-{name}" / FILE).read(0)
    assert read_event(old.content).event_id == "old"
