"""A published repository behind one protocol: a folder, or a place in an object store."""

import os
import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, Protocol

from operations.records.file_record import FileRecord
from operations.records.object_path import ObjectPath
from operations.records.place import Place
from operations.releases.stores.bucket import BucketRepository
from operations.releases.stores.folder import FolderRepository

URL_LIKE: Final = re.compile(r"[A-Za-z][0-9A-Za-z+.-]*:(/|$)")


class Repository(Protocol):
    """A published repository. Names are relative to it, with slashes: ``recommender/7/manifest.json``.

    ``str`` gives its path or URL. Reading goes through places, ``repository / name``; every change goes
    through a method.
    """

    @property
    def is_remote(self) -> bool:
        """Does each look cost a request to an object store?"""

    def __truediv__(self, name: str, /) -> Place:
        """The file or folder of this name, to read."""

    def describe(self, folder: str) -> dict[str, FileRecord]:
        """Digest and size of every file below a folder, by name.

        Python's caches count: Python loads a cached module in place of the source beside it.
        """

    def modified_s(self, name: str) -> float | None:
        """The time when a file was last written, in seconds since 1970; None if there is none."""

    def write(self, name: str, content: bytes) -> None:
        """Write or replace a file. Readers see the whole old content or the whole new one."""

    def append(self, name: str, line: str) -> None:
        """Add a line to a file; on disk when this returns."""

    def delete(self, name: str) -> None:
        """Delete a file, if it is there."""

    def delete_folder(self, name: str) -> None:
        """Delete a folder and everything in it, if it is there."""

    def lock(self) -> AbstractContextManager[None]:
        """Be the only one who changes what is active, within the block.

        Raises BeingChanged if another process is. The lock of a killed process soon ends.
        """

    def stage(self) -> AbstractContextManager[Path]:
        """An empty local folder to assemble a release in; it is deleted when the block ends."""

    def taken_numbers(self) -> set[int]:
        """Numbers of releases that may have neither a folder nor a record yet."""

    def abandoned(self) -> list[int]:
        """Numbers that a publisher took and left without a manifest when it died, ascending."""

    def clear(self, release: int) -> None:
        """Delete what the publisher of an abandoned number left."""

    def move_in(self, staging: Path, release: int) -> bool:
        """Move the folders of ``staging``, one a model, in as ``release``: parts first, the manifest last.

        Moves nothing and returns False if another publisher has taken the number. An abandoned number is
        free.
        """

    def stop_publisher(self, release: int) -> bool:
        """Keep the publisher of an incomplete release from going on; False if it may still be at work."""


def open_repository(place: str | os.PathLike[str]) -> Repository:
    """The repository in a folder, or at a URL such as ``s3://bucket/prefix``. It is not looked at yet.

    Raises CestaError for a URL that Triton could not serve, and for a misspelt one such as ``s3:/bucket``.
    """
    if URL_LIKE.match(str(place)):
        return BucketRepository(ObjectPath.at(str(place)))
    return FolderRepository(Path(place))
