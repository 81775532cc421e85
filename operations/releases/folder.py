"""A repository in a folder: renames make a change whole, a file lock keeps other operators out."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

from operations.errors import BeingChanged
from operations.records import manifest
from operations.records.atomic import flush, scratch_folder, write_file
from operations.records.contract import ENSEMBLE

STAGING: Final = ".publishing-"  # in the repository, so that one rename moves a model in; Triton ignores it


class FolderRepository:
    """Implements ``store.Repository`` for the folder ``root``."""

    is_remote: Final = False

    def __init__(self, root: Path) -> None:
        self.root = root

    def __str__(self) -> str:
        return str(self.root)

    def __truediv__(self, name: str, /) -> Path:
        return self.root / name

    def describe(self, folder: str) -> dict[str, manifest.FileRecord]:
        """Digest and size of every file below a folder, by name."""
        return manifest.describe((self / folder).rglob("*"), self.root)

    def modified_s(self, name: str) -> float | None:
        """The time when a file was last written, in seconds since 1970; None if there is none."""
        path = self / name
        return path.stat().st_mtime if path.exists() else None

    def write(self, name: str, content: bytes) -> None:
        """Write or replace a file. Readers see the whole old content or the whole new one."""
        # Staged in the root: any new name in a model's folder makes Triton reload all of its versions.
        write_file(self / name, content, staged_in=self.root)

    def append(self, name: str, line: str) -> None:
        """Add a line to a file; on disk when this returns."""
        path = self / name
        torn = path.exists() and not path.read_bytes().endswith(b"\n")  # by a power failure
        with path.open("a", encoding="utf-8") as file:
            file.write(("\n" if torn else "") + line + "\n")
            file.flush()
            os.fsync(file.fileno())

    def delete(self, name: str) -> None:
        """Delete a file, if it is there."""
        (self / name).unlink(missing_ok=True)

    def delete_folder(self, name: str) -> None:
        """Delete a folder and everything in it, if it is there."""
        if (self / name).exists():
            shutil.rmtree(self / name)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder's file lock, which ends with its process; BeingChanged if another holds it."""
        handle = os.open(self.root, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise BeingChanged(
                f"{self} is being changed by another cesta, or by a server that has just started and loads "
                "its releases; wait until it is done"
            ) from None
        try:
            yield
        finally:
            os.close(handle)  # this ends the lock

    def stage(self) -> AbstractContextManager[Path]:
        """An empty folder in the repository to assemble a release in; deleted when the block ends."""
        return scratch_folder(self.root, STAGING)

    def taken_numbers(self) -> set[int]:
        """None: in a folder a number is taken by moving the release in."""
        return set()

    def move_in(self, staging: Path, release: int) -> bool:
        """Rename the folders of ``staging`` into place; False if the number is taken."""
        flush(staging)
        *parts, ensemble = sorted(
            (f.name for f in staging.iterdir()), key=lambda name: (name == ENSEMBLE, name)
        )
        for model in (*parts, ensemble):
            (self / model).mkdir(exist_ok=True)
        try:
            # Whoever makes the ensemble's folder has the number: parts may go into different models.
            (self / ensemble / str(release)).mkdir()
        except FileExistsError:
            return False
        for model in (*parts, ensemble):
            target = self / model / str(release)
            try:
                (staging / model).rename(target)  # does not replace a folder with files
            except OSError:
                if model != ensemble and target.exists():  # an older cesta takes the number with its sampler
                    return False
                raise
        return True

    def stop_publisher(self, release: int) -> bool:
        """True at once: moving in takes a moment, so the publisher of an incomplete release is dead."""
        return True
