"""Record how a run was made: the checkout's commit, and the versions of Python and of the libraries."""

import platform
import subprocess
from importlib import import_module
from pathlib import Path
from typing import Final

LIBRARIES: Final = ("faiss", "numba", "numpy", "onnx", "onnxruntime", "pandas", "scipy", "torch")


def made_with() -> dict[str, str]:
    """The versions of Python and of the libraries that affect a run.

    Versions come from the modules, not from the installed packages: the package onnxruntime-gpu holds the
    module onnxruntime, too, and faiss-gpu the module faiss.
    """
    versions = {name: str(import_module(name).__version__) for name in LIBRARIES}
    return {"python": platform.python_version()} | versions


def git_commit() -> str | None:
    """The checkout's commit, with "+changes" if files differ from it; None outside a checkout."""

    def run_git(*arguments: str) -> str:
        folder = Path(__file__).parent
        process = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
        return process.stdout.strip()

    try:
        return run_git("rev-parse", "HEAD") + ("+changes" if run_git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
