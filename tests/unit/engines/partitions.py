"""Functions of partitions, as stages have them; a process of an engine imports them from here."""

import errno
import os
import signal
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from operations.errors import KeyKept


def add(shared: NDArray[np.int64], partition: range) -> int:
    return int(shared[partition.start : partition.stop].sum())


def tell_memory(shared: NDArray[np.int64], partition: int) -> tuple[int, bool, int]:
    """The process, whether it may write the shared array, and where the array begins in memory."""
    return os.getpid(), bool(shared.flags.writeable), shared.ctypes.data


def refuse_the_third(shared: None, partition: int) -> int:
    if partition == 2:
        raise KeyKept(("abc",), "the third partition has no lines; leave it out")  # it cannot be pickled
    return partition


def fill_the_disk(shared: Path, partition: int) -> int:
    """Raise what the file system says when it is full."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(shared))


def divide(shared: int, partition: int) -> float:
    return shared / partition


def die_once(shared: Path, partition: int) -> int:
    """Kill the process that computes partition 2 first; ``shared`` is a file that then exists."""
    if partition == 2 and not shared.exists():
        shared.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return partition


def wait_for(shared: Path, partition: int) -> int:
    """Write the process's id into a file of the folder, and wait for a file `go` in it."""
    (shared / f"pid-{partition}").write_text(str(os.getpid()))
    while not (shared / "go").exists():
        time.sleep(0.01)
    return partition


def meet(shared: Path, partition: int) -> int:
    """Wait until both of two partitions are being computed."""
    (shared / f"here-{partition}").touch()
    while len(list(shared.glob("here-*"))) < 2:
        time.sleep(0.01)
    return partition


def fail_beside_one_that_waits(shared: Path, partition: int) -> int:
    """The second partition fails while the first waits for what will never come."""
    return refuse_the_third(None, 2) if partition else wait_for(shared, partition)


def die_beside_one_that_waits(shared: Path, partition: int) -> int:
    return die(None, partition) if partition else wait_for(shared, partition)


def hang(shared: None, partition: int) -> int:
    """Stop this process, as one whose disk or network never answers."""
    os.kill(os.getpid(), signal.SIGSTOP)
    return partition


def die(shared: None, partition: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return partition
