"""The place of a result: a folder or a bucket. Its manifest is written last, so what has one is whole.

A folder is filled beside its place, as ``.NAME.unfinished``, and renamed. A bucket cannot rename: partitions
are written to their place, and the manifest of an earlier result is deleted first.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

from operations.errors import WontOverwrite
from operations.records import file_record
from operations.records.atomic import resumed_folder, write_file
from operations.records.disk import FILE_MODE
from operations.records.file_record import FileRecord
from operations.records.object_path import ObjectPath
from operations.records.parallel import run_all
from operations.records.place import Place
from operations.releases.stores.lease import Lease

MANIFEST: Final = "_manifest.json"  # readers of parquet folders pass over names that begin with "_"
LEFT_OUT: Final = "_left_out.csv"
COMPARISON: Final = "_comparison.csv"
LOCK: Final = "_lock"  # of a bucket, while a run fills it
BESIDE: Final = (LEFT_OUT, COMPARISON, MANIFEST)
NAMES: Final = ("partition=*", *BESIDE)


def partition_name(number: int) -> str:
    """Folders that Hive, Spark, DuckDB and Arrow read as a column ``partition``."""
    return f"partition={number:05d}/scores.parquet"


class Results(Protocol):
    """The unfinished result. Names are relative, with slashes."""

    def names(self) -> list[str]:
        """The files that are there."""

    def read(self, name: str) -> bytes: ...

    def write(self, name: str, content: bytes) -> None:
        """Write or replace a file, whole or not at all."""

    def delete(self, name: str) -> None: ...


class FolderResults:
    """A result in a folder. Implements ``Results``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        """The files that are there, without those that a killed run left half-written."""
        paths = self._folder.rglob("*")
        names = [path.relative_to(self._folder) for path in paths if path.is_file()]
        return sorted(name.as_posix() for name in names if not name.name.startswith("."))

    def read(self, name: str) -> bytes:
        return (self._folder / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        write_file(self._folder / name, content, mode=FILE_MODE)

    def delete(self, name: str) -> None:
        (self._folder / name).unlink()


class BucketResults:
    """A result in a bucket. Implements ``Results``."""

    def __init__(self, root: ObjectPath, lease: Lease) -> None:
        self._root, self._lease = root, lease

    def names(self) -> list[str]:
        return list(_objects(self._root))

    def read(self, name: str) -> bytes:
        return (self._root / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        self._lease.check()
        (self._root / name).write_bytes(content)

    def delete(self, name: str) -> None:
        self._lease.check()
        (self._root / name).unlink(missing_ok=True)


@contextmanager
def open_results(place: str) -> Iterator[Results]:
    """Yield what an earlier run left unfinished at ``place``; the block writes the manifest last.

    Raises WontOverwrite for a place with files that are no result, and CestaError if another process is
    filling the place.
    """
    if "://" not in place:
        with resumed_folder(Path(place), marker=MANIFEST, names=NAMES) as folder:
            yield FolderResults(folder)
        return
    root = ObjectPath.at(place)
    lease = Lease(root / LOCK)
    with lease.held():
        results = BucketResults(root, lease)
        names = results.names()
        if strangers := [name for name in names if not _is_ours(name)]:
            raise WontOverwrite(f"{place}/{strangers[0]} is not of a result of cesta; choose another prefix")
        if MANIFEST in names:
            results.delete(MANIFEST)  # nobody reads a mixture of the two results
        yield results


def read_manifest(place: str) -> tuple[bytes, Place] | None:
    """The manifest of the whole result at ``place``, and where it lies; None if there is none."""
    path: Place = (ObjectPath.at(place) if "://" in place else Path(place)) / MANIFEST
    return (path.read_bytes(), path) if path.exists() else None


def describe_partitions(place: str) -> dict[str, FileRecord]:
    """Digest and size of every file of a partition at ``place``, by name, whoever wrote it."""
    if "://" not in place:
        return file_record.describe(Path(place).glob("partition=*/[!.]*"), Path(place))
    root = ObjectPath.at(place)
    paths = {name: path for name, path in _objects(root).items() if name not in BESIDE}
    return dict(zip(paths, run_all([path.describe for path in paths.values()]), strict=True))


def _objects(root: ObjectPath) -> dict[str, ObjectPath]:
    """The objects of a result by name, without those of its lock."""
    paths = {path.relative_to(root).as_posix(): path for path in root.files()}
    return {name: path for name, path in paths.items() if name != LOCK and not name.startswith(".")}


def _is_ours(name: str) -> bool:
    return name in BESIDE or (name.startswith("partition=") and name.endswith("/scores.parquet"))
