"""The temporary folder and the shared memory of one server; the removal of those that killed servers left.

The process that starts a server writes its number to a file in the server's folder and holds a lock on it.
The kernel releases the lock however that process ends, so a free lock shows that nobody else will clean up.
If the owner is dead and the lock is held, another process sweeps. Standard library only.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import re
import shutil
import tempfile
import time
import uuid
from functools import partial
from pathlib import Path
from typing import TextIO

from operations.plain_path import plain_path
from operations.processes.ending import end_processes
from operations.processes.identity import identify

SHARED_MEMORY = Path("/dev/shm")
_FOLDER = "cesta-runtime-"
_NAME = re.compile(f"{_FOLDER}[0-9a-f]{{12}}")
_LOCK = "lock"
_GRACE_S = 2  # a server whose parent was killed has received a SIGTERM, and drains
_SWEEP_S = 3 * _GRACE_S  # a sweep of one folder takes less
_POLL_S = 0.02
_PROGRAMS = ("tritonserver", "triton_python_backend_stub")


class RuntimeFolder:
    """A server's temporary folder at `path`; the names of its shared memory begin with `shm_prefix`."""

    def __init__(self) -> None:
        self._name = uuid.uuid4().hex[:12]
        self.shm_prefix = _shm_prefix(self._name)
        self.path: Path | None = None
        self._lock: int | None = None

    def make(self) -> Path:
        """Make the folder and lock it. It gets the name that `sweep` looks for once the lock is held."""
        staged = Path(tempfile.mkdtemp(prefix=".cesta-starting-", dir=temporary_folder()))
        self._lock = os.open(staged / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)  # closed when a child is started
        os.write(self._lock, str(os.getpid()).encode())
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.path = staged.rename(staged.with_name(_FOLDER + self._name))
        return self.path

    def remove(self) -> None:
        """Remove the folder and the shared memory. Safe to call twice, and before `make`."""
        _remove_shared_memory(self.shm_prefix)
        if self.path:
            shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def temporary_folder() -> Path:
    """Return the folder of `$TMPDIR`, under a name that Triton's shell lines can hold."""
    return plain_path(Path(tempfile.gettempdir()))


def sweep(folder: Path | None = None) -> list[Path]:
    """End servers whose parents were killed, remove their folders, and return these.

    Such a server drains for at most two seconds. Servers of living parents and of other users stay. What
    another process sweeps at the same time is gone, too, when this returns.
    """
    swept = []
    for runtime in (folder or temporary_folder()).glob(f"{_FOLDER}*"):
        if not _is_ours(runtime):
            continue
        with contextlib.suppress(OSError), (runtime / _LOCK).open("r+") as lock:
            _take(lock)
            shm_prefix = _shm_prefix(runtime.name.removeprefix(_FOLDER))
            end_processes(_processes(shm_prefix), _GRACE_S, partial(_belongs, shm_prefix=shm_prefix))
            _remove_shared_memory(shm_prefix)
            shutil.rmtree(runtime)
            swept.append(runtime)
    return swept


def _take(lock: TextIO) -> None:
    """Lock the folder of a dead owner, after another sweep if there is one.

    Raises BlockingIOError if the owner lives.
    """
    until_s = time.monotonic() + _SWEEP_S
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if _owner_lives(lock) or time.monotonic() > until_s:
                raise
        time.sleep(_POLL_S)


def _owner_lives(lock: TextIO) -> bool:
    """Tell whether the process lives whose number the file has; True if it has none."""
    lock.seek(0)
    number = lock.read()
    return not number.isdecimal() or identify(int(number)) is not None


def _is_ours(runtime: Path) -> bool:
    """Tell whether this user's `RuntimeFolder` made it. In /tmp any user can make a folder of any name."""
    with contextlib.suppress(FileNotFoundError):
        return bool(_NAME.fullmatch(runtime.name)) and runtime.lstat().st_uid == os.geteuid()
    return False


def _shm_prefix(name: str) -> str:
    return f"cesta-{name}-"


def _remove_shared_memory(prefix: str) -> None:
    for segment in SHARED_MEMORY.glob(f"{glob.escape(prefix)}*"):
        segment.unlink(missing_ok=True)


def _processes(shm_prefix: str) -> list[int]:
    """Return server and stubs."""
    pids = [int(process.name) for process in Path("/proc").glob("[0-9]*")]
    return [pid for pid in pids if _belongs(pid, shm_prefix)]


def _belongs(pid: int, shm_prefix: str) -> bool:
    """Tell whether it is a server or a stub with this shared memory, which its command line names."""
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        return Path(words[0]).name in _PROGRAMS and any(shm_prefix in word for word in words[1:])
    return False
