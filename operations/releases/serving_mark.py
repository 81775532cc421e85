"""Marks a repository as served, so that nobody changes unasked what the next start of its server serves.

A server holds a shared lock on the ensemble's folder. The kernel ends the lock with the process.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from operations.records.contract import ENSEMBLE
from operations.releases.stores.folder import FolderRepository
from operations.releases.stores.store import Repository


@contextmanager
def mark_served(repository: Repository) -> Iterator[None]:
    """Mark a repository in a folder as served within the block. A bucket has no such mark."""
    with _opened(repository) as folder:
        if folder is not None:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(folder, fcntl.LOCK_SH)
        yield


def may_be_served(repository: Repository) -> bool:
    """Does a server serve the repository? True where that cannot be seen: a bucket's may run anywhere."""
    with _opened(repository) as folder:
        if folder is None:
            return not isinstance(repository, FolderRepository)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # locked, or a file system without locks
            return True
        return False


@contextmanager
def _opened(repository: Repository) -> Iterator[int | None]:
    """The open folder of the ensemble, which no promotion replaces; None if there is none."""
    path = repository.root / ENSEMBLE if isinstance(repository, FolderRepository) else None
    if path is None or not path.is_dir():
        yield None
        return
    folder = os.open(path, os.O_RDONLY)
    try:
        yield folder
    finally:
        os.close(folder)  # this ends the lock
