"""An object of a store as a file that seeks: parquet and csv are read without a copy on disk."""

import io
import os
from typing import Any

from operations.records.object_path import ObjectPath


class ObjectFile(io.RawIOBase):
    """An object as a file to read from. Each read is a request for that range."""

    def __init__(self, path: ObjectPath) -> None:
        self._path, self._size, self._at = path, path.size(), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        room = memoryview(buffer).cast("B")
        if length := min(len(room), self._size - self._at):
            room[:length] = self._read_range(length)
            self._at += length
        return max(length, 0)

    def _read_range(self, length: int) -> memoryview:
        import obstore

        with self._path._explain_errors():
            return memoryview(
                obstore.get_range(self._path.store, self._path.key, start=self._at, length=length)
            )

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = min(max(origin + offset, 0), self._size)
        return self._at

    def tell(self) -> int:
        return self._at
