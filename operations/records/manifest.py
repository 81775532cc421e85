"""What a run or a release says of itself, and the check that its files are what it says."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from operations.errors import CestaError
from operations.records.object_path import ObjectPath

NAME: Final = "manifest.json"

Place = Path | ObjectPath
Files = dict[str, dict[str, Any]]  # path relative to a folder, with slashes → {"sha256", "bytes"}


def sha256(path: Place) -> str:
    """Hex digest of a file's content."""
    if isinstance(path, ObjectPath):
        digest = hashlib.sha256()
        for chunk in path.chunks():
            digest.update(chunk)
        return digest.hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe(paths: Iterable[Place], folder: Place) -> Files:
    """SHA-256 and size in bytes of the files among ``paths``, by their path below ``folder``, sorted."""
    files = sorted(path for path in paths if path.is_file())
    return {p.relative_to(folder).as_posix(): {"sha256": sha256(p), "bytes": p.stat().st_size} for p in files}


def digest(files: Files) -> str:
    """One SHA-256 over names and contents: equal files have equal digests, whenever and wherever made."""
    listing = "".join(f"{files[name]['sha256']}  {name}\n" for name in sorted(files))
    return hashlib.sha256(listing.encode()).hexdigest()


def read(path: Place) -> dict[str, Any]:
    """A JSON object that cesta wrote: a manifest, metrics. Raises CestaError if it is none."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CestaError(f"{path} is damaged: {error}") from None
    return content


def write(manifest: dict[str, Any], folder: Place) -> None:
    """Write ``manifest.json`` into ``folder``."""
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    (folder / NAME).write_text(text, encoding="utf-8")


def verify_run(run: Path) -> dict[str, Any]:
    """The manifest of the run folder, after its files were found to be as it says; CestaError otherwise."""
    if not (run / NAME).exists():
        raise CestaError(f'no run in {run} ({NAME} is missing); run "cesta export" first')
    manifest = read(run / NAME)
    files = set(run.rglob("*")) - {run / NAME}
    check_files(manifest["files"], describe(files, run), run, way_out='run "cesta export" again')
    return manifest


def check_files(listed: Files, present: Files, folder: Place, *, way_out: str) -> None:
    """Raise CestaError naming the first file of ``folder`` that is missing, altered or not listed."""
    for name, expected in listed.items():
        if name not in present:
            raise CestaError(f"{folder / name} is missing; {way_out}")
        if present[name] != expected:
            raise CestaError(
                f"{folder / name} is not what the manifest lists ({present[name]['bytes']} bytes, SHA-256 "
                f"{present[name]['sha256'][:12]}…; listed {expected['bytes']} and "
                f"{expected['sha256'][:12]}…); {way_out}"
            )
    if strangers := sorted(set(present) - set(listed)):
        raise CestaError(f"{folder / strangers[0]} is not in the manifest; remove it")
