"""The files that servers and trials read: those of a folder, of a bucket's mirror, or of a bucket."""

import hashlib
import os
from collections.abc import Set
from pathlib import Path
from typing import Final, Protocol, TypeVar

from operations.errors import CestaError
from operations.records.contract import ENSEMBLE
from operations.records.manifest import ReleaseManifest
from operations.releases.mirror.mirror import MARK, Check, Mirror
from operations.releases.model_control import ModelControl
from operations.releases.repository import CONFIG, read_release
from operations.releases.stores.bucket import BucketRepository
from operations.releases.stores.folder import FolderRepository
from operations.releases.stores.store import Repository
from operations.server.cached_environment import cache_folder

FOLDER_VARIABLE: Final = "CESTA_MIRROR_FOLDER"

Result = TypeVar("Result")


class Files(Protocol):
    """Files of releases, to be checked before a server loads them."""

    def check(self, release: int, check: Check[Result]) -> Result:
        """The result of ``check`` for a release in the repository where its files lie; its CestaError."""


class LocalFiles(Files, Protocol):
    """Files of releases in a folder of this machine, from which a server can load them."""

    @property
    def is_copy(self) -> bool:
        """Are they those of a bucket?"""

    @property
    def origin(self) -> Repository:
        """The repository that decides what is active."""

    @property
    def folder(self) -> FolderRepository:
        """The repository in the folder."""

    @property
    def marks(self) -> set[str]:
        """Names in the folder that no other mirror has."""

    @property
    def has_records(self) -> bool:
        """Does the folder say which release is active?"""

    def refresh(self, *, starting: bool = False) -> None:
        """Have configs, history and signatures of the origin in the folder."""

    def fetch(self, release: int) -> ReleaseManifest:
        """Have the files of a release in the folder until ``close``; its manifest."""

    def keep_only(self, loaded: Set[int]) -> None:
        """Let all other releases be deleted from the folder, if it is a copy."""

    def close(self) -> None:
        """Let any release be deleted, if it is a copy."""


class InPlace:
    """A repository in a folder: it is its own copy. Implements ``LocalFiles``."""

    is_copy: Final = False

    def __init__(self, folder: FolderRepository) -> None:
        self.origin = self.folder = folder
        self.marks: set[str] = set()

    @property
    def has_records(self) -> bool:
        """Does the folder say which release is active?"""
        return (self.folder / ENSEMBLE / CONFIG).exists()

    def refresh(self, *, starting: bool = False) -> None:
        """Nothing: the folder is the origin."""

    def fetch(self, release: int) -> ReleaseManifest:
        """The manifest of a release."""
        return read_release(self.folder, release)

    def check(self, release: int, check: Check[Result]) -> Result:
        """``check`` of the folder."""
        return check(self.folder, release)

    def keep_only(self, loaded: Set[int]) -> None:
        """Nothing: only ``retire`` deletes."""

    def close(self) -> None:
        """Nothing."""


class FromStore:
    """The files of a repository that a server, or nobody yet, reads from the store. Implements ``Files``."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    def check(self, release: int, check: Check[Result]) -> Result:
        """``check`` of the repository."""
        return check(self._repository, release)


def local_files(repository: Repository) -> LocalFiles:
    """The files of a repository on this machine. Nothing is read or written yet."""
    if isinstance(repository, FolderRepository):
        return InPlace(repository)
    assert isinstance(repository, BucketRepository), "there is no third kind"
    return Mirror(repository, mirror_folder(repository))


def mirror_folder(bucket: BucketRepository) -> Path:
    """The folder of a bucket's mirror: the same for each process with the same settings."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    digest = hashlib.sha256(f"{endpoint} {bucket}".encode()).hexdigest()[:16]
    name = str(bucket).partition("://")[2].partition("/")[0]
    named = os.environ.get(FOLDER_VARIABLE)
    return (Path(named) if named else cache_folder() / "mirror") / f"{name}-{digest}"


def files_read_by(control: ModelControl, local: LocalFiles) -> Files:
    """The files that the server of ``control`` loads.

    Raises CestaError if it reads a mirror other than this machine's: nobody could put a release there.
    """
    if not local.is_copy:
        return local
    marks = {name for name in control.folders() if name.startswith(MARK)}
    if not marks:  # python -m operations.server with the bucket's URL
        return FromStore(local.origin)
    if marks & local.marks:
        return local
    raise CestaError(
        f"the server at {control.address} loads its releases from a mirror of {local.origin} that is not "
        f"{local.folder}; run the command on its machine as its user, or set {FOLDER_VARIABLE} as it has it"
    )
