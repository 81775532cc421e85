"""A name in an object store (S3, Google Cloud Storage) that reads like a ``pathlib.Path``.

Only what a repository needs of one. Credentials and endpoint come from the environment, by the names that the
stores' own tools use. A request that may be repeated is, with growing pauses; what then still fails is a
CestaError that names the object's URL and the way out. What is not there is a FileNotFoundError.
"""

import configparser
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from fnmatch import fnmatch
from functools import total_ordering
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self

from operations.errors import CestaError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

TIMEOUT_VARIABLE = "CESTA_STORE_TIMEOUT_S"
TIMEOUT_S = 10.0  # of silence, per try
RETRIES = 3
WHOLE_REQUEST_S = 600  # gigabytes on a slow line
ALLOWED = "letters, digits, dots, dashes and underscores"  # tritonserver reads no others in a URL

ENVIRONMENT = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY (or a credentials file), AWS_REGION and AWS_ENDPOINT_URL",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "memory": "nothing",
}


@total_ordering
class ObjectPath:
    """``url`` is the root's, without a slash at its end; ``key`` the name below it.

    ``listed`` is the size in bytes where a listing told it, None where the store is to be asked.
    """

    def __init__(self, store: "ObjectStore", url: str, key: str = "", listed: int | None = None) -> None:
        self.store, self.url, self.key, self.listed = store, url, key, listed

    @classmethod
    def at(cls, url: str) -> Self:
        """The root of what ``url`` names: ``s3://bucket/prefix``, ``gs://…``, ``memory://name``.

        Nothing is asked of the store yet.
        """
        scheme, _, place = url.partition("://")
        if scheme not in ENVIRONMENT or not place.strip("/"):
            known = ", ".join(f"{name}://" for name in ENVIRONMENT if name != "memory")
            raise CestaError(f"{url} is no place for a repository; write a folder, or a bucket as {known}…")
        if not all(c.isalnum() or c in "-_./" for c in place):
            raise CestaError(f"{url}: only {ALLOWED} may stand in a repository's name")
        return cls(_connect(scheme, url.rstrip("/")), url.rstrip("/"))

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
        """Is there an object of this name? Folders are none."""
        return self.head() is not None

    def is_file(self) -> bool:
        return self.listed is not None or self.exists()

    def stat(self) -> SimpleNamespace:
        """``st_size`` in bytes, as the store has it."""
        if self.listed is not None:
            return SimpleNamespace(st_size=self.listed)
        if (head := self.head()) is None:
            raise FileNotFoundError(errno.ENOENT, "no such object", str(self))
        return SimpleNamespace(st_size=head["size"])

    def head(self) -> dict[str, Any] | None:
        """size, last_modified and e_tag of the object; None if there is none."""
        import obstore

        try:
            with self._explained():
                return dict(obstore.head(self.store, self.key))
        except FileNotFoundError:
            return None

    def modified(self) -> datetime | None:
        """When it was last written, by the store's clock; None if it does not exist."""
        head = self.head()
        return None if head is None else head["last_modified"]

    def read_tagged(self) -> tuple[bytes, str | None]:
        """Content, and the tag that ``replace`` asks for."""
        import obstore

        with self._explained():
            found = obstore.get(self.store, self.key)
            tag = found.meta["e_tag"]
            return b"".join(bytes(chunk) for chunk in found.stream()), tag

    def chunks(self) -> Iterator[bytes]:
        """The content piece by piece: an array may be larger than memory."""
        import obstore

        with self._explained():
            for chunk in obstore.get(self.store, self.key).stream():
                yield bytes(chunk)

    def read_bytes(self) -> bytes:
        return self.read_tagged()[0]

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def write_bytes(self, content: bytes) -> None:
        """Write or replace the object; readers see the old one or the new one, whole."""
        self._put(content)

    def write_text(self, text: str, encoding: str = "utf-8") -> None:
        self.write_bytes(text.encode(encoding))

    def upload(self, path: os.PathLike[str]) -> None:
        """Write a local file, a large one in parts."""
        self._put(Path(path))

    def create(self, content: bytes) -> bool:
        """Write the object unless one is there, then False. Of several who try, one succeeds."""
        import obstore

        try:
            self._put(content, mode="create")
            return True
        except obstore.exceptions.AlreadyExistsError:
            # It may be our own, when the answer to a first try was lost. Contents carry their author's token.
            return self._holds(content)

    def replace_tagged(self, content: bytes, tag: str | None) -> bool:
        """Write the object if it still is what ``read_tagged`` found; False if it was changed."""
        import obstore

        try:
            self._put(content, mode={"e_tag": tag})
            return True
        except obstore.exceptions.PreconditionError:
            return self._holds(content)

    def copy_to(self, target: "ObjectPath") -> None:
        """Within the store, nothing passes through here."""
        import obstore

        with self._explained():
            obstore.copy(self.store, self.key, target.key)

    def unlink(self, missing_ok: bool = False) -> None:
        import obstore

        if not missing_ok:
            self.stat()
        with self._explained():
            obstore.delete(self.store, self.key)

    def iterdir(self) -> Iterator["ObjectPath"]:
        """The next level below, objects and folders; nothing where nothing is."""
        import obstore

        with self._explained():
            found = obstore.list_with_delimiter(self.store, self.key or None)
        keys = [*found["common_prefixes"], *(meta["path"] for meta in found["objects"])]
        return (ObjectPath(self.store, self.url, key.rstrip("/")) for key in keys)

    def files(self) -> list["ObjectPath"]:
        """Every object below, sorted."""
        import obstore

        with self._explained():
            pages = list(obstore.list(self.store, f"{self.key}/" if self.key else None))
        found = (meta for page in pages for meta in page)
        return sorted(ObjectPath(self.store, self.url, meta["path"], meta["size"]) for meta in found)

    def rglob(self, pattern: str) -> Iterator["ObjectPath"]:
        """Every object below whose name matches; folders are none."""
        return (path for path in self.files() if fnmatch(path.name, pattern))

    def glob(self, pattern: str) -> Iterator["ObjectPath"]:
        """What is below by this pattern; folders only by a pattern of one level."""
        depth = pattern.count("/") + 1
        found = self.iterdir() if depth == 1 else iter(self.files())
        below = ((path, path.relative_to(self)) for path in found)
        return (path for path, name in below if len(name.parts) == depth and name.match(pattern))

    def _holds(self, content: bytes) -> bool:
        try:
            return self.read_bytes() == content
        except FileNotFoundError:
            return False

    def _put(self, content: Any, **mode: Any) -> None:
        import obstore

        try:
            with self._explained():
                obstore.put(self.store, self.key, content, **mode)
        except FileNotFoundError:
            raise CestaError(f"{self}: no such bucket; create it, or name another") from None

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """The store's errors in our words; of those that callers ask for, two are let through."""
        from obstore import exceptions

        try:
            yield
        except FileNotFoundError:
            raise FileNotFoundError(errno.ENOENT, "no such object", str(self)) from None
        except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
            raise
        except exceptions.BaseError as error:
            raise CestaError(f"{self}: {_reason(error, self.url.partition('://')[0])}") from None


