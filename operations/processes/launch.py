"""The program between fork and exec: it writes its start into the record, then becomes the program.

The kernel sends it a signal when the thread that started it ends, however that happens.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from operations.processes.identity import identify
from operations.shipped import ROOT

_MAIN = "import sys; sys.path.insert(0, sys.argv[1]); from operations.processes.launch import main; main()"
_PR_SET_PDEATHSIG = 1


def launcher(descriptor: int, end_signal: signal.Signals, command: list[str]) -> list[str]:
    """Return the command line that starts ``command`` on the record with this inherited descriptor."""
    words = [str(word) for word in (ROOT, descriptor, int(end_signal), os.getpid())]
    return [sys.executable, "-ISc", _MAIN, *words, *command]


def main() -> None:
    """Become the program of the command line."""
    descriptor, end_signal, parent = map(int, sys.argv[2:5])
    command = sys.argv[5:]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, end_signal)
    owner, this = identify(parent), identify(os.getpid())
    if os.getppid() != parent or owner is None or this is None:
        return  # the parent ended before the line with prctl
    record = {"folder": str(Path.cwd()), "command": command, "program": asdict(this), "owner": asdict(owner)}
    with contextlib.suppress(OSError):  # a full disk keeps nothing from starting
        os.write(descriptor, json.dumps(record).encode())
    os.execv(command[0], command)
