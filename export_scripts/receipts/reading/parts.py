"""Finds the files of a table: one file, a folder, hive folders, a pattern, a list, or these in a bucket."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pyarrow as pa

from export_scripts.receipts.problems import Problem, Problems
from export_scripts.receipts.reading.manifests import files_of, is_manifest
from operations.errors import CestaError
from operations.records.object_file import ObjectFile
from operations.records.object_path import ObjectPath
from operations.records.parallel import run_all

if TYPE_CHECKING:
    from obstore import ObjectMeta

STORES = ("s3", "gs")
PATTERN = frozenset("*?[")  # signs of a pattern
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"  # the folder of rows whose key is null
# Files below a folder of another table format include rows that are deleted since.
OTHER_FORMATS = {"_delta_log": "a Delta table", ".hoodie": "a Hudi table", "metadata": "an Iceberg table"}
ICEBERG = ".metadata.json"  # how its files in "metadata" end
UNFINISHED = (
    ".part",
    ".partial",
    ".filepart",
    ".crdownload",
    ".tmp",
    ".temp",
    ".swp",
    "~",
)  # of copies and editors
PASSED_OVER = (
    "hidden files, files that start with an underscore, unfinished copies such as x.csv.part and empty files "
    "are passed over"
)


@dataclass(frozen=True)
class Part:
    """One file of a table, on this machine or in a bucket."""

    name: str  # below the folder or the pattern; the file's own name if it was named itself
    path: Path | ObjectPath
    size: int  # bytes
    version: str  # another one after a change: its time and the inode, or the store's tag
    keys: tuple[tuple[str, str | None], ...] = ()  # columns, from folders such as date=2024-01-01

    def open(self) -> pa.NativeFile:
        if isinstance(self.path, ObjectPath):
            return pa.PythonFile(ObjectFile(self.path), "r")
        return pa.OSFile(str(self.path))

    @property
    def is_local(self) -> bool:
        return isinstance(self.path, Path)

    def is_unchanged(self) -> bool:
        """Is the file still the one that was found? No, if it cannot be asked."""
        try:
            if isinstance(self.path, Path):
                return _local_part(self.name, self.path).version == self.version
            head = self.path.head()
        except (OSError, CestaError):
            return False
        return head is not None and _version(head) == self.version


@dataclass(frozen=True)
class Parts:
    """The files of a table in the order of their names, and the name of the table for messages."""

    name: str
    files: tuple[Part, ...]


def find_parts(path: Path | str, problems: Problems) -> Parts | None:
    """Find the files of a table, in the order of their names; None and a problem if there are none.

    Raises CestaError for a bucket that cannot be listed.
    """
    text = str(path)
    is_list = is_manifest(text) and not Path(text).is_dir()
    found = _in_manifest(text) if is_list else _found(text)
    if isinstance(found, Problem):
        problems.add(found)
        return None
    return found


def parts_state(*paths: Path | str | None) -> str:
    """Name, size and version of every file of these tables: cheaper than a digest where files are large."""
    state: list[object] = []
    for path in paths:
        if path is not None and (found := find_parts(path, Problems())):
            state += [(str(part.path), part.size, part.version) for part in found.files]
    return json.dumps(state)


def is_pattern(text: str) -> bool:
    return not PATTERN.isdisjoint(text)


def without_secrets(place: str) -> str:
    """Return an address without a password, and without a query, which can hold a signature."""
    scheme, separator, rest = place.partition("://")
    if not separator:
        return place
    host, *folders = rest.partition("?")[0].split("/")
    return "/".join([f"{scheme}://{host.rpartition('@')[2]}", *folders])


def _found(text: str) -> Parts | Problem:
    return _in_bucket(text) if "://" in text else _on_disk(Path(text))


def _in_manifest(text: str) -> Parts | Problem:
    """Find the files that a list of files names. Each is named by its address, since names may repeat."""
    listed = _found(text)
    if isinstance(listed, Problem):
        return listed
    with listed.files[0].open() as file:
        sizes = files_of(text, file.read())
    if isinstance(sizes, Problem):
        return sizes
    parts = []
    found_of = run_all([partial(_found, name) for name in sizes])
    for (name, size), found in zip(sizes.items(), found_of, strict=True):
        if isinstance(found, Problem):
            return Problem(listed.name, f"it names {without_secrets(name)}: {found.what}", found.way_out)
        present = sum(part.size for part in found.files)
        if size is not None and size != present:
            what = f"it names {without_secrets(name)} with {size:,} bytes, and there are {present:,}"
            return Problem(listed.name, what, "copy or unload the file again")
        parts += [replace(part, name=name, keys=_keys(name)) for part in found.files]
    return _parts(listed.name, parts) or Problem(
        listed.name, "all files that it names are empty", "check what was unloaded"
    )


def _on_disk(path: Path) -> Parts | Problem:
    if path.is_dir():
        return _chosen(path.name, path, _files_below(path), "the folder")
    if not path.exists() and is_pattern(str(path)):
        split = next(i for i, part in enumerate(path.parts) if is_pattern(part))
        root, pattern = Path(*path.parts[:split]), path.parts[split:]
        matches = root.glob("/".join(pattern))
        found = (file for match in matches for file in (_files_below(match) if match.is_dir() else [match]))
        return _chosen("/".join(pattern), root, found, "the pattern")
    if not path.exists():
        return Problem(path.name, f"no such file: {path}", "check the path")
    if not path.is_file():
        return Problem(path.name, f"it is a pipe or a device: {path}", "save its content as a file")
    if path.stat().st_size == 0:
        return Problem(path.name, "the file is empty", "export it again, with a header line")
    return Parts(path.name, (_local_part(path.name, path),))


def _files_below(folder: Path) -> Iterator[Path]:
    """Yield all files below, behind links too. Raises OSError for a folder that cannot be read."""
    entered = set()
    for place, folders, files in os.walk(folder, onerror=_raise, followlinks=True):
        entered.add(Path(place).resolve())
        folders[:] = [name for name in folders if Path(place, name).resolve() not in entered]
        yield from (Path(place, name) for name in files)


def _raise(error: OSError) -> None:
    raise error


def _chosen(name: str, root: Path, found: Iterable[Path], what: str) -> Parts | Problem:
    """Choose the files that hold rows, each once: a pattern can match a folder and a file in it."""
    below = {file.relative_to(root).as_posix(): file for file in found}
    if other := _other_format(below):
        return _problem_of_format(name, other)
    chosen = sorted(file for file in below if _holds_rows(file))
    parts = [_local_part(file, below[file]) for file in chosen if below[file].is_file()]
    return _parts(name, parts) or _problem_of_none(name, what, str(root))


def _local_part(name: str, path: Path) -> Part:
    stat = path.stat()
    # No program can set the time of a change (ctime) back, as it can that of a modification.
    return Part(name, path, stat.st_size, f"{stat.st_ctime_ns} {stat.st_ino}", _keys(name))


def _in_bucket(url: str) -> Parts | Problem:
    scheme, _, place = url.partition("://")
    if scheme not in STORES:
        return Problem(
            without_secrets(url),
            f"{scheme}:// is no place that is read",
            "name a path, or a bucket as s3://… or gs://…",
        )
    bucket, *folders = place.split("/")
    if any(name in (".", "..") or not name.isprintable() for name in folders):
        return Problem(without_secrets(url), "no object has such a name", "check the address")
    split = next((i for i, folder in enumerate(folders) if is_pattern(folder)), len(folders))
    prefix = "/".join(filter(None, folders[:split]))
    pattern = list(filter(None, folders[split:]))
    root = ObjectPath.at(f"{scheme}://{bucket}")
    root = root / prefix if prefix else root
    if not pattern and prefix and not url.endswith("/") and (head := root.head()):
        if not head["size"]:
            return Problem(root.name, "the object is empty", "export it again, with a header line")
        return Parts(root.name, (_object_part(root.name, root, head),))
    found = {}
    for meta in root.listing():
        file = PurePosixPath(meta["path"]).relative_to(prefix or ".")
        if _matches(file.parts, pattern):
            found[str(file)] = meta
    if other := _other_format(found):
        return _problem_of_format(url, other)
    parts = [_object_part(name, root, meta) for name, meta in sorted(found.items()) if _holds_rows(name)]
    return _parts(url, parts) or _problem_of_none(url, "the bucket below", str(root))


def _object_part(name: str, root: ObjectPath, meta: ObjectMeta) -> Part:
    path = ObjectPath(root.store, root.url, meta["path"], meta["size"])
    return Part(name, path, meta["size"], _version(meta), _keys(name))


def _version(meta: ObjectMeta) -> str:
    return meta["e_tag"] or str(meta["last_modified"])


def _matches(names: Sequence[str], pattern: Sequence[str]) -> bool:
    """Does the pattern match the path, or a folder above it? Two stars match folders of any depth."""
    if not pattern:
        return True
    if pattern[0] == "**":
        return any(_matches(names[depth:], pattern[1:]) for depth in range(len(names) + 1))
    return bool(names) and fnmatchcase(names[0], pattern[0]) and _matches(names[1:], pattern[1:])


def _holds_rows(name: str) -> bool:
    """Tell files of rows from marks such as _SUCCESS, and from what a program keeps beside them."""
    return not name.endswith(UNFINISHED) and not any(part.startswith((".", "_")) for part in name.split("/"))


def _other_format(names: Iterable[str]) -> str:
    """Return what the files are if a table format manages them, else ""."""
    for name in names:
        *folders, file = name.split("/")
        for folder in folders:
            if folder in OTHER_FORMATS and (folder != "metadata" or file.endswith(ICEBERG)):
                return OTHER_FORMATS[folder]
    return ""


def _parts(name: str, parts: Iterable[Part]) -> Parts | None:
    """Return the files that are not empty, each once: links, or two names of a list, can lead to one file."""
    files: dict[str, Part] = {}
    for part in parts:
        if part.size:
            address = part.path.resolve() if isinstance(part.path, Path) else part.path
            files.setdefault(str(address), part)
    return Parts(name, tuple(files.values())) if files else None


def _keys(name: str) -> tuple[tuple[str, str | None], ...]:
    """Return column and value of each folder that is named column=value."""
    pairs = [folder.partition("=") for folder in name.split("/")[:-1] if "=" in folder.strip("=")]
    return tuple((unquote(key), None if value == NO_VALUE else unquote(value)) for key, _, value in pairs)


def _problem_of_none(name: str, what: str, place: str) -> Problem:
    return Problem(name, f"{what} holds no file of rows: {place}", f"check the path; {PASSED_OVER}")


def _problem_of_format(name: str, kind: str) -> Problem:
    what = f"it is {kind}, whose files hold rows that are deleted since"
    return Problem(name, what, "write its present rows as plain parquet files, and name these")
