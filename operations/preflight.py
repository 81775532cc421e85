"""Checked before anything is installed: is this Python right, and is there room? Standard library only.

python3.11 operations/preflight.py
"""

import importlib.util
import shutil
import sys
from pathlib import Path

PYTHON = (3, 11)  # what the pinned environments were tried on; the serving one goes no further than 3.12
GIB = 2**30
NEEDED_GIB = 5  # environments of 3.3 GiB together, the tests' among them, artifacts of .4 GiB, and a margin
CUDA_GIB = 4  # more, where pip takes torch with CUDA, as from PyPI on Linux


def main() -> None:
    """Exit with one sentence if the machine will not do."""
    if sys.version_info[:2] != PYTHON:
        found, wanted = (".".join(map(str, v)) for v in (sys.version_info[:2], PYTHON))
        sys.exit(f"Python {found} will not do; cesta needs {wanted}: make PYTHON=/path/to/python{wanted}")
    if importlib.util.find_spec("ensurepip") is None:
        sys.exit("this Python cannot make virtual environments (no ensurepip); install its venv package")
    root = Path(__file__).resolve().parent.parent
    free = shutil.disk_usage(root).free / GIB
    if free < NEEDED_GIB and not (root / ".venv-serving").exists():
        sys.exit(
            f"{free:.1f} GiB free in {root}; the environments and artifacts need {NEEDED_GIB}, "
            f"and {CUDA_GIB} more where pip takes torch with CUDA: free some"
        )


if __name__ == "__main__":
    main()
