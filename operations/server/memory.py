"""How much memory another process may take: of the machine, of this process's cgroups, and of the GPUs."""

import contextlib
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")
_GPU_ANSWERS_S = 10


class Memory(NamedTuple):
    """Bytes that are free, and whose they are: ``the machine``, or the cgroup with the least."""

    free: int
    owner: str


def available_memory(proc: Path = PROC, cgroups: Path = CGROUPS) -> Memory | None:
    """The least of the machine's and the cgroups' free memory; None if the kernel does not say.

    Pages of files count as free, because the kernel drops them when memory runs short.
    """
    places = [*_machine(proc), *_version_2(proc, cgroups), *_version_1(proc, cgroups)]
    return min(places, default=None)


def available_gpu_memory() -> int | None:
    """Bytes that are free on the fullest GPU; None without a GPU."""
    query = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, timeout=_GPU_ANSWERS_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    mebibytes = [int(line) for line in told.stdout.split() if line.isdecimal()]
    return min(mebibytes) * 2**20 if mebibytes else None


def _machine(proc: Path) -> list[Memory]:
    with contextlib.suppress(OSError):
        if found := re.search(r"^MemAvailable:\s+(\d+) kB", (proc / "meminfo").read_text(), re.MULTILINE):
            return [Memory(int(found[1]) * 1024, "the machine")]
    return []


def _version_2(proc: Path, cgroups: Path) -> list[Memory]:
    return [
        memory
        for folder in _folders(proc, "", cgroups)
        if (memory := _free(folder, "memory.max", "memory.current", "inactive_file", "active_file"))
    ]


def _version_1(proc: Path, cgroups: Path) -> list[Memory]:
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", "total_active_file")
    folders = _folders(proc, "memory", cgroups / "memory")
    return [memory for folder in folders if (memory := _free(folder, *names))]


def _folders(proc: Path, controller: str, root: Path) -> list[Path]:
    """This process's folder below ``root`` and those above it. In a container ``root`` may be its own."""
    with contextlib.suppress(OSError):
        for line in (proc / "self" / "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controller in controllers.split(","):
                own = root / path.strip("/")
                return [own, *(parent for parent in own.parents if parent.is_relative_to(root))]
    return []


def _free(folder: Path, limit: str, usage: str, *droppable: str) -> Memory | None:
    """The memory that is left of a cgroup's limit; None if it has none."""
    try:
        allowed, used = ((folder / name).read_text().strip() for name in (limit, usage))
        counts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    if not allowed.isdecimal():  # "max"
        return None
    dropped = sum(int(counts.get(name, 0)) for name in droppable)
    return Memory(max(0, int(allowed) - int(used) + dropped), f"the limit in {folder / limit}")
