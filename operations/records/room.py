"""A file that only takes space, and gives it up on a full disk to a small write that must not fail."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from operations.records.disk import FILE_MODE, is_full

SIZES: Final = (65_536, 16_384, 4_096)  # bytes; the first that the disk has


def keep_room(path: Path) -> None:
    """Make or enlarge the file, as far as the disk allows; silent where nothing can be written."""
    with suppress(OSError):
        handle = os.open(path, os.O_RDWR | os.O_CREAT, FILE_MODE)
        try:
            os.fchmod(handle, FILE_MODE)
            kept = os.fstat(handle).st_size
            for size in (size for size in SIZES if size > kept):
                try:
                    os.posix_fallocate(handle, 0, size)
                    return
                except OSError:
                    os.ftruncate(handle, kept)
        finally:
            os.close(handle)


def write_with_room(path: Path, write: Callable[[], None]) -> None:
    """Call ``write``; if the disk is full, delete the file at ``path`` and call it again."""
    try:
        write()
    except OSError as error:
        if not (is_full(error) and path.exists()):
            raise
        path.unlink()
        write()
