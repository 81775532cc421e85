"""The mirror of a bucket: releases on this machine's disk, in the form of a repository that Triton reads.

Each object is read once, and checked against the manifest before it gets its name. What a killed process left
unfinished has no name, or is what the manifest lists. Servers and commands of one user share a mirror.
"""

import os
from collections.abc import Callable, Mapping, Set
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import structlog

from operations.errors import CestaError, StoreError
from operations.records import manifest
from operations.records.atomic import flush
from operations.records.contract import ENSEMBLE
from operations.records.disk import explained, make_folder, open_to_readers
from operations.records.file_record import FileRecord, sha256
from operations.records.manifest import ReleaseManifest
from operations.records.parallel import run_all
from operations.records.room import keep_room
from operations.releases.mirror.holds import Holds
from operations.releases.mirror.records import copy_records
from operations.releases.mirror.room import make_room
from operations.releases.models.placing import models_of
from operations.releases.repository import CONFIG, manifest_place, read_release, releases
from operations.releases.signatures.signature import check_signature
from operations.releases.signatures.trust import find_trust
from operations.releases.stores.bucket import BucketRepository
from operations.releases.stores.folder import ROOM, FolderRepository
from operations.releases.stores.store import Repository

MARK: Final = (
    ".mirror-"  # a folder with a random end, which Triton lists: so a command knows whose files it reads
)

Result = TypeVar("Result")
Check = Callable[[Repository, int], Result]  # of a release's files in a repository; raises CestaError
Fact = TypeVar("Fact")  # about a file: its size, or its digest

log = structlog.get_logger()


