"""What all nodes of a cluster must have alike: cesta's code, and the libraries that decide its numbers."""

import hashlib
import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from typing import Final

from operations.errors import CestaError
from operations.shipped import ROOT

FOLDERS: Final = ("ensemble", "export_scripts", "operations")
LIBRARIES: Final = ("numpy", "pandas", "torch", "onnxruntime", "duckdb")


@cache
def software() -> Mapping[str, str]:
    """Return the versions that this process has, by name."""
    code = hashlib.sha256()
    for path in sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")):
        code.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return {
        "python": platform.python_version(),
        "the code of cesta": code.hexdigest()[:12],
        **{name: version(name) for name in LIBRARIES},
    }


def check_software(expected: Mapping[str, str], node: str) -> None:
    """Raise CestaError if this process, on ``node``, has other versions than ``expected``."""
    own = software()
    for name, wanted in expected.items():
        if own.get(name) != wanted:
            raise CestaError(
                f"the Ray node {node} has {name} {own.get(name, 'not at all')}, and the stage has {wanted}; "
                "install the same on every node"
            )
