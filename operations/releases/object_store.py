"""A repository in an object store: numbers, uploads, the lock and the record, where nothing can be renamed.

Everything rests on conditional writes: create if absent, replace if unchanged. S3, MinIO and Google
Cloud Storage have them. A store that passes over the condition is found out at each use and refused.
"""

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from operations.errors import BeingChanged, CestaError
from operations.records.contract import MODELS
from operations.records.object_path import ObjectPath

NUMBERS = ".numbers"  # an object per number that was ever taken; never deleted
LOCK = ".lock"
LEASE_S = 60.0  # the lock of who was killed is free after this
RENEW_S = 15.0
PUBLISHING_S = 3600.0  # a publisher of whom nothing was seen for so long is dead
RETIRED = b'{"retired": true}'


def taken_numbers(repository: ObjectPath) -> set[int]:
    """Every number that a publisher ever took."""
    return {int(path.name) for path in (repository / NUMBERS).iterdir() if path.name.isdecimal()}


def move_in(staged: list[Path], staging: Path, repository: ObjectPath, release: int) -> bool:
    """Take the number and upload the files, the last one last. False if the number is taken.

    ``staged`` lie in ``staging`` as ``model/…`` and go to ``model/<release>/…``.
    """
    claim = repository / NUMBERS / str(release)
    mine = _signed()
    if not _create(claim, mine):
        return False
    *files, last = [(path, _target(path, staging, repository, release)) for path in staged]
    for path, target in files:
        target.upload(path)
    _check_sizes(repository, release, {target: path.stat().st_size for path, target in files})
    _check_claim(claim, mine)
    last[1].upload(last[0])
    try:
        _check_claim(claim, mine)  # a retire that came between has deleted files
    except CestaError:
        last[1].unlink(missing_ok=True)
        raise
    return True


def give_up(repository: ObjectPath, release: int, whole: bool) -> bool:
    """Have the publisher of a release that is not ``whole`` stop; False if it may still be at work."""
    if whole:
        return True
    claim = repository / NUMBERS / str(release)
    seen = [path.modified() for path in (claim, *_files_of(repository, release))]
    last = max((moment for moment in seen if moment is not None), default=None)
    if last is not None and (datetime.now(UTC) - last).total_seconds() < PUBLISHING_S:
        return False
    claim.write_bytes(RETIRED)
    return True


def append(path: ObjectPath, line: str) -> None:
    """Add a line to an object; again from the start when another was faster."""
    for _ in range(20):
        if not path.exists():
            if path.create(f"{line}\n".encode()):
                return
            continue
        content, tag = path.read_tagged()
        if path.replace_tagged(content + f"{line}\n".encode(), tag):
            return
    raise CestaError(f"{path} is changed by others all the time; try again")


def delete_folder(folder: ObjectPath) -> None:
    """Every object below, one by one: what a kill leaves is deleted by the next call."""
    for path in folder.files():
        path.unlink(missing_ok=True)


def copy_folder(folder: ObjectPath, target: ObjectPath) -> None:
    for path in folder.files():
        path.copy_to(target / str(path.relative_to(folder)))


def write(path: ObjectPath, content: bytes, repository: ObjectPath) -> None:
    """Write or replace an object; CestaError if this process had the repository's lock and lost it."""
    if lease := _held.get(str(repository)):
        lease.check()
    path.write_bytes(content)


@contextmanager
def locked(repository: ObjectPath) -> Iterator[None]:
    """Hold the repository's lock, renewed until the block ends; BeingChanged if another does."""
    lease = _Lease(repository / LOCK)
    lease.take()
    over = threading.Event()
    renewing = threading.Thread(target=lease.renew_until, args=(over,), daemon=True)
    renewing.start()
    _held[str(repository)] = lease
    try:
        yield
    finally:
        del _held[str(repository)]
        over.set()
        renewing.join()
        lease.release()


