"""The locks of a mirror, which its servers and commands share. The kernel ends each with its process."""

import fcntl
import os
import time
from collections.abc import Iterator, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from operations.errors import CestaError
from operations.records.disk import FILE_MODE, make_folder

IN_USE: Final = ".in-use"  # a file for each release, whose age tells when it was last used
FILLING: Final = ".filling"
FILLING_S: Final = 600.0  # how long another process may bring or delete files
RECENT_S: Final = 60.0  # a release that a command has just loaded; its server has not locked it yet
POLL_S: Final = 0.1


class Holds:
    """The releases of a mirror that this object keeps from being deleted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[int, int] = {}  # release → file descriptor with a shared lock

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be the only one who brings or deletes files. Raises CestaError if another takes FILLING_S."""
        deadline = time.monotonic() + FILLING_S
        handle = _open(self._folder / FILLING)
        try:
            while not _lock(handle, fcntl.LOCK_EX):
                if time.monotonic() > deadline:
                    raise CestaError(
                        f"{self._folder} is being filled by another cesta for more than {FILLING_S:.0f} s; "
                        "look what holds that process up, and try again"
                    )
                time.sleep(POLL_S)
            yield
        finally:
            os.close(handle)

    def add(self, release: int) -> None:
        """Keep a release until ``drop``, ``keep_only`` or the end of the process; note that it is used."""
        if release not in self._held:
            handle = _open(self._marker(release))
            fcntl.flock(handle, fcntl.LOCK_SH)  # who holds it alone deletes files, which takes a moment
            self._held[release] = handle
        os.utime(self._held[release])

    def keep_only(self, releases: Set[int]) -> None:
        """Keep exactly these releases."""
        for release in self._held.keys() - releases:
            os.close(self._held.pop(release))
        for release in releases:
            self.add(release)

    def drop(self) -> None:
        """Keep no release any more."""
        self.keep_only(set())

    def used_s(self, release: int) -> float:
        """When a release was last used, in seconds since 1970; 0 if that was never."""
        marker = self._marker(release)
        return marker.stat().st_mtime if marker.exists() else 0.0

    @contextmanager
    def unused(self, release: int) -> Iterator[bool]:
        """Keep others from using a release within the block; False if one does, or did a moment ago."""
        if abs(time.time() - self.used_s(release)) < RECENT_S:  # far ahead: the clock was set back since
            yield False
            return
        handle = _open(self._marker(release))
        try:
            yield _lock(handle, fcntl.LOCK_EX)
        finally:
            os.close(handle)

    def _marker(self, release: int) -> Path:
        return self._folder / IN_USE / str(release)


def _open(path: Path) -> int:
    make_folder(path.parent)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)


def _lock(handle: int, how: int) -> bool:
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
