"""The record of a program's start. It tells for certain which processes a killed program has left.

The program and all that it forks inherit the open record and stay in one session. A process with both belongs
to the start; neither its number nor its name decides. While a session has processes, its number is taken.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from operations.errors import CestaError
from operations.processes.ending import end_processes
from operations.processes.identity import ProcessIdentity, describe, holds_open, lives, session_members
from operations.processes.launch import launcher

GRACE_S = 1.5  # for requests in flight; then a process that was left is killed


@dataclass(frozen=True)
class _Start:
    program: ProcessIdentity  # it leads the session
    owner: ProcessIdentity  # who started it, and ends it


class StartRecord:
    """The file ``path``, for one program at a time. ``end_signal`` asks the program to end in good order."""

    def __init__(self, path: Path, name: str, end_signal: signal.Signals = signal.SIGTERM) -> None:
        self.path, self.name, self.end_signal = path, name, end_signal

    def start(
        self, command: list[str], folder: Path, output: IO[bytes] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start the program in ``folder``; call ``clear`` before. It ends with the thread that calls this.

        A session of its own keeps the terminal's Ctrl-C and hang-up away from it.
        """
        descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            return subprocess.Popen(
                launcher(descriptor, self.end_signal, command),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
                pass_fds=[descriptor],
                start_new_session=True,
            )
        finally:
            os.close(descriptor)

    def clear(self) -> list[int]:
        """End the processes that are left of the recorded start, remove the record, return the processes.

        Raises CestaError if the program runs and whoever started it lives: it is no orphan.
        """
        start = self._read()
        if start is None:
            self.path.unlink(missing_ok=True)
            return []
        if lives(start.owner) and (start.owner.pid != os.getpid() or lives(start.program)):
            raise CestaError(
                f"{self.name} already runs on {self.path.parent}, started by {describe(start.owner.pid)}; "
                "stop that, or choose another folder"
            )
        members = session_members(start.program.pid)
        ended = end_processes(members, GRACE_S, self._belongs, first=self.end_signal)
        self.path.unlink(missing_ok=True)
        return ended

    def clear_rest(self, program: subprocess.Popen[bytes]) -> None:
        """Do the same after the program's end, if nobody has started another one on the record."""
        start = self._read()
        if start is None or start.program.pid == program.pid:  # None: it was ended before it wrote
            self.clear()

    def _belongs(self, pid: int) -> bool:
        return holds_open(pid, self.path)

    def _read(self) -> _Start | None:
        """Return the recorded start; None without a record, or with one that no program finished writing."""
        try:
            record = json.loads(self.path.read_bytes())
            return _Start(ProcessIdentity(**record["program"]), ProcessIdentity(**record["owner"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
