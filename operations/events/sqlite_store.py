"""The log in one SQLite file of this machine. ensemble/event_tail.py reads it from other processes.

A commit is durable when it returns: the write-ahead log is flushed (synchronous=FULL). Several processes may
write, as `cesta events import` does beside a server.
"""

import os
import sqlite3
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ensemble.event_tail import READ, Logged
from operations.events.event import Event
from operations.events.store import Offset, Outcome, State, StoreFault, key_of, moment_of
from operations.records.disk import explain

FILE: Final = "log.sqlite"
FOLDER_MODE: Final = 0o750
FILE_MODE: Final = 0o640  # it says who bought what
_BUSY_S: Final = 5.0
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS events (
    position INTEGER PRIMARY KEY AUTOINCREMENT,  -- never given twice, also after the last one was erased
    id BLOB NOT NULL UNIQUE,
    at_ms INTEGER NOT NULL,
    received_ms INTEGER NOT NULL,
    content BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS offsets (
    source TEXT NOT NULL, part INTEGER NOT NULL, next INTEGER NOT NULL, PRIMARY KEY (source, part)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
_FIND: Final = "SELECT position, content FROM events WHERE id = ?"
_ADD: Final = "INSERT INTO events (id, at_ms, received_ms, content) VALUES (?, ?, ?, ?)"
_COPY: Final = (
    "INSERT OR IGNORE INTO events (position, id, at_ms, received_ms, content) VALUES (?, ?, ?, ?, ?)"
)
_MOVE: Final = """INSERT INTO offsets VALUES (?, ?, ?)
    ON CONFLICT DO UPDATE SET next = max(next, excluded.next)"""


class SqliteStore:
    """An EventStore in ``folder``, which is made. Raises StoreFault if the file cannot be used."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        try:
            folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            _make(self._path)
        except OSError as error:
            raise StoreFault(f"events cannot be kept: {explain(error, self._path)}") from None
        self._connection = sqlite3.connect(
            self._path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        try:
            with self._explained():
                self._prepare()
        except StoreFault:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        (mode,) = self._connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise StoreFault(
                f"{self._path} lies on a file system without shared memory, such as NFS; choose another"
            )
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("PRAGMA secure_delete = ON")  # what is erased is gone from the file
        self._connection.executescript(_SCHEMA)
        self._connection.execute("INSERT OR IGNORE INTO about VALUES ('log_id', ?)", (uuid.uuid4().hex,))

    def append(
        self, events: Sequence[Event], received_ms: int, offsets: Sequence[Offset] = ()
    ) -> list[Outcome]:
        """See EventStore."""
        with self._transaction():
            outcomes = [self._add(event, received_ms) for event in events]
            self._connection.executemany(_MOVE, offsets)
        return outcomes

    def copy(self, logged: Sequence[Logged], ids: Sequence[str], log_id: str) -> None:
        """Keep events of another log at their positions, as a copy for the followers on this machine.

        ``ids`` are their event ids. The file takes the other log's name.
        """
        rows = [
            (each.position, key_of(event_id), each.at_ms, each.received_ms, each.content)
            for each, event_id in zip(logged, ids, strict=True)
        ]
        with self._transaction():
            self._connection.executemany(_COPY, rows)
            self._connection.execute("UPDATE about SET value = ? WHERE name = 'log_id'", (log_id,))

    def read(self, after: int, most: int = 10_000) -> list[Logged]:
        """See EventStore."""
        with self._explained():
            return [Logged(*row) for row in self._connection.execute(READ, (after, most))]

    def last_position(self) -> int:
        """See EventStore."""
        with self._explained():
            found = self._connection.execute(
                "SELECT seq FROM sqlite_sequence WHERE name = 'events'"
            ).fetchone()
        return int(found[0]) if found else 0

    def offsets(self, source: str) -> Mapping[int, int]:
        """See EventStore."""
        with self._explained():
            rows = self._connection.execute("SELECT part, next FROM offsets WHERE source = ?", (source,))
            return {int(part): int(offset) for part, offset in rows}

    def log_id(self) -> str:
        """See EventStore."""
        with self._explained():
            (value,) = self._connection.execute("SELECT value FROM about WHERE name = 'log_id'").fetchone()
        return str(value)

    def size_bytes(self) -> int:
        """See EventStore. The write-ahead log counts, too."""
        files = (self._path, self._path.with_name(f"{FILE}-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    def close(self) -> None:
        """See EventStore."""
        self._connection.close()

    def _add(self, event: Event, received_ms: int) -> Outcome:
        key, content = key_of(event.event_id), event.content()
        found = self._connection.execute(_FIND, (key,)).fetchone()
        if found:
            position, known = found
            return Outcome(State.KNOWN if known == content else State.CHANGED, position)
        added = self._connection.execute(_ADD, (key, moment_of(event, received_ms), received_ms, content))
        assert added.lastrowid is not None
        return Outcome(State.ACCEPTED, added.lastrowid)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._explained():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # SQLite ends some by itself, as on a full disk
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreFault(f"events cannot be kept in {self._path}: {error}; {_way_out(error)}") from None


def _make(path: Path) -> None:
    """Make an empty file with FILE_MODE, which SQLite gives its other files, too; leave an existing one.

    Closing a file ends all locks that this process has on it (POSIX), those of its other stores included.
    Another process would then take itself for the last user, and remove the write-ahead log.
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, FILE_MODE))


def _way_out(error: sqlite3.Error) -> str:
    code = getattr(error, "sqlite_errorname", "")
    if code.startswith("SQLITE_FULL"):
        return "free some space"
    if code.startswith("SQLITE_BUSY"):
        return "another process writes for long; try again"
    if code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return "the file is damaged: move it away, and restore a copy"
    if code.startswith("SQLITE_READONLY"):
        return "make the folder and the file writable for this user"
    return "look at the kernel's log (dmesg)"
