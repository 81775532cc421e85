"""A repository in an object store, which cannot rename: numbers, uploads and the lock are objects.

The store must support conditional writes: create if absent, replace if unchanged. S3, SeaweedFS and Google
Cloud Storage do. Each use tests that the store honours the condition, and refuses one that does not.
"""

import tempfile
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from operations.errors import BeingChanged, CestaError
from operations.records.atomic import scratch_folder
from operations.records.contract import ENSEMBLE, holds_releases
from operations.records.file_record import FileRecord, sha256
from operations.records.object_path import ObjectPath
from operations.records.parallel import run_all
from operations.releases.stores.lease import (
    Lease,
    age_s,
    create_once,
    is_abandoned,
    sign,
    take_over_dead,
)

NUMBERS: Final = ".numbers"  # a folder with an object for each number that was ever taken; never deleted
LOCK: Final = ".lock"
STAGING: Final = "cesta.publishing-"  # in the machine's folder for temporary files
PUBLISHING_S: Final = 3600.0  # without a sign of life; then a publisher counts as dead
RETIRED: Final = b'{"retired": true}'
APPEND_TRIES: Final = 20


class BucketRepository:
    """Implements ``store.Repository`` for the objects below ``root``."""

    is_remote: Final = True

    def __init__(self, root: ObjectPath) -> None:
        self.root = root
        self._lease: Lease | None = None  # while this object holds the repository's lock

    def __str__(self) -> str:
        return str(self.root)

    def __truediv__(self, name: str, /) -> ObjectPath:
        return self.root / name

    def describe(self, folder: str) -> dict[str, FileRecord]:
        """Digest and size of every object below a folder, by name."""
        paths = (self.root / folder).files()
        described = run_all([path.describe for path in paths])
        return {
            path.relative_to(self.root).as_posix(): file for path, file in zip(paths, described, strict=True)
        }

    def modified_s(self, name: str) -> float | None:
        """The time when an object was last written, in seconds since 1970; None if there is none."""
        modified = (self / name).modified()
        return None if modified is None else modified.timestamp()

    def write(self, name: str, content: bytes) -> None:
        """Write or replace an object. Raises CestaError if this process had the lock and lost it."""
        if self._lease:
            self._lease.check()
        (self.root / name).write_bytes(content)

    def append(self, name: str, line: str) -> None:
        """Add a line to an object; if another writer was faster, read it again and retry."""
        path, added = self.root / name, f"{line}\n".encode()
        for _ in range(APPEND_TRIES):
            try:
                content, tag = path.read_tagged()
            except FileNotFoundError:
                if path.create(added):
                    return
                continue
            if path.replace_tagged(content + added, tag):
                return
        raise CestaError(f"{path} is changed by others all the time; try again")

    def delete(self, name: str) -> None:
        """Delete an object, if it is there."""
        (self.root / name).unlink(missing_ok=True)

    def delete_folder(self, name: str) -> None:
        """Delete every object below. A later call deletes what a killed one leaves."""
        _delete((self.root / name).files())

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the repository's lock, renewed until the block ends; BeingChanged if another holds it."""
        lease = Lease(self.root / LOCK)
        with ExitStack() as held:
            try:
                held.enter_context(lease.held())
            except BeingChanged:
                raise
            except CestaError as error:
                raise CestaError(f"nothing was changed, since {self} could not be locked: {error}") from None
            self._lease = lease
            try:
                yield
            finally:
                self._lease = None

    def stage(self) -> AbstractContextManager[Path]:
        """An empty local folder to assemble a release in; deleted when the block ends."""
        return scratch_folder(Path(tempfile.gettempdir()), STAGING)

    def taken_numbers(self) -> set[int]:
        """Every number that a publisher ever took."""
        return {int(path.name) for path in (self.root / NUMBERS).iterdir() if path.name.isdecimal()}

    def abandoned(self) -> list[int]:
        """Numbers without a manifest, of publishers that died on this machine: the last, those with files."""
        numbers = {int(p.name) for model in self._models() for p in model.iterdir() if p.name.isdecimal()}
        numbers |= {max(self.taken_numbers(), default=0)}
        manifests = {path.parent.name for path in (self.root / ENSEMBLE).glob("*/*")}
        return [
            number
            for number in sorted(numbers)
            if str(number) not in manifests and is_abandoned(self._claim(number))
        ]

    def clear(self, release: int) -> None:
        """Delete what the publisher of an abandoned number left, unless another one goes on with it."""
        if take_over_dead(self._claim(release), RETIRED):
            _delete(self._files(release))

    def move_in(self, staging: Path, release: int) -> bool:
        """Take the number and upload the files, several at a time, and the manifest last.

        A file ``model/…`` of ``staging`` goes to ``model/<release>/…``. False if the number is taken. The
        number of a publisher that died on this machine is taken over; files that it has sent are not sent
        again.
        """
        claim, signed = self._claim(release), sign()
        sent: dict[ObjectPath, int] = {}
        if create_once(claim, signed):
            pass
        elif take_over_dead(claim, signed):
            sent = {path: path.size() for path in self._files(release)}
        else:
            return False
        staged = [path for path in sorted(staging.rglob("*")) if path.is_file()]
        staged.sort(key=lambda path: path.relative_to(staging).parts[0] == ENSEMBLE)
        *files, (manifest, published) = [(path, self._target(path, staging, release)) for path in staged]
        _delete(sent.keys() - {target for _, target in files})
        run_all([partial(_upload, path, target, sent.get(target)) for path, target in files])
        self._check_sizes(release, {target: path.stat().st_size for path, target in files})
        _check_claim(claim, signed)
        published.upload(manifest)
        try:
            _check_claim(claim, signed)  # a retirement meanwhile has deleted files
        except CestaError:
            published.unlink(missing_ok=True)
            raise
        return True

    def stop_publisher(self, release: int) -> bool:
        """Take the number from its publisher if it gave no sign of life for PUBLISHING_S; else False.

        False, too, if there is no file: a console's empty folder has no publisher.
        """
        claim, files = self._claim(release), self._files(release)
        if not files:
            return False
        moments = [path.modified() for path in (claim, *files)]
        last = max((moment for moment in moments if moment is not None), default=None)
        if last is not None and age_s(last, self.root / NUMBERS) < PUBLISHING_S:
            return False
        claim.write_bytes(RETIRED)
        return True

    def _check_sizes(self, release: int, sent: dict[ObjectPath, int]) -> None:
        """Raise CestaError if the store holds less than was sent: an upload may be cut off unnoticed."""
        stored = {path: path.size() for path in self._files(release)}
        for path, size in sent.items():
            if stored.get(path) != size:
                raise CestaError(
                    f"{path} has {stored.get(path, 0)} bytes of the {size} that were sent; publish again"
                )

    def _claim(self, release: int) -> ObjectPath:
        return self.root / NUMBERS / str(release)

    def _models(self) -> list[ObjectPath]:
        return [path for path in self.root.iterdir() if holds_releases(path.name)]

    def _files(self, release: int) -> list[ObjectPath]:
        return [path for model in self._models() for path in (model / str(release)).files()]

    def _target(self, path: Path, staging: Path, release: int) -> ObjectPath:
        model, *rest = path.relative_to(staging).parts
        return self.root / model / str(release) / "/".join(rest)


def _check_claim(claim: ObjectPath, signed: bytes) -> None:
    if claim.read_bytes() != signed:
        raise CestaError(f"{claim} was given up by retire, {PUBLISHING_S:.0f} s of silence; publish again")


def _upload(path: Path, target: ObjectPath, sent_bytes: int | None) -> None:
    """Upload a file, unless the store has it: an object of its size whose metadata has its digest."""
    if sent_bytes == path.stat().st_size and target.uploaded_sha256() == sha256(path):
        return
    target.upload(path)


def _delete(paths: Collection[ObjectPath]) -> None:
    run_all([partial(path.unlink, missing_ok=True) for path in paths])
