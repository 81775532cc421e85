"""The tail that samplers follow the log's file with, while another process writes."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from ensemble import event_tail
from ensemble.event_tail import EventTail
from operations.events.sqlite_store import FILE, SqliteStore
from operations.events.store import State, StoreFault
from tests.running.event_stores import purchase
from tests.running.small_disk import small_disk


def positions(tail: EventTail, after: int = 0) -> list[int]:
    return [logged.position for logged in tail.read(after)]


def test_a_tail_waits_for_a_log_that_does_not_exist_yet(tmp_path: Path) -> None:
    tail = EventTail(tmp_path / FILE)
    assert (tail.has_news(), tail.read(0), tail.log_id()) == (False, [], "")
    (tmp_path / FILE).touch()  # its writer has just begun
    assert (tail.read(0), tail.log_id()) == ([], "")
    store = SqliteStore(tmp_path)
    store.append([purchase("e1")], 1)
    assert tail.has_news()
    assert (positions(tail), tail.log_id()) == ([1], store.log_id())


def test_a_tail_tells_news_once(tmp_path: Path) -> None:
    store, tail = SqliteStore(tmp_path), EventTail(tmp_path / FILE)
    assert tail.has_news()
    assert not tail.has_news()
    store.append([purchase("e1")], 1)
    assert tail.has_news()
    assert not tail.has_news()
    assert positions(tail) == [1]
    store.append([purchase("e2"), purchase("e3")], 1)
    assert positions(tail, after=1) == [2, 3]


def test_a_tail_reads_a_log_that_nobody_writes(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    store.append([purchase("e1")], 1)
    store.close()  # the last connection removes the write-ahead log
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert positions(EventTail(tmp_path / FILE)) == [1]


def test_a_tail_notices_another_log_in_the_files_place(tmp_path: Path) -> None:
    store, tail = SqliteStore(tmp_path / "a"), EventTail(tmp_path / "a" / FILE)
    store.append([purchase("e1"), purchase("e2")], 1)
    name = tail.log_id()
    store.close()
    restored = SqliteStore(tmp_path / "b")
    restored.append([purchase("e9")], 1)
    restored.close()
    (tmp_path / "a").rename(tmp_path / "moved away")
    (tmp_path / "b").rename(tmp_path / "a")
    assert tail.has_news()
    assert positions(tail) == [1]
    assert tail.log_id() not in ("", name)


def test_the_tail_needs_only_the_standard_library() -> None:
    tree = ast.parse(Path(event_tail.__file__).read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names


def test_what_is_erased_is_gone_and_its_position_is_not_given_again(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    store.append([purchase("e1", user_id="somebody-secret")], 1)
    store._connection.execute("DELETE FROM events")
    store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert b"somebody-secret" not in (tmp_path / FILE).read_bytes()
    assert store.last_position() == 1
    assert store.append([purchase("e2")], 1)[0].position == 2


def test_others_cannot_read_who_bought_what(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "events")
    store.append([purchase("e1")], 1)
    modes = {path.name: path.stat().st_mode & 0o007 for path in (tmp_path / "events").iterdir()}
    assert set(modes.values()) == {0}
    assert FILE in modes
    store.close()


def fill(store: SqliteStore) -> None:
    for n in range(1000):  # the write-ahead log may have room left
        store.append([purchase(f"full-{n}-{m}", "x" * 120) for m in range(100)], 1)


def test_a_full_disk_acknowledges_nothing_and_harms_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        store = SqliteStore(disk.root / "events")
        store.append([purchase("e1")], 1)
        disk.fill()
        with pytest.raises(StoreFault, match="free some space"):
            fill(store)
        kept = store.last_position()
        (disk.root / "filling").unlink()
        assert store.append([purchase("e2")], 2)[0].position == kept + 1
        assert store.append([purchase("e1")], 2)[0].state is State.KNOWN
        assert positions(EventTail(disk.root / "events" / FILE)) == list(range(1, kept + 2))
        store.close()
