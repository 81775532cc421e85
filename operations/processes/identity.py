"""Identifies processes. The kernel gives a number again; number and start time together are unique."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_BOOT = _PROC / "sys" / "kernel" / "random" / "boot_id"


@dataclass(frozen=True)
class ProcessIdentity:
    """One process of one boot of the machine."""

    pid: int
    start_ticks: int  # since the boot, in the kernel's clock ticks
    boot: str


@dataclass(frozen=True)
class _Stat:
    state: str
    session: int
    start_ticks: int


def identify(pid: int) -> ProcessIdentity | None:
    """Return the identity of a living process, else None. A zombie does not live."""
    stat = _stat(pid)
    if stat is None or stat.state in "ZX":
        return None
    return ProcessIdentity(pid, stat.start_ticks, _BOOT.read_text().strip())


def lives(process: ProcessIdentity) -> bool:
    """Tell whether this very process lives, not another one with its number."""
    return identify(process.pid) == process


def session_members(session: int) -> list[int]:
    """Return the living processes of a session."""
    pids = [int(folder.name) for folder in _PROC.glob("[0-9]*")]
    stats = {pid: _stat(pid) for pid in pids}
    return [pid for pid, stat in stats.items() if stat and stat.session == session and stat.state not in "ZX"]


def holds_open(pid: int, path: Path) -> bool:
    """Tell whether a process has a file open. False for processes that this user must not look at."""
    with contextlib.suppress(OSError):
        for descriptor in (_PROC / str(pid) / "fd").iterdir():
            with contextlib.suppress(OSError):
                if descriptor.samefile(path):
                    return True
    return False


def describe(pid: int) -> str:
    """Return number and command line for a message: `process 7 (nginx: worker process)`."""
    try:
        words = (_PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return f"process {pid}"
    command = " ".join(words).strip()
    return f"process {pid} ({command[:120]}{'…' if len(command) > 120 else ''})"


def _stat(pid: int) -> _Stat | None:
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the command's name before may hold blanks and brackets
    return _Stat(state=fields[0], session=int(fields[3]), start_ticks=int(fields[19]))
