"""The lock of a repository in an object store: an object that its holder writes again and again."""

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
from typing import Any, Final

from operations.errors import BeingChanged, CestaError
from operations.records.object_path import ObjectPath

LEASE_S: Final = 60.0  # without a renewal; then another process may take the lock over
RENEW_S: Final = 15.0


class Lease:
    """The lock object at ``path``, which names its holder. Its age is counted by the store's clock."""

    def __init__(self, path: ObjectPath) -> None:
        self.path = path
        self._content = b""
        self._renewed_s = 0.0

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock, renewed until the block ends. Raises as `take`."""
        self.take()
        over = threading.Event()
        renewing = threading.Thread(target=self.renew_until, args=(over,), daemon=True)
        renewing.start()
        try:
            yield
        finally:
            over.set()
            renewing.join()
            self.release()

    def take(self) -> None:
        """Create the lock, or take over one whose holder is dead. Raises BeingChanged if it is held."""
        content = sign()
        if not create_once(self.path, content):
            self._take_over(content)
        self._content, self._renewed_s = content, time.monotonic()

    def renew_until(self, over: threading.Event) -> None:
        """Renew the lock every RENEW_S until the event is set."""
        while not over.wait(RENEW_S):
            with suppress(CestaError, OSError):  # the next try may succeed; else `check` fails
                self._renew()

    def check(self) -> None:
        """Raise CestaError if the lock was not renewed in time, so that another process may hold it."""
        if time.monotonic() - self._renewed_s > LEASE_S:
            raise CestaError(f"{self.path} could not be renewed for {LEASE_S:.0f} s; try again")

    def release(self) -> None:
        """Delete the lock, unless another process has taken it over."""
        with suppress(CestaError, OSError):  # the lock then ends by its age
            if self.path.read_bytes() == self._content:
                self.path.unlink(missing_ok=True)

    def _renew(self) -> None:
        content, tag = self.path.read_tagged()
        renewed = sign()
        if content == self._content and self.path.replace_tagged(renewed, tag):
            self._content, self._renewed_s = renewed, time.monotonic()

    def _take_over(self, signed: bytes) -> None:
        try:
            content, tag = self.path.read_tagged()
            modified = self.path.modified()  # later than the tag: a holder who renews meanwhile keeps it
        except FileNotFoundError:
            modified = None
        if modified is None:
            raise BeingChanged(f"{self.path} was just given back by another cesta; try again")
        holder = _holder(content)
        is_free = _is_dead(holder) or age_s(modified, self.path.parent) > LEASE_S
        if not is_free or not self.path.replace_tagged(signed, tag):
            raise BeingChanged(
                f"{self.path.parent} is being changed by another cesta ({holder.get('who', 'unknown')}); "
                f"wait until it is done. The lock of a killed one ends after {LEASE_S:.0f} s"
            )


def sign() -> bytes:
    """Content that no other call writes: a writer who reads it back knows that it won."""
    about = {
        "who": f"process {os.getpid()} on {socket.gethostname()}",
        "machine": _machine(),
        "process": os.getpid(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "token": secrets.token_hex(16),
    }
    return json.dumps(about).encode()


def age_s(modified: datetime, folder: ObjectPath) -> float:
    """Seconds since an object was ``modified``, by the store's clock: this machine's may be hours ahead.

    The store tells its time by the date of a new object in ``folder``.
    """
    probe = folder / f".now-{secrets.token_hex(8)}"
    probe.write_bytes(sign())
    try:
        now = probe.modified()
    finally:
        probe.unlink(missing_ok=True)
    return ((now or datetime.now(UTC)) - modified).total_seconds()


def create_once(path: ObjectPath, content: bytes) -> bool:
    """``path.create``. Raises CestaError on a store that ignores the condition."""
    if not path.create(content):
        return False
    if path.create(sign()):
        raise CestaError(
            f"{path} was written twice, though the second time only if absent: this store has no conditional "
            "writes, so two publishers could get one number; use one that has"
        )
    return True


def is_abandoned(path: ObjectPath) -> bool:
    """Was the object signed on this machine, by a process that has ended?"""
    try:
        return _is_dead(_holder(path.read_bytes()))
    except FileNotFoundError:
        return False


def take_over_dead(path: ObjectPath, content: bytes) -> bool:
    """Replace an object that ``is_abandoned``; False if it is not, or if another process was faster."""
    before, tag = path.read_tagged()
    return _is_dead(_holder(before)) and path.replace_tagged(content, tag)


def _holder(content: bytes) -> dict[str, Any]:
    """The JSON of `sign`; {} for an object that somebody else wrote, which then ends by its age."""
    with suppress(ValueError, RecursionError):
        described = json.loads(content)
        if isinstance(described, dict):
            return described
    return {}


def _is_dead(holder: dict[str, Any]) -> bool:
    """Was this signed on this machine, by a process that has ended?"""
    return holder.get("machine") == _machine() and not Path(f"/proc/{holder.get('process')}").exists()


def _machine() -> str:
    """A name for the space in which process ids are unique: two containers may share a host name."""
    return f"{socket.gethostname()} {Path('/proc/self/ns/pid').readlink()}"
