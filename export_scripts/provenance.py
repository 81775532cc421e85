"""What made a run: the checkout's commit, and the versions of Python and of the libraries."""

import platform
import subprocess
from importlib import import_module
from pathlib import Path
from typing import Final

LIBRARIES: Final = ("faiss", "numba", "numpy", "onnx", "onnxruntime", "pandas", "scipy", "torch")


def made_with() -> dict[str, str]:
    """Versions of Python and of the libraries that shape a run.

    Of the modules, not of what was installed: onnxruntime is also in onnxruntime-gpu, faiss in faiss-gpu.
    """
    versions = {name: str(import_module(name).__version__) for name in LIBRARIES}
    return {"python": platform.python_version()} | versions


def git_commit() -> str | None:
    """The checkout's commit, with "+changes" if it was not clean; None outside a checkout."""

    def git(*words: str) -> str:
        here = Path(__file__).parent
        done = subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
