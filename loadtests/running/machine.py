"""Describes the machine that runs the measurements, and how busy it is."""

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from rich.console import Console

BUSY: Final = 0.2  # cores; with more, figures are not for quoting


def describe_machine() -> dict[str, Any]:
    """The processor, the system and the versions of the packages that matter for speed."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    packages = ("onnxruntime", "torch", "fastapi", "uvicorn", "numpy")
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }


def ask_how_busy(console: Console) -> float:
    """Return how many cores are busy with other work, and say so if they spoil the figures."""
    busy = count_busy_cores()
    if busy > BUSY:
        console.print(f"{busy:.1f} cores are busy with other work: these figures are for development only")
    return busy


def remark_on(busy: float) -> str:
    """Return a sentence for the document behind a text, or "" if the machine was idle enough."""
    return f" **{busy} cores were busy with other work: not for quoting.**" if busy > BUSY else ""


def count_busy_cores(seconds: float = 0.5) -> float:
    """The number of cores that all programs use now. It should be near 0 before a comparison starts."""

    def used_s() -> float:
        ticks = [int(n) for n in Path("/proc/stat").read_text(encoding="utf-8").split("\n")[0].split()[1:]]
        return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")  # without idle, iowait

    before = used_s()
    time.sleep(seconds)
    return (used_s() - before) / seconds
