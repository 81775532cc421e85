"""Checks Python and the free disk space before anything is installed. Standard library only.

python3.11 operations/preflight.py
"""

import importlib.util
import shutil
import sys
from pathlib import Path

PYTHON = (3, 11)  # the pinned environments are tested with it; the serving environment needs 3.12 or older
GIB = 2**30
NEEDED_GIB = 5  # 3.3 GiB for all environments, the tests' included, 0.4 GiB for artifacts, and a margin
CUDA_GIB = 4  # more, if pip installs torch with CUDA, as it does from PyPI on Linux


def main() -> None:
    """Exit with one sentence if the machine does not meet the needs."""
    if sys.version_info[:2] != PYTHON:
        version, needed = (".".join(map(str, parts)) for parts in (sys.version_info[:2], PYTHON))
        sys.exit(f"this is Python {version}; cesta needs {needed}: make PYTHON=/path/to/python{needed}")
    if importlib.util.find_spec("ensurepip") is None:
        sys.exit("this Python cannot make virtual environments (no ensurepip); install its venv package")
    root = Path(__file__).resolve().parent.parent
    free = shutil.disk_usage(root).free / GIB
    if free < NEEDED_GIB and not (root / ".venv-serving").exists():
        sys.exit(
            f"{free:.1f} GiB free in {root}; the environments and artifacts need {NEEDED_GIB}, "
            f"and {CUDA_GIB} more if pip installs torch with CUDA: free some"
        )


if __name__ == "__main__":
    main()
