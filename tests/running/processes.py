"""Processes and shared memory of a server, as the kernel reports them."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from pathlib import Path

READY_S = 200  # for a server's first start, which compiles kernels, on a busy machine


def shared_memory(prefix: str) -> list[Path]:
    """Return the shared memory of the server whose `shm_prefix` this is."""
    return list(Path("/dev/shm").glob(f"{prefix}*"))


def children(pid: int) -> list[int]:
    """Return the processes that `pid` started, by any of its threads."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the thread has just ended
            found += map(int, task.read_text().split())
    return found


def command(pid: int) -> list[str]:
    """Return the command line of `pid`; empty if it has ended."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
    return []


def stub_of(server: int, model: str) -> int:
    """Return the process that runs the only instance of `model`."""
    (stub,) = [pid for pid in children(server) if f"/{model}/" in " ".join(command(pid))]
    return stub


def end(pid: int) -> None:
    """Kill `pid`, unless it has just ended by itself."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


class Watched:
    """A process that may be anyone's child; `ended` waits for its end, whoever reaps it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._descriptor = os.pidfd_open(pid)

    def ended(self, timeout_s: float = 60) -> bool:
        """Tell whether the process ends within `timeout_s`."""
        return bool(select.select([self._descriptor], [], [], timeout_s)[0])

    def __del__(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._descriptor)
