"""A repository in a folder: renames make a change whole, a file lock keeps other operators out.

Everyone can read its files, whatever the publisher's umask: a server runs as another user. ROOM keeps some
space, so that a change of what is active can be written, or undone, on a full disk.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

from operations.errors import BeingChanged
from operations.records import file_record
from operations.records.atomic import append_line, flush, scratch_folder, write_file
from operations.records.contract import ENSEMBLE
from operations.records.disk import FILE_MODE, explained, make_folder, open_to_readers
from operations.records.room import keep_room, write_with_room

STAGING: Final = ".publishing-"  # in the repository, so that one rename moves a model in; Triton ignores it
ROOM: Final = ".room"


class FolderRepository:
    """Implements ``store.Repository`` for the folder ``root``."""

    is_remote: Final = False

    def __init__(self, root: Path) -> None:
        self.root = root

    def __str__(self) -> str:
        return str(self.root)

    def __truediv__(self, name: str, /) -> Path:
        return self.root / name

    def describe(self, folder: str) -> dict[str, file_record.FileRecord]:
        """Digest and size of every file below a folder, by name."""
        return file_record.describe((self / folder).rglob("*"), self.root)

    def modified_s(self, name: str) -> float | None:
        """The time when a file was last written, in seconds since 1970; None if there is none."""
        path = self / name
        return path.stat().st_mtime if path.exists() else None

    def write(self, name: str, content: bytes) -> None:
        """Write or replace a file. Readers see the whole old content or the whole new one."""
        path = self / name
        make_folder(path.parent)
        # Staged in the root: any new name in a model's folder makes Triton reload all of its versions.
        write_with_room(self / ROOM, lambda: write_file(path, content, staged_in=self.root, mode=FILE_MODE))

    def append(self, name: str, line: str) -> None:
        """Add a line to a file; on disk when this returns."""
        write_with_room(self / ROOM, lambda: append_line(self / name, line, FILE_MODE))

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
        with explained(f"nothing was changed, since {self} could not be locked"):
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
            keep_room(self / ROOM)
            yield
        finally:
            keep_room(self / ROOM)
            os.close(handle)  # this ends the lock

    def stage(self) -> AbstractContextManager[Path]:
        """An empty folder in the repository to assemble a release in; deleted when the block ends."""
        make_folder(self.root)
        return scratch_folder(self.root, STAGING)

    def taken_numbers(self) -> set[int]:
        """None: in a folder a number is taken by moving the release in."""
        return set()

    def abandoned(self) -> list[int]:
        """None: what a publisher has moved in before it died is left to ``retire``."""
        return []

    def clear(self, release: int) -> None:
        """Nothing: no number is abandoned."""

    def move_in(self, staging: Path, release: int) -> bool:
        """Rename the folders of ``staging`` into place; False if the number is taken."""
        open_to_readers(staging)
        flush(staging)
        *parts, ensemble = sorted(
            (f.name for f in staging.iterdir()), key=lambda name: (name == ENSEMBLE, name)
        )
        for model in (*parts, ensemble):
            make_folder(self / model)
        try:
            # Whoever makes the ensemble's folder has the number: parts may go into different models.
            (self / ensemble / str(release)).mkdir()
        except FileExistsError:
            return False
        moved = [self / ensemble / str(release)]
        try:
            for model in (*parts, ensemble):
                target = self / model / str(release)
                try:
                    (staging / model).rename(target)  # does not replace a folder with files
                except OSError:
                    if model != ensemble and target.exists():  # an older cesta takes the number so
                        return False
                    raise
                moved.append(target)
        except OSError:
            for folder in moved:  # no half of a release stays
                shutil.rmtree(folder, ignore_errors=True)
            raise
        return True

    def stop_publisher(self, release: int) -> bool:
        """True at once: moving in takes a moment, so the publisher of an incomplete release is dead."""
        return True
