"""The copy of a shared log, with a folder in the place of Redis."""

import time
from collections.abc import Callable
from pathlib import Path

from ensemble.event_tail import EventTail, Logged
from operations.events.event import read_event
from operations.events.local_copy import LocalCopy
from operations.events.sqlite_store import FILE, SqliteStore
from operations.events.store import EventStore
from tests.running.event_stores import purchase

WAIT_S = 60


def await_(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def named(folder: Path) -> list[str]:
    """The event ids of a copy."""
    return [read_event(logged.content).event_id for logged in EventTail(folder / FILE).read(0)]


class Emptied(SqliteStore):
    """A store whose log another one replaces while it is read, as Redis may be emptied."""

    other: SqliteStore | None = None

    def read(self, after: int, most: int = 10_000) -> list[Logged]:
        return self.other.read(after, most) if self.other else super().read(after, most)

    def log_id(self) -> str:
        return self.other.log_id() if self.other else super().log_id()


def test_a_log_that_another_one_replaces_is_copied_from_its_beginning(tmp_path: Path) -> None:
    """Positions of the new log are no positions of the old."""
    before, after = Emptied(tmp_path / "before"), SqliteStore(tmp_path / "after")
    before.append([purchase("old-1"), purchase("old-2")], 1)
    after.append([purchase(f"new-{n}") for n in range(3)], 2)
    former = before.log_id()

    class Kept(Emptied):
        def close(self) -> None:
            """The test closes it."""

    shared = Kept(tmp_path / "before")
    with LocalCopy(lambda: shared, tmp_path / "copy") as copy:
        await_(lambda: copy.position == 2)
        shared.other = after
        await_(lambda: copy.position == 3)
    assert named(tmp_path / "copy") == ["new-0", "new-1", "new-2"]
    assert named(tmp_path / f"copy-{former}") == ["old-1", "old-2"]


def test_a_copy_goes_on_after_a_fault_that_nobody_foresaw(tmp_path: Path) -> None:
    shared, opened = SqliteStore(tmp_path / "shared"), []
    shared.append([purchase("e1")], 1)

    def open_shared() -> EventStore:
        opened.append(1)
        if len(opened) == 1:
            raise AttributeError("decode")
        return SqliteStore(tmp_path / "shared")

    with LocalCopy(open_shared, tmp_path / "copy") as copy:
        await_(lambda: copy.position == 1)
    assert len(opened) == 2
