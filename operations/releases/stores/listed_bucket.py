"""A bucket for the time of one change: it is listed once, and each of its objects is read at most once.

A change looks at the same configs, manifests and records many times, and each look would be a request. Under
the repository's lock nobody else changes them, so what was read holds until the lock is given back.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from operations.records import manifest
from operations.records.object_path import ObjectPath
from operations.releases.stores.bucket import BucketRepository
from operations.releases.stores.store import Repository


class ListedBucket(BucketRepository):
    """A bucket whose listing and contents are kept until its lock is taken."""

    def __init__(self, root: ObjectPath) -> None:
        super().__init__(root)
        self._seen = _Seen(root)

    def __truediv__(self, name: str, /) -> ObjectPath:
        return _SeenPath(self._seen, name)

    def write(self, name: str, content: bytes) -> None:
        """Write or replace an object. Raises CestaError if this process had the lock and lost it."""
        super().write(name, content)
        self._seen.put(self.root / name, content)

    def append(self, name: str, line: str) -> None:
        """Add a line to an object; if another writer was faster, read it again and retry."""
        super().append(name, line)
        self._seen.put(self.root / name, None)

    def delete(self, name: str) -> None:
        """Delete an object, if it is there."""
        super().delete(name)
        self._seen.remove((self.root / name).key)

    def delete_folder(self, name: str) -> None:
        """Delete every object below. A later call deletes what a killed one leaves."""
        super().delete_folder(name)
        self._seen.remove(f"{(self.root / name).key}/")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the repository's lock; forget what was seen before it was taken, apart from manifests."""
        with super().lock():
            self._seen.forget()
            yield


def listed(repository: Repository) -> Repository:
    """A repository for the time of one change: a bucket is listed once, a folder is itself."""
    return ListedBucket(repository.root) if isinstance(repository, BucketRepository) else repository


class _Seen:
    """The objects below a root, by key, and the contents that were read."""

    def __init__(self, root: ObjectPath) -> None:
        self.root = root
        self._listed: dict[str, ObjectPath] | None = None
        self._contents: dict[str, bytes] = {}
        self._known: dict[str, bool] = {}  # whether an object without bytes is one

    def paths(self) -> dict[str, ObjectPath]:
        if self._listed is None:
            self._listed = {path.key: path for path in self.root.listed()}
        return self._listed

    def has(self, key: str) -> bool:
        """Is there an object? One without bytes may be the mark of a folder, so the store is asked once."""
        path = self.paths().get(key)
        if path is not None and not path.listed_size and key not in self._known:
            self._known[key] = path.exists()
        return path is not None and self._known.get(key, True)

    def read(self, key: str) -> bytes:
        if key not in self._contents:
            self._contents[key] = ObjectPath(self.root.store, self.root.url, key).read_bytes()
        return self._contents[key]

    def put(self, path: ObjectPath, content: bytes | None) -> None:
        """Note that an object was written; with ``content`` None, what it holds now is not known."""
        self.paths()[path.key] = path
        self._known[path.key] = True
        self._contents.pop(path.key, None)
        if content is not None:
            self._contents[path.key] = content

    def remove(self, start: str) -> None:
        """Note that an object is gone; everything below, if ``start`` ends with a slash."""
        for key in [
            key for key in self.paths() if key == start or (start[-1] == "/" and key.startswith(start))
        ]:
            del self.paths()[key]

    def forget(self) -> None:
        """Look again, except at manifests, which never change."""
        self._listed, self._known = None, {}
        self._contents = {
            key: content for key, content in self._contents.items() if key.endswith(f"/{manifest.NAME}")
        }


class _SeenPath(ObjectPath):
    """The object, or the folder of objects, called ``key``, as it was seen."""

    def __init__(self, seen: _Seen, key: str) -> None:
        super().__init__(seen.root.store, seen.root.url, key)
        self._seen = seen

    def __truediv__(self, name: str) -> ObjectPath:
        return _SeenPath(self._seen, f"{self.key}/{name}" if self.key else name)

    @property
    def parent(self) -> ObjectPath:
        return _SeenPath(self._seen, self.key.rpartition("/")[0])

    def exists(self) -> bool:
        """Was there an object of this name? A folder is not an object."""
        return self._seen.has(self.key)

    def read_bytes(self) -> bytes:
        return self._seen.read(self.key)

    def iterdir(self) -> Iterator[ObjectPath]:
        """Objects and folders one level below."""
        start = f"{self.key}/" if self.key else ""
        below = (key.removeprefix(start) for key in sorted(self._seen.paths()) if key.startswith(start))
        names = dict.fromkeys(key.partition("/")[0] for key in below)
        return (self / name for name in names)

    def listed(self) -> list[ObjectPath]:
        """Every object below, sorted, and folders' marks."""
        start = f"{self.key}/" if self.key else ""
        return [_SeenPath(self._seen, key) for key in sorted(self._seen.paths()) if key.startswith(start)]

    def files(self) -> list[ObjectPath]:
        """Every object below, sorted."""
        return [path for path in self.listed() if path.exists()]
