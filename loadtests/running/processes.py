"""Measures a server's processes with /proc. A mark in their environment identifies them, daemons included."""

import contextlib
import os
import signal
import subprocess
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

MARK: Final = "CESTA_BENCH_MARK"
_PROC: Final = Path("/proc")
_TICKS_S: Final = os.sysconf("SC_CLK_TCK")
_LOG_TAIL: Final = 600  # characters of the log shown when a server does not start
_KILL_WITHIN_S: Final = 5.0  # a large process takes a moment to end

CpuSeconds = dict[int, float]  # by process id


def stop_on_sigterm() -> None:
    """Let SIGTERM end this program as Ctrl-C does, so that it stops its servers and removes its files."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


class NotReadyError(Exception):
    """A server ended or did not become ready; the text holds the end of its log."""


class MarkedProcesses:
    """A server process and all its descendants, daemons included. Its log is a temporary file."""

    def __init__(self, command: Sequence[str], variables: Mapping[str, str], folder: Path) -> None:
        self._mark = f"{MARK}={uuid.uuid4().hex}"
        self._command = list(command)
        self._variables = {**os.environ, **variables, MARK: self._mark.partition("=")[2]}
        self._folder = folder
        self._log = tempfile.NamedTemporaryFile(prefix="cesta-bench-", suffix=".log")  # noqa: SIM115 - closed at the end
        self._process: subprocess.Popen[bytes] | None = None
        self._adopted: list[int] = []

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command,
            cwd=self._folder,
            env=self._variables,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C then reaches only the bench, which stops the server in order
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def log(self) -> str:
        """The output so far."""
        return Path(self._log.name).read_text(encoding="utf-8", errors="replace")

    def pids(self) -> list[int]:
        """Every process that carries the mark."""
        mark = self._mark.encode()
        pids = []
        for folder in _PROC.iterdir():
            with contextlib.suppress(OSError):
                if folder.name.isdecimal() and mark in (folder / "environ").read_bytes().split(b"\0"):
                    pids.append(int(folder.name))
        return pids

    def adopt(self, pid: int) -> None:
        """Count this process and its children, too. nginx writes its title over the mark."""
        self._adopted.append(pid)

    def wait_ready(self, ready: Callable[[], bool], timeout_s: float) -> None:
        """Wait until `ready`. Raises NotReadyError, with the end of the log, if it ends or needs too long."""
        deadline = time.monotonic() + timeout_s
        while not ready():
            ended = self._process is not None and self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                problem = "ended while starting" if ended else f"was not ready after {timeout_s:g} s"
                raise NotReadyError(f"{self._command[0]} … {problem}: {self.log[-_LOG_TAIL:]}")
            time.sleep(0.05)

    def cpu(self) -> CpuSeconds:
        """User plus system time of every process so far."""
        return {pid: cpu for pid in self._counted() if (cpu := _cpu_seconds(pid)) is not None}

    def pss_mib(self) -> float:
        """The proportional set size of all processes: a page that n processes share counts 1/n in each."""
        return sum(_pss_kib(pid)["Pss"] for pid in self._counted()) / 1024

    def memory_mib(self, pids: Sequence[int] | None = None) -> dict[str, float]:
        """The set size of all processes or `pids`. `mapped` is the part in files, which can be dropped."""
        memory = [_pss_kib(pid) for pid in (self.pids() if pids is None else pids)]
        kinds = {"pss": "Pss", "mapped": "Pss_File"}
        return {name: round(sum(kib[kind] for kib in memory) / 1024, 1) for name, kind in kinds.items()}

    def _counted(self) -> list[int]:
        return [*self.pids(), *(child for pid in self._adopted for child in (pid, *_children(pid)))]

    def stop(self, grace_s: float = 15) -> None:
        """Ask the first process to end, wait, then kill the others by their ids. Safe to call twice."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(grace_s)
        deadline = time.monotonic() + _KILL_WITHIN_S
        while (remaining := self.pids()) and time.monotonic() < deadline:
            for pid in remaining:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        self._process.wait()
        self._process = None
        self._log.close()


def process_name(pid: int) -> str:
    """A short name for a process, taken from its command line."""
    words = _command(pid)
    line = " ".join(words)
    if "triton_python_backend_stub" in line:
        return "stub " + next((name for name in ("candidate_sampler", "ncf_scorer") if name in line), "")
    if words and "/" not in words[0] and "::" in words[0]:  # Ray's titles: ray::ServeReplica:…
        return words[0].rstrip(":")
    if "spawn_main" in line or "--multiprocessing-fork" in line:
        return "worker"
    if "resource_tracker" in line:
        return "resource tracker"
    if "-m" in words:
        return words[words.index("-m") + 1].rpartition(".")[2]
    if len(words) > 1 and "python" in Path(words[0]).name and words[1].endswith(".py"):
        return Path(words[1]).stem
    return Path(words[0]).name if words else "?"


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in (_PROC / f"{pid}/task/{pid}/children").read_text().split()]
    except OSError:  # the process ended
        return []


def _command(pid: int) -> list[str]:
    try:
        return (_PROC / str(pid) / "cmdline").read_text(errors="replace").rstrip("\0").split("\0")
    except OSError:
        return []


def _cpu_seconds(pid: int) -> float | None:
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:  # the process ended
        return None
    return (int(fields[11]) + int(fields[12])) / _TICKS_S  # utime, stime


def _pss_kib(pid: int) -> Counter[str]:
    """Set size in KiB by kind, as smaps_rollup names the kinds. Empty if the process ended."""
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return Counter()
    return Counter({line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith("Pss")})
