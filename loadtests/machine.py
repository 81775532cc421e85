"""The machine that is measured on: what it is, and how busy it is."""

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """Where it ran, and how busy the machine was with other work before."""
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


def busy_cores(seconds: float = 0.5) -> float:
    """Cores in use by anyone right now; a comparison wants it near 0 before it starts."""

    def used() -> float:
        ticks = [int(n) for n in Path("/proc/stat").read_text(encoding="utf-8").split("\n")[0].split()[1:]]
        return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")  # without idle, iowait

    before = used()
    time.sleep(seconds)
    return (used() - before) / seconds
