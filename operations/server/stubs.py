"""The processes of Python models, called stubs, below a tritonserver."""

from __future__ import annotations

import contextlib
from pathlib import Path

PROC = Path("/proc")
NAME = "triton_python_b"  # the kernel keeps 15 letters
ENDED = "Z"


def ended_stubs(server: int, proc: Path = PROC) -> set[int]:
    """The stubs that have ended while the server has not taken note of it.

    Triton 2.51 waits for ever for a stub that ends while its model loads. Others are in this set for a moment
    only.
    """
    ended = set()
    for children in (proc / str(server)).glob("task/*/children"):
        with contextlib.suppress(OSError):  # the server has ended
            pids = map(int, children.read_text().split())
            ended |= {pid for pid in pids if _name_and_state(proc / str(pid) / "stat") == (NAME, ENDED)}
    return ended


def _name_and_state(stat: Path) -> tuple[str, str]:
    try:
        before, _, after = stat.read_text().rpartition(")")
    except OSError:
        return "", ""
    return before.partition("(")[2], after.split()[0]
