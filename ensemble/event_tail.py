"""Reads the file of the event log from a position on, while its writer adds to it. Only the standard library.

operations/events/sqlite_store.py writes the file.
"""

import os
import sqlite3
from pathlib import Path
from typing import Final, NamedTuple

READ: Final = (
    "SELECT position, at_ms, received_ms, content FROM events WHERE position > ? ORDER BY position LIMIT ?"
)


class Logged(NamedTuple):
    """One event of the log. ``content`` is JSON in UTF-8; times are Unix times in milliseconds.

    ``position`` grows from event to event and is never given twice. ``at_ms`` is when it happened.
    """

    position: int
    at_ms: int
    received_ms: int
    content: bytes


class EventTail:
    """Follows the log in one file, which need not exist yet. It never keeps the writer waiting."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._seen = -1

    def log_id(self) -> str:
        """Return the name that the log got when it was made; "" without a log.

        Positions of logs with different names do not compare.
        """
        connection = self._open()
        if connection is None:
            return ""
        try:
            found = connection.execute("SELECT value FROM about WHERE name = 'log_id'").fetchone()
        except sqlite3.OperationalError:  # it is being made
            return ""
        return str(found[0]) if found else ""

    def has_news(self) -> bool:
        """Tell whether somebody has written since the last call; it takes some 10 µs."""
        connection = self._open()
        if connection is None:
            return False
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        known, self._seen = self._seen, version
        return bool(version != known)

    def read(self, after: int, most: int = 10_000) -> list[Logged]:
        """Return at most ``most`` events behind the position ``after``, in their order; 0: from the first."""
        connection = self._open()
        if connection is None:
            return []
        try:
            return [Logged(*row) for row in connection.execute(READ, (after, most))]
        except sqlite3.OperationalError:
            if self._is_log(connection):
                raise
            return []

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
        self._connection, self._seen = None, -1

    def _open(self) -> sqlite3.Connection | None:
        """Return a connection that only reads; a new one if the file was replaced, as by a restored copy."""
        try:
            inode = os.stat(self._path).st_ino  # noqa: PTH116 - each poll: pathlib takes three times as long
        except OSError:
            self.close()
            return None
        if inode != self._inode:
            self.close()
        if self._connection is None:
            address = f"{self._path.absolute().as_uri()}?mode=ro"
            self._connection = sqlite3.connect(
                address, uri=True, check_same_thread=False, isolation_level=None
            )
            self._inode = inode
        return self._connection

    @staticmethod
    def _is_log(connection: sqlite3.Connection) -> bool:
        """Tell whether the file has its table: its writer makes it a moment after the file."""
        return bool(connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'events'").fetchone())
