"""Record how a run was made: the versions of Python and of the libraries."""

import platform
from importlib import import_module
from typing import Final

LIBRARIES: Final = ("faiss", "numba", "numpy", "onnx", "onnxruntime", "pandas", "scipy", "torch")


def made_with() -> dict[str, str]:
    """The versions of Python and of the libraries that affect a run.

    Versions come from the modules, not from the installed packages: the package onnxruntime-gpu holds the
    module onnxruntime, too, and faiss-gpu the module faiss.
    """
    versions = {name: str(import_module(name).__version__) for name in LIBRARIES}
    return {"python": platform.python_version()} | versions
