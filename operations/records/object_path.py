"""A name in an object store (S3, Google Cloud Storage) with the methods of ``pathlib.Path`` that cesta needs.

A request that fails is repeated with growing pauses. If it still fails, CestaError names the object's URL and
the way out. For a missing object, FileNotFoundError is raised.
"""

import errno
import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from fnmatch import fnmatch
from functools import total_ordering
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, Literal, Self

from operations.errors import CestaError, StoreError
from operations.records.file_record import FileRecord, sha256
from operations.records.object_store import ENVIRONMENT, connect, reason

if TYPE_CHECKING:
    from obstore import Attributes, ObjectMeta, UpdateVersion
    from obstore.store import ObjectStore

SHA256: Final = "cesta-sha256"  # metadata of an uploaded file, written in the same request as its content
PARTS_AT_ONCE: Final = 4  # of a large file, 5 MiB each
FOLDER: Final = re.compile(r"(?!\.{1,2}$)[0-9A-Za-z._-]+")  # tritonserver reads no other names in a URL
BUCKET: Final = {"s3": re.compile(r"[0-9a-z][0-9a-z.-]*"), "gs": re.compile(r"[0-9a-z][0-9a-z._-]*")}
ALLOWED: Final = (
    "a bucket's name has small letters of a to z, digits, dots and dashes; each folder after it has letters "
    "of a to z and A to Z, digits, dots, dashes and underscores, with one slash between two"
)


