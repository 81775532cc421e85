"""Runs a command and measures its CPU time, its wall time, its memory and its temporary files."""

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from loadtests.growth_offline.memory_limit import Group, memory_group

PROC: Final = Path("/proc")
PAGE: Final = os.sysconf("SC_PAGE_SIZE")
MIB: Final = 2**20
POLL_S: Final = 0.05
DISK_S: Final = 0.5  # between two looks at the disk


@dataclass(frozen=True)
class Measured:
    """What a command took. ``log`` is what it wrote to stderr."""

    code: int  # exit status; negative: the signal that ended it
    killed: bool  # by the limit of memory
    wall_s: float
    cpu_s: float  # user and system, of the process and its children
    peak_mib: float  # resident set, of the process and its children
    temporary_mib: float  # files that were there for a while, beyond those at the start and at the end
    log: str = field(repr=False)


def measure(
    command: Sequence[str],
    folder: Path,
    limit: int | None = None,
    variables: Mapping[str, str] | None = None,
    own_group: bool = True,
) -> Measured:
    """Run ``command``, which writes below ``folder``, with at most ``limit`` bytes of memory.

    Where no control group can be made (or without ``own_group``), the memory is watched: a command that
    exceeds the limit is killed a moment later.
    """
    with contextlib.ExitStack() as stack:
        group = stack.enter_context(memory_group(limit)) if limit and own_group else None
        log = stack.enter_context(tempfile.TemporaryFile())
        begun, before = time.monotonic(), _bytes_below(folder)
        process = subprocess.Popen(
            group.command(command) if group else command,
            env={**os.environ, **(variables or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
        )
        try:
            watched = _watch(process.pid, folder, None if group else limit)
        except BaseException:
            _kill(_family(process.pid))
            process.wait()
            raise
        process.returncode = watched.code
        log.seek(0)
        return Measured(
            code=watched.code,
            killed=watched.over or _was_killed(group),
            wall_s=round(time.monotonic() - begun, 2),
            cpu_s=round(watched.cpu_s, 2),
            peak_mib=round(watched.peak / MIB, 1),
            temporary_mib=round(max(watched.disk - max(before, _bytes_below(folder)), 0) / MIB, 1),
            log=log.read().decode(errors="replace"),
        )


@dataclass
class _Watched:
    code: int = 0
    over: bool = False  # the limit was exceeded
    cpu_s: float = 0
    peak: int = 0  # bytes
    disk: int = 0  # bytes, at most


def _watch(pid: int, folder: Path, limit: int | None) -> _Watched:
    """Wait for the end of the process. One that takes more than ``limit`` bytes is killed."""
    watched, looked = _Watched(), 0.0
    while True:
        family = _family(pid)
        sizes = [_resident(member) for member in family]
        most = max(_most_resident(member) for member in family)
        watched.peak = max(watched.peak, most, sum(all_pages for all_pages, _ in sizes))
        if limit and sum(own_pages for _, own_pages in sizes) > limit:
            watched.over = True
            _kill(family)
        if time.monotonic() - looked >= DISK_S:
            watched.disk, looked = max(watched.disk, _bytes_below(folder)), time.monotonic()
        ended, status, usage = os.wait4(pid, os.WNOHANG)
        if ended:
            watched.code = os.waitstatus_to_exitcode(status)
            watched.cpu_s = usage.ru_utime + usage.ru_stime
            return watched
        time.sleep(POLL_S)


def _family(pid: int) -> list[int]:
    """Return the process and its descendants."""
    members = [pid]
    for member in members:
        with contextlib.suppress(OSError):
            for task in (PROC / str(member) / "task").iterdir():
                members += [int(child) for child in (task / "children").read_text().split()]
    return members


def _resident(pid: int) -> tuple[int, int]:
    """Return the bytes of a process in memory: all of them, and those that lie in no file."""
    try:
        _, resident, in_files = (PROC / str(pid) / "statm").read_text().split()[:3]
    except (OSError, ValueError):  # it has ended
        return 0, 0
    return int(resident) * PAGE, (int(resident) - int(in_files)) * PAGE


def _most_resident(pid: int) -> int:
    """Return the most bytes of a process in memory since it began its program.

    ``ru_maxrss`` counts what the process had before that: the memory of its parent.
    """
    try:
        lines = (PROC / str(pid) / "status").read_text().splitlines()
    except OSError:  # it has ended
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def _kill(pids: Sequence[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _was_killed(group: Group | None) -> bool:
    return group is not None and group.has_killed()


def _bytes_below(folder: Path) -> int:
    """Return the bytes of all files below ``folder``; files come and go meanwhile."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_blocks * 512  # noqa: PTH118 - thousands of files
    return total
