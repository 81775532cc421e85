"""One program of the stack: a process with a log, a start record, and a page that answers once it is up."""

import contextlib
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from operations.errors import CestaError
from operations.processes.listeners import check_free
from operations.processes.start_record import StartRecord

START_S: Final = 240  # a first start compiles the kernels, which takes half a minute of a core
STOP_S: Final = 20
POLL_S: Final = 0.1
_LAST_LINES: Final = 3
_DIRECT: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy cannot reach it


@dataclass(frozen=True)
class Command:
    """What a program is started with."""

    name: str
    folder: Path  # its working folder, with its log and the record of its start
    words: list[str]
    listens: tuple[str, ...]  # addresses, host:port
    ready: str  # the page that answers 200 once it is ready
    clear: Callable[[], object] = lambda: None  # removes what else a killed one leaves
    configure: Callable[[], object] = lambda: None  # writes its configuration, before each start


class Process:
    """A program that writes to `log` and ends with the thread that starts it, even when that is killed."""

    def __init__(self, command: Command, ending: threading.Event) -> None:
        self.log = command.folder.absolute() / "log"
        self._command, self._ending = command, ending
        self._record = StartRecord(self.log.with_name(f"{command.name}.started"), command.name)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def exit_code(self) -> int | None:
        """How it ended; None before its start and while it runs."""
        return self._process.poll() if self._process else None

    def clear(self) -> None:
        """End what a killed start has left. Raises CestaError if another stack's program runs there."""
        self._record.clear()
        self._command.clear()

    def start(self) -> None:
        """Start it and wait until it is ready, or until `ending` is set.

        Raises CestaError if a port is taken, or with the last lines of the log if the program ends or takes
        longer than START_S.
        """
        self.clear()
        for address in self._command.listens:
            check_free(address)
        folder = self.log.parent
        folder.mkdir(parents=True, exist_ok=True)
        self._command.configure()
        with self.log.open("ab") as output:
            self._process = self._record.start(self._command.words, folder, output)
        try:
            self._await_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Let it finish its work; kill it after STOP_S. Safe to call twice."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._record.clear_rest(self._process)

    def _await_ready(self) -> None:
        deadline = time.monotonic() + START_S
        while self.exit_code is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError), _DIRECT.open(self._command.ready, timeout=2):
                return
            if self._ending.wait(POLL_S):
                return
        last_lines = self.log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
        state = f"is not ready after {START_S} s" if self.exit_code is None else "ended"
        raise CestaError("\n".join([f"{self._command.name} {state}:", *last_lines]))
