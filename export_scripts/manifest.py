"""What a run or a release says of itself, and the check that its files are what it says."""

import hashlib
import json
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from export_scripts.errors import CestaError

NAME: Final = "manifest.json"
LIBRARIES: Final = ("faiss-cpu", "numba", "numpy", "onnx", "onnxruntime", "pandas", "scipy", "torch")


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Every file below ``folder`` except the manifest: relative path → SHA-256 and size in bytes, sorted."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != NAME)
    return {str(p.relative_to(folder)): {"sha256": sha256(p), "bytes": p.stat().st_size} for p in files}


def digest(files: dict[str, dict[str, Any]]) -> str:
    """One SHA-256 over names and contents: equal runs have equal digests, whenever and wherever they were made."""
    listing = "".join(f"{files[name]['sha256']}  {name}\n" for name in sorted(files))
    return hashlib.sha256(listing.encode()).hexdigest()


def verify(folder: Path) -> dict[str, Any]:
    """The manifest of ``folder``, after its files were found to be as it says.

    Raises CestaError naming the first file that is missing, altered or not listed.
    """
    path = folder / NAME
    if not path.exists():
        raise CestaError(f'no run in {folder} ({NAME} is missing); run "cesta export" first')
    manifest: dict[str, Any] = json.loads(path.read_text())
    present = describe_files(folder)
    for name, expected in manifest["files"].items():
        if name not in present:
            raise CestaError(f'{folder / name} is missing; run "cesta export" again')
        if present[name] != expected:
            raise CestaError(
                f"{folder / name} is not what the manifest lists ({present[name]['bytes']} bytes, SHA-256 "
                f'{present[name]["sha256"][:12]}…; listed {expected["bytes"]} and {expected["sha256"][:12]}…); '
                'run "cesta export" again'
            )
    if strangers := sorted(set(present) - set(manifest["files"])):
        raise CestaError(f"{folder / strangers[0]} is not in the manifest; remove it")
    return manifest


def write(manifest: dict[str, Any], folder: Path) -> None:
    """Write ``manifest.json`` into ``folder``."""
    (folder / NAME).write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")


def made_with() -> dict[str, str]:
    """Versions of Python and of the libraries that shape a run."""
    return {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES}


def git_commit() -> str | None:
    """The checkout's commit, with "+changes" if it was not clean; None outside a checkout."""

    def git(*words: str) -> str:
        here = Path(__file__).parent
        return subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