@total_ordering
class ObjectPath:
    """The object, or the folder of objects, called ``key`` below the root ``url``.

    ``url`` has no slash at its end. ``listed_size`` is in bytes and comes from a listing; None: not listed.
    """

    def __init__(self, store: "ObjectStore", url: str, key: str = "", listed_size: int | None = None) -> None:
        self.store, self.url, self.key, self.listed_size = store, url, key, listed_size

    @classmethod
    def at(cls, url: str) -> Self:
        """The root that ``url`` names: ``s3://bucket/prefix``, ``gs://…``, ``memory://name``.

        No request is made yet. Raises CestaError if the URL cannot be one.
        """
        scheme, _, place = url.partition("://")
        bucket, *folders = place.rstrip("/").split("/")
        if scheme not in ENVIRONMENT or not bucket:
            schemes = ", ".join(f"{name}://" for name in ENVIRONMENT if name != "memory")
            raise CestaError(f"{url} cannot be a repository; write a folder, or a bucket as {schemes}…")
        if not BUCKET.get(scheme, FOLDER).fullmatch(bucket) or not all(map(FOLDER.fullmatch, folders)):
            raise CestaError(f"{url} cannot be served: {ALLOWED}")
        return cls(connect(scheme, url.rstrip("/")), url.rstrip("/"))

    def __reduce__(self) -> tuple[Callable[..., "ObjectPath"], tuple[str, str, int | None]]:
        """Another process connects again, with the credentials of its own environment."""
        return _reconnect, (self.url, self.key, self.listed_size)

    def __truediv__(self, name: str) -> "ObjectPath":
        return ObjectPath(self.store, self.url, f"{self.key}/{name}" if self.key else name)

    def __str__(self) -> str:
        return f"{self.url}/{self.key}" if self.key else self.url

    def __repr__(self) -> str:
        return f"ObjectPath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectPath) and str(self) == str(other)

    def __lt__(self, other: "ObjectPath") -> bool:
        return str(self) < str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]

    @property
    def parent(self) -> "ObjectPath":
        return ObjectPath(self.store, self.url, self.key.rpartition("/")[0])

    @property
    def parts(self) -> tuple[str, ...]:
        return PurePosixPath(self.key).parts

    def relative_to(self, other: "ObjectPath") -> PurePosixPath:
        return PurePosixPath(self.key).relative_to(other.key)

    def exists(self) -> bool:
        """Does the store hold an object of this name? A folder is not an object."""
        return self.head() is not None

    def is_file(self) -> bool:
        """Tell whether there is an object of this name. A listed object needs no second request."""
        return self.listed_size is not None or self.exists()

    def size(self) -> int:
        """Size in bytes, from the listing or the store."""
        if self.listed_size is not None:
            return self.listed_size
        if (head := self.head()) is None:
            raise FileNotFoundError(errno.ENOENT, "no such object", str(self))
        return head["size"]

    def head(self) -> "ObjectMeta | None":
        """size, last_modified and e_tag of the object; None if there is none."""
        import obstore

        try:
            with self._explain_errors():
                return obstore.head(self.store, self.key)
        except FileNotFoundError:
            return None

    def modified(self) -> datetime | None:
        """The moment of the last write, by the store's clock; None if there is no object."""
        head = self.head()
        return None if head is None else head["last_modified"]

    def read_tagged(self) -> "tuple[bytes, UpdateVersion]":
        """The content, and its tag for ``replace_tagged``: S3 compares the ETag, Google the generation."""
        import obstore

        with self._explain_errors():
            result = obstore.get(self.store, self.key)
            content = b"".join(bytes(chunk) for chunk in result.stream())
        tag: UpdateVersion = {"e_tag": result.meta["e_tag"]}
        if version := result.meta["version"]:  # obstore accepts no None here
            tag["version"] = version
        return content, tag

    def describe(self) -> FileRecord:
        """Digest and size of the content, read piece by piece: an array may be larger than memory."""
        return self._read_pieces(lambda piece: None)

    def download(self, path: Path) -> FileRecord:
        """Write the content to a local file, piece by piece; its digest and size."""
        with path.open("wb") as file:
            return self._read_pieces(file.write)

    def uploaded_sha256(self) -> str | None:
        """The digest that ``upload`` has left with the content; None if another writer made the object."""
        import obstore

        with self._explain_errors():
            return obstore.get(self.store, self.key, options={"head": True}).attributes.get(SHA256)

    def read_bytes(self) -> bytes:
        return self.read_tagged()[0]

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def write_bytes(self, content: bytes) -> None:
        """Write or replace the object. Readers see the whole old content or the whole new one."""
        self._put(content)

    def write_text(self, text: str, encoding: str = "utf-8") -> None:
        self.write_bytes(text.encode(encoding))

    def upload(self, path: Path) -> None:
        """Write the content of a local file, in parts if it is large, and its digest as metadata."""
        self._put(path, attributes={SHA256: sha256(path)})

    def create(self, content: bytes) -> bool:
        """Write the object if there is none, else return False. One of several callers at once succeeds."""
        import obstore

        try:
            self._put(content, "create")
            return True
        except obstore.exceptions.AlreadyExistsError:
            # The existing object is this call's own if the answer to a first try was lost.
            return self._holds(content)

    def replace_tagged(self, content: bytes, tag: "UpdateVersion") -> bool:
        """Replace the object if it is unchanged since ``read_tagged`` returned ``tag``, else return False."""
        import obstore

        try:
            self._put(content, tag)
            return True
        except obstore.exceptions.PreconditionError:
            return self._holds(content)

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete the object. Raises FileNotFoundError if there is none, unless ``missing_ok``."""
        import obstore

        if not missing_ok:
            self.size()
        with suppress(FileNotFoundError), self._explain_errors():  # Google's deletes only what is there
            obstore.delete(self.store, self.key)

    def iterdir(self) -> Iterator["ObjectPath"]:
        """Objects and folders one level below."""
        import obstore

        with self._explain_errors():
            listing = obstore.list_with_delimiter(self.store, self.key or None)
        keys = [*listing["common_prefixes"], *(meta["path"] for meta in listing["objects"])]
        names = (key.rstrip("/") for key in keys)
        return (ObjectPath(self.store, self.url, name) for name in names if name != self.key)  # its own mark

    def files(self) -> list["ObjectPath"]:
        """Every object below, sorted. Folders' marks are passed over: empty objects with a slash at the end.

        Consoles make them for "new folder". The listing has lost the slash, so the store is asked.
        """
        return [path for path in self.listed() if path.listed_size or path.exists()]

    def listed(self) -> list["ObjectPath"]:
        """Every object below, sorted, and folders' marks."""
        return sorted(ObjectPath(self.store, self.url, meta["path"], meta["size"]) for meta in self.listing())

    def listing(self) -> "list[ObjectMeta]":
        """path, size, last_modified and e_tag of every object below, folders' marks among them."""
        import obstore

        with self._explain_errors():
            pages = list(obstore.list(self.store, f"{self.key}/" if self.key else None))
        return [meta for page in pages for meta in page if meta["path"] != self.key]

    def rglob(self, pattern: str) -> Iterator["ObjectPath"]:
        """Every object below whose name matches; no folders."""
        return (path for path in self.files() if fnmatch(path.name, pattern))

    def glob(self, pattern: str) -> Iterator["ObjectPath"]:
        """Objects below that match the pattern. A pattern of one level matches folders, too."""
        depth = pattern.count("/") + 1
        paths = self.iterdir() if depth == 1 else iter(self.files())
        below = ((path, path.relative_to(self)) for path in paths)
        return (path for path, name in below if len(name.parts) == depth and name.match(pattern))

    def _holds(self, content: bytes) -> bool:
        try:
            return self.read_bytes() == content
        except FileNotFoundError:
            return False

    def _read_pieces(self, take: Callable[[bytes], object]) -> FileRecord:
        import obstore

        digest, size = hashlib.sha256(), 0
        with self._explain_errors():
            for chunk in obstore.get(self.store, self.key).stream():
                piece = bytes(chunk)
                digest.update(piece)
                size += len(piece)
                take(piece)
        return FileRecord(sha256=digest.hexdigest(), bytes=size)

    def _put(
        self,
        content: bytes | Path,
        mode: "Literal['create', 'overwrite'] | UpdateVersion | None" = None,
        attributes: "Attributes | None" = None,
    ) -> None:
        import obstore

        try:
            with self._explain_errors():
                obstore.put(
                    self.store,
                    self.key,
                    content,
                    mode=mode,
                    attributes=attributes,
                    max_concurrency=PARTS_AT_ONCE,
                )
        except FileNotFoundError:
            raise CestaError(f"{self}: no such bucket; create it, or name another") from None

    @contextmanager
    def _explain_errors(self) -> Iterator[None]:
        """Turn the store's errors into CestaError, except a missing object and an unmet condition."""
        from obstore import exceptions

        try:
            yield
        except FileNotFoundError:
            raise FileNotFoundError(errno.ENOENT, "no such object", str(self)) from None
        except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
            raise
        except exceptions.BaseError as error:
            raise StoreError(f"{self}: {reason(error, self.url.partition('://')[0])}") from None


def _reconnect(url: str, key: str, listed_size: int | None) -> ObjectPath:
    return ObjectPath(ObjectPath.at(url).store, url, key, listed_size)