class Mirror:
    """The mirror of ``bucket`` in ``folder``. Implements ``LocalFiles``."""

    is_copy: Final = True

    def __init__(self, bucket: BucketRepository, folder: Path) -> None:
        self.origin, self.folder = bucket, FolderRepository(folder)
        self._holds = Holds(folder)
        self._has_store = True

    @property
    def marks(self) -> set[str]:
        """The names by which a server that reads this mirror is known; there is one."""
        return {path.name for path in self.folder.root.glob(f"{MARK}*")}

    @property
    def has_records(self) -> bool:
        """Can a start serve by the records alone?"""
        return (self.folder / ENSEMBLE / CONFIG).exists()

    def refresh(self, *, starting: bool = False) -> None:
        """Copy the bucket's records. A start without the store goes on with those of before, which is logged.

        Raises StoreError otherwise, and CestaError if the mirror cannot be written.
        """
        root = self.folder.root
        try:
            with explained(f"the mirror {root} was not written"):
                make_folder(root)
                if not self.marks:
                    (root / f"{MARK}{os.urandom(8).hex()}").mkdir()
                copy_records(self.origin, self.folder, named=starting)
                keep_room(root / ROOM)
            self._has_store = True
        except StoreError as error:
            if not (starting and self.has_records):
                raise
            self._has_store = False
            log.error("store not read", instead=str(root), reason=str(error))

    def fetch(self, release: int) -> ReleaseManifest:
        """Have the files of a release in the folder, and keep them there until ``close``; its manifest.

        A file that is there in its size is not read: ``check`` does that. Raises CestaError if no trusted
        publisher signed the release, if an object is not what the manifest lists, or if there is no room.
        Nothing of the release has a name then.
        """
        return self._bring(release, self._lacking_by_size)

    def check(self, release: int, check: Check[Result]) -> Result:
        """``check`` of the folder, once the release is there. Damaged files are fetched again."""
        self.fetch(release)
        try:
            return check(self.folder, release)
        except StoreError:
            raise
        except CestaError as damage:
            if not self._repair(release, damage):
                raise
            return check(self.folder, release)

    def keep_only(self, loaded: Set[int]) -> None:
        """Keep exactly these releases from being deleted."""
        self._holds.keep_only(loaded)

    def close(self) -> None:
        """Keep no release any more."""
        self._holds.drop()

    def _repair(self, release: int, damage: CestaError) -> bool:
        """Fetch again what is not as the manifest lists it; False if nothing is, or if the store is gone."""
        repaired: list[str] = []

        def damaged(described: ReleaseManifest, content: bytes) -> set[str]:
            repaired[:] = sorted(self._damaged(described, content))
            return set(repaired)

        if not self._has_store:
            return False
        try:
            self._bring(release, damaged)
        except StoreError as error:
            log.warning("mirror not repaired", release=release, reason=str(error))
            return False
        if repaired:
            log.warning("mirror repaired", release=release, files=repaired, reason=str(damage))
        return bool(repaired)

    def _bring(self, release: int, lacking: Callable[[ReleaseManifest, bytes], set[str]]) -> ReleaseManifest:
        """Have those files of a release that are ``lacking``; its manifest, which counts as one of them."""
        self._holds.add(release)
        repository = self.origin if self._has_store else self.folder
        described = read_release(repository, release)
        content = manifest_place(repository, release).read_bytes()
        if not lacking(described, content):
            return described
        check_signature(repository, release, find_trust())  # before gigabytes are read for nothing
        _check_names(described)
        with self._holds.alone(), explained(f"release {release} was not brought to this machine"):
            if names := lacking(described, content):
                self._replace(described, content, names)
        return described

    def _replace(self, described: ReleaseManifest, content: bytes, names: set[str]) -> None:
        """Read the files called ``names`` from the bucket, and give them their names, the manifest's last."""
        release = described.release
        wanted = {name: described.files[name] for name in names & described.files.keys()}
        needed = sum(file.bytes for file in wanted.values())
        make_room(self.folder, self._holds, release, needed, {*releases(self.origin)})
        folders = [self.folder.root / model / str(release) for model in models_of(described).values()]
        with self.folder.stage() as staging:
            run_all([partial(self._read_object, name, file, staging) for name, file in wanted.items()])
            (staging / ENSEMBLE).mkdir()
            (staging / ENSEMBLE / manifest.NAME).write_bytes(content)
            if not any(folder.exists() for folder in folders) and self.folder.move_in(staging, release):
                return
            open_to_readers(staging)
            flush(staging)
            for stranger in names - described.files.keys():
                (self.folder / stranger).unlink(missing_ok=True)
            for path in sorted(staging.rglob("*"), key=lambda path: path.name == manifest.NAME):
                model, *rest = path.relative_to(staging).parts
                if path.is_file():
                    _put(path, self.folder.root / model / str(release) / "/".join(rest))

    def _read_object(self, name: str, listed: FileRecord, staging: Path) -> None:
        """Read an object of a release into ``staging``. Raises CestaError unless it is as listed."""
        model, _, rest = name.split("/", 2)
        target = staging / model / rest
        target.parent.mkdir(parents=True, exist_ok=True)
        found: dict[str, FileRecord] = {}
        with suppress(FileNotFoundError):
            found[name] = (self.origin.root / name).download(target)
        way_out = ReleaseManifest.WAY_OUT
        manifest.check_files({name: listed}, found, folder=str(self.origin), way_out=way_out)

    def _lacking_by_size(self, described: ReleaseManifest, content: bytes) -> set[str]:
        """Names of files that are missing, have another size, or are not of the release."""
        paths = self._present(described)
        sizes = {name: path.stat().st_size for name, path in paths.items()}
        return self._differing(described, content, sizes, lambda file: file.bytes)

    def _damaged(self, described: ReleaseManifest, content: bytes) -> set[str]:
        """The same by content."""
        paths = self._present(described)
        read = run_all([partial(sha256, path) for path in paths.values()])
        hashes = dict(zip(paths, read, strict=True))
        return self._differing(described, content, hashes, lambda file: file.sha256)

    def _differing(
        self,
        described: ReleaseManifest,
        content: bytes,
        present: Mapping[str, Fact],
        listed: Callable[[FileRecord], Fact],
    ) -> set[str]:
        place = manifest_place(self.folder, described.release)
        names = {name for name, file in described.files.items() if present.get(name) != listed(file)}
        names |= present.keys() - described.files.keys()
        if not place.exists() or place.read_bytes() != content:
            names.add(f"{ENSEMBLE}/{described.release}/{manifest.NAME}")
        return names

    def _present(self, described: ReleaseManifest) -> dict[str, Path]:
        """The files in the version folders of a release, by name, apart from the manifest."""
        root, number = self.folder.root, str(described.release)
        folders = [root / model / number for model in models_of(described).values()]
        paths = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
        names = {path.relative_to(root).as_posix(): path for path in paths}
        names.pop(f"{ENSEMBLE}/{number}/{manifest.NAME}", None)
        return names


def _check_names(described: ReleaseManifest) -> None:
    """Raise CestaError if a file of a release would lie outside of its version folders."""
    models = {model for kind, model in models_of(described).items() if kind != ENSEMBLE}
    for name in described.files:
        model, *rest = name.split("/")
        plain = rest[:1] == [str(described.release)] and len(rest) > 1 and not {"", ".", ".."} & {*rest}
        if model not in models or not plain:
            raise CestaError(f"{name} would lie outside of release {described.release}; {described.WAY_OUT}")


def _put(source: Path, target: Path) -> None:
    """Rename a file into place. The times stay: Triton loads a version with new ones again."""
    make_folder(target.parent)
    around = target.parent.stat()
    if target.exists():
        before = target.stat()
        os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    source.replace(target)
    os.utime(target.parent, ns=(around.st_atime_ns, around.st_mtime_ns))
