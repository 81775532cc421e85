"""A limit on the memory of a process and its children, by a control group where the machine allows one."""

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path("/sys/fs/cgroup")
JOIN: Final = 'echo $$ > "$0/cgroup.procs" && exec "$@"'  # for sh: the group, then the command
ATTEMPTS: Final = 50  # to remove a group
UNITS: Final = {"MiB": 2**20, "GiB": 2**30}


@dataclass(frozen=True)
class Group:
    """A control group of its own, of version 1 or 2."""

    folder: Path
    killed_file: str  # its line "oom_kill N" counts what the system killed

    def command(self, command: Sequence[str]) -> list[str]:
        """Return the command that runs ``command`` inside the group."""
        return ["sh", "-c", JOIN, str(self.folder), *command]

    def has_killed(self) -> bool:
        """Say whether the system has killed a process because the group reached its limit."""
        lines = (self.folder / self.killed_file).read_text().splitlines()
        return any(line.startswith("oom_kill ") and line != "oom_kill 0" for line in lines)

    def remove(self) -> None:
        """Remove the group. Processes that a killed command left in it are killed, too."""
        for _ in range(ATTEMPTS):
            for pid in (self.folder / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            try:
                return self.folder.rmdir()
            except OSError:  # the system has not taken their memory back yet
                time.sleep(0.1)
        return None


@contextlib.contextmanager
def memory_group(limit: int) -> Iterator[Group | None]:
    """Make a group of at most ``limit`` bytes and remove it again; None where no group can be made."""
    group = _make_group(limit)
    try:
        yield group
    finally:
        if group:
            group.remove()


def parse_memory(text: str) -> int:
    """Read "12GiB" or "500MiB" as bytes. Raises ValueError with the way out."""
    for unit, size in UNITS.items():
        if text.endswith(unit) and text.removesuffix(unit).strip().isdecimal():
            return int(text.removesuffix(unit)) * size
    raise ValueError(f"{text} is no amount of memory: write it as 12GiB or 500MiB")


def _make_group(limit: int) -> Group | None:
    for parent, limit_file, killed_file in _places():
        folder = parent / f"cesta-growth-{uuid.uuid4().hex[:8]}"
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            (folder / limit_file).write_text(str(limit))
            return Group(folder, killed_file)
        except OSError:  # a group of another kind, without a limit of memory
            folder.rmdir()
    return None


def _places() -> list[tuple[Path, str, str]]:
    """Where a group may be made: below our own group, or below the root; the names of its files."""
    own = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        own[controllers] = path.lstrip("/")
    first = ("memory.limit_in_bytes", "memory.oom_control")
    second = ("memory.max", "memory.events")
    parents = [(ROOT / "memory", *first), (ROOT, *second)]
    if "memory" in own:
        parents.insert(0, (ROOT / "memory" / own["memory"], *first))
    elif "" in own:
        parents.insert(0, (ROOT / own[""], *second))
    return [place for place in parents if os.access(place[0], os.W_OK)]
