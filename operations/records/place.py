"""The place of a repository's file, read in the same words on a disk and in an object store."""

from collections.abc import Iterable
from typing import Protocol


class Place(Protocol):
    """A file or a folder, to read: a ``pathlib.Path`` or an ``ObjectPath``. ``str`` gives its path or URL."""

    @property
    def name(self) -> str: ...

    @property
    def parent(self) -> "Place": ...

    def __truediv__(self, name: str, /) -> "Place": ...

    def exists(self) -> bool: ...

    def read_bytes(self) -> bytes: ...

    def read_text(self, encoding: str) -> str: ...

    def glob(self, pattern: str) -> Iterable["Place"]: ...