def _connect(scheme: str, url: str) -> "ObjectStore":
    """A connection with time limits and retries; no request is made."""
    try:
        from obstore.store import MemoryStore, from_url
    except ImportError:
        raise CestaError(f'{url} needs obstore; run pip install "cesta[stores]"') from None
    if scheme == "memory":
        return MemoryStore()
    _forget_empty_variables()
    silence = timedelta(seconds=_timeout_s())
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    return from_url(
        url,
        config=_credentials_of_file() if scheme == "s3" else {},
        client_options={
            "allow_http": scheme == "s3" and endpoint.startswith("http://"),
            "connect_timeout": silence,
            "read_timeout": silence,
            "timeout": timedelta(seconds=WHOLE_REQUEST_S),
        },
        retry_config={
            "max_retries": RETRIES,
            "retry_timeout": silence * RETRIES,
            "backoff": {
                "init_backoff": timedelta(seconds=0.1),
                "max_backoff": timedelta(seconds=5),
                "base": 2,
            },
        },
    )


def _forget_empty_variables() -> None:
    """Compose sets a variable that nobody gave to "", at which obstore, which reads them itself, panics."""
    for name in [name for name, value in os.environ.items() if name.startswith("AWS_") and not value]:
        del os.environ[name]


def _credentials_of_file() -> dict[str, str]:
    """Of the profile in AWS's credentials file, as containers are given secrets; {} where the environment has
    a key, or there is no such file. tritonserver reads the same file by itself.
    """
    path = Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or Path.home() / ".aws" / "credentials")
    profile = os.environ.get("AWS_PROFILE", "default")
    read = configparser.ConfigParser()
    if os.environ.get("AWS_ACCESS_KEY_ID") or not path.exists():
        return {}
    try:
        read.read(path, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError, OSError) as error:
        raise CestaError(f"{path}: {error}; write it as AWS's tools do") from None
    names = ("access_key_id", "secret_access_key", "session_token")
    found = dict(read[profile]) if read.has_section(profile) else {}
    return {name: found[f"aws_{name}"] for name in names if found.get(f"aws_{name}")}


def _timeout_s() -> float:
    text = os.environ.get(TIMEOUT_VARIABLE, str(TIMEOUT_S))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if seconds <= 0:
        raise CestaError(f"{TIMEOUT_VARIABLE}={text}: write seconds, such as {TIMEOUT_S:g}")
    return seconds


def _reason(error: Exception, scheme: str) -> str:
    """What the store said, without the library's own innards, and the way out."""
    from obstore import exceptions

    said = str(error).partition("\n\nDebug source")[0]
    variables = ENVIRONMENT[scheme]
    if isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError):
        return f"the store refuses these credentials; look at {variables}"
    if "NoSuchBucket" in said:
        return "no such bucket; create it, or name another"
    if "kind: Timeout" in str(error):
        return f"the store is silent ({TIMEOUT_VARIABLE}={_timeout_s():g}); try again, or look at {variables}"
    if "kind: Connect" in str(error):
        return f"the store cannot be reached; look at {variables}, and whether it runs"
    return f"{' '.join(said.split())[:300]}; try again, or look at {variables}"
