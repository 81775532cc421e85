"""Keeps two retrainings out of one folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from export_scripts.retraining.outcome import Outcome, Stopped

NAME: Final = ".retraining.lock"


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold the lock of the folder within the block. Raises Stopped if another process holds it.

    The kernel ends the lock with the process. Processes that this one starts do not inherit it.
    """
    root.mkdir(parents=True, exist_ok=True)
    with (root / NAME).open("a+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise Stopped(
                Outcome.LOCKED,
                f"another retraining (process {file.read().strip() or 'unknown'}) works in {root}; "
                "wait until it has ended, or give another --out",
            ) from None
        os.truncate(file.fileno(), 0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
