"""Files by their content: what a manifest lists, and what a store is asked for."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from operations.records.json_record import JsonRecord


class FileRecord(JsonRecord, frozen=True):
    """A file's SHA-256 and its size in bytes."""

    sha256: str
    bytes: int


Files = Mapping[str, FileRecord]  # by path relative to a folder, with slashes


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe(paths: Iterable[Path], folder: Path) -> dict[str, FileRecord]:
    """The files among ``paths`` by their path below ``folder``, sorted."""
    files = sorted(path for path in paths if path.is_file())
    return {
        path.relative_to(folder).as_posix(): FileRecord(sha256=sha256(path), bytes=path.stat().st_size)
        for path in files
    }


def digest(files: Files) -> str:
    """One SHA-256 over names and contents: equal files have equal digests, whenever and wherever made."""
    listing = "".join(f"{files[name].sha256}  {name}\n" for name in sorted(files))
    return hashlib.sha256(listing.encode()).hexdigest()
