"""Follows the log of a live table for as long as a sampler process lives.

A thread looks at the log twenty times a second, by its file number and size. What it has applied it writes to
a file of its own in the folder `followers`, which it keeps locked: a file that nobody locks is of a process
that has ended. The supervisor reads these files before it acknowledges a change.
"""

import fcntl
import json
import logging
import os
import threading
import uuid
from pathlib import Path
from typing import Final

from .change_log import FOLLOWERS, STOCK, read_from
from .forbidden import Forbidden

LOOK_S: Final = 0.05
logger = logging.getLogger("cesta.live")


class Follower:
    """Keeps ``table`` at the newest version of the log in ``folder``; ``labels`` tell processes apart."""

    def __init__(self, folder: Path, table: Forbidden, labels: dict[str, str]) -> None:
        self._log, self._table, self._labels = folder / STOCK, table, labels
        self._file_number, self._end = 0, 0
        self._seen = (0, 0)  # number and size of the log when last looked
        self._damage: str | None = None
        self._last_fault = ""
        self._followers, self._own = folder / FOLLOWERS, -1
        self._ending = threading.Event()
        self._look()  # before the first question
        self._tell()
        self._thread = threading.Thread(target=self._run, name="live", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End; the process follows no more."""
        self._ending.set()
        self._thread.join(timeout=2)
        if self._own >= 0:
            os.close(self._own)  # this ends the lock
            self._own = -1

    def _run(self) -> None:
        while not self._ending.wait(LOOK_S):
            if self._look() or self._own < 0:
                self._tell()

    def _look(self) -> bool:
        """Apply what is new; tell whether anything was. A table that cannot be read stays as it is."""
        try:
            about = self._log.stat()
            seen, self._seen = self._seen, (about.st_ino, about.st_size)
            if self._seen == seen:
                if self._damage:  # else its writer had not finished
                    self._warn(self._damage)
                return False
            is_other = about.st_ino != self._file_number or about.st_size < self._end
            found = read_from(self._log, 0 if is_other else self._end)
            self._damage = found.damage
            if not found.changes:
                return False
            if is_other:  # written anew: its first change is a whole table
                found.changes[0] = found.changes[0]._replace(replace=True)
            self._table.apply(found.changes)
            self._file_number, self._end = about.st_ino, found.end
            return True
        except FileNotFoundError:
            return False
        except Exception as error:  # the thread must go on: the next version may be readable
            self._warn(f"{self._log} is not followed: {error!r}")
            return False

    def _tell(self) -> None:
        """Write which version holds here."""
        try:
            if self._own < 0:
                self._own = self._open()
            told = json.dumps(self._labels | {"version": self._table.version}).encode()
            os.pwrite(self._own, told.ljust(512), 0)
        except OSError as error:
            self._warn(f"the supervisor is not told which stock holds here: {error}")

    def _open(self) -> int:
        """Make the file; it gets its name once it is locked."""
        self._followers.mkdir(parents=True, exist_ok=True)
        name = uuid.uuid4().hex
        unnamed = self._followers / f".{name}"
        handle = os.open(unnamed, os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.pwrite(handle, json.dumps(self._labels | {"version": 0}).encode().ljust(512), 0)
        unnamed.rename(self._followers / f"{name}.json")
        return handle

    def _warn(self, fault: str) -> None:
        if fault != self._last_fault:
            logger.warning(fault)
        self._last_fault = fault