class _Lease:
    """An object that says who changes the repository. Its last writing, by the store's clock, ages it."""

    def __init__(self, path: ObjectPath) -> None:
        self.path = path
        self._content = b""
        self._renewed = 0.0

    def take(self) -> None:
        mine = _signed()
        if not _create(self.path, mine):
            self._take_over(mine)
        self._content, self._renewed = mine, time.monotonic()

    def renew_until(self, over: threading.Event) -> None:
        while not over.wait(RENEW_S):
            with suppress(CestaError, OSError):  # the next try may succeed; `check` tells when it is too late
                self._renew()

    def check(self) -> None:
        if time.monotonic() - self._renewed > LEASE_S:
            raise CestaError(f"{self.path} could not be renewed for {LEASE_S:.0f} s; try again")

    def release(self) -> None:
        """Unless it became another's."""
        with suppress(CestaError, OSError):  # it ends by itself, then
            if self.path.read_bytes() == self._content:
                self.path.unlink(missing_ok=True)

    def _renew(self) -> None:
        content, tag = self.path.read_tagged()
        fresh = _signed()
        if content == self._content and self.path.replace_tagged(fresh, tag):
            self._content, self._renewed = fresh, time.monotonic()

    def _take_over(self, mine: bytes) -> None:
        modified = self.path.modified()
        if modified is None:
            raise BeingChanged(f"{self.path} was just given back by another cesta; try again")
        content, tag = self.path.read_tagged()
        age_s = (datetime.now(UTC) - modified).total_seconds()
        about = json.loads(content)
        free = age_s > LEASE_S or _died_here(about)
        if not free or not self.path.replace_tagged(mine, tag):
            holder = about["who"]
            raise BeingChanged(
                f"{self.path.parent} is being changed by another cesta ({holder}); wait until it is done. "
                f"One that was killed is waited for {LEASE_S:.0f} s"
            )


_held: dict[str, _Lease] = {}  # by the repository's URL: what this process has locked


def _create(path: ObjectPath, content: bytes) -> bool:
    """``path.create``, on stores that mean it."""
    if not path.create(content):
        return False
    if path.create(_signed()):
        raise CestaError(
            f"{path} was written twice, though the second time only if absent: this store has no conditional "
            "writes, so two publishers could get one number; use one that has"
        )
    return True


def _check_claim(claim: ObjectPath, mine: bytes) -> None:
    if claim.read_bytes() != mine:
        raise CestaError(f"{claim} was given up by retire, {PUBLISHING_S:.0f} s of silence; publish again")


def _check_sizes(repository: ObjectPath, release: int, sent: dict[ObjectPath, int]) -> None:
    """Raise CestaError if the store does not hold what was sent: an upload that was cut off unseen."""
    kept = {path: path.listed for path in _files_of(repository, release)}
    for path, size in sent.items():
        if kept.get(path) != size:
            raise CestaError(
                f"{path} has {kept.get(path, 0)} bytes of the {size} that were sent; publish again"
            )


def _files_of(repository: ObjectPath, release: int) -> list[ObjectPath]:
    return [path for model in MODELS for path in (repository / model / str(release)).files()]


def _target(path: Path, staging: Path, repository: ObjectPath, release: int) -> ObjectPath:
    model, *rest = path.relative_to(staging).parts
    return repository / model / str(release) / "/".join(rest)


def _signed() -> bytes:
    """Nobody else's: whoever reads it back knows that it was written by this call."""
    about: dict[str, Any] = {
        "who": f"process {os.getpid()} on {socket.gethostname()}",
        "machine": _machine(),
        "process": os.getpid(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "token": secrets.token_hex(16),
    }
    return json.dumps(about).encode()


def _died_here(about: dict[str, Any]) -> bool:
    """Was this signed on this machine, by a process that is gone?"""
    return about.get("machine") == _machine() and not Path(f"/proc/{about['process']}").exists()


def _machine() -> str:
    """Where process ids mean the same: two containers may share a host name."""
    return f"{socket.gethostname()} {Path('/proc/self/ns/pid').readlink()}"
