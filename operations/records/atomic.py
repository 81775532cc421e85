"""A file or folder appears whole or not at all: staged beside its target, flushed to disk, renamed in."""

import fcntl
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from operations.errors import WontOverwrite

MINUTE_S = 60


def write_file(target: Path, content: bytes, staged_in: Path | None = None, mode: int | None = None) -> None:
    """Write or replace ``target``; when that fails, what was there before stays and nothing else does.

    Of two writers at once each writes a whole file, and the last one's stays. What killed ones left goes.
    ``staged_in`` is another folder of the same file system for the unfinished file, by default the target's.
    ``mode`` holds before anything is written: a secret is never readable for others.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    folder, prefix = staged_in or target.parent, f".{target.name}.partial-"
    _sweep(folder, prefix)
    partial = folder / f"{prefix}{uuid.uuid4().hex}"
    try:
        with open(partial, "xb", opener=lambda path, flags: os.open(path, flags, mode or 0o666)) as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # for _sweep of others: it is being written
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            partial.replace(target)
        _flush_one(target.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def staged_folder(target: Path, *, marker: str) -> Iterator[Path]:
    """Yield an empty folder that replaces `target` when the block ends, and vanishes when it raises.

    `marker` is a file that every folder of this kind holds. An existing, non-empty `target` without it
    was written by somebody else and is refused with WontOverwrite, before and after the work.
    """
    target = Path(target).absolute()
    _refuse_strangers(target, marker)
    target.parent.mkdir(parents=True, exist_ok=True)
    # dot first: nothing that lists releases or data folders takes a half-written one for real
    tmp = Path(tempfile.mkdtemp(prefix=f".{target.name}.partial-", dir=target.parent))
    try:
        tmp.chmod(0o755)  # mkdtemp's 0700 would keep a server under another user out
        yield tmp
        flush(tmp)
        _refuse_strangers(target, marker)
        _swap_in(tmp, target)
    finally:
        shutil.rmtree(tmp, ignore_errors=True)


@contextmanager
def scratch_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """An empty folder in ``parent`` for this process alone, removed when the block ends.

    What killed processes left of such folders is removed first: a living one holds a lock on its own.
    """
    parent.mkdir(parents=True, exist_ok=True)
    _sweep(parent, prefix)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        folder.chmod(0o755)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _sweep(parent: Path, prefix: str) -> None:
    """Remove files and folders of this prefix that nobody holds a lock on."""
    for left in parent.glob(f"{prefix}*"):
        try:
            young = time.time() - left.stat().st_mtime < MINUTE_S  # it may not have come to its lock yet
            handle = os.open(left, os.O_RDONLY)
        except (FileNotFoundError, PermissionError):
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not young:
                shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink()
        except OSError:  # locked, or another's to remove
            pass
        finally:
            os.close(handle)


def _refuse_strangers(target: Path, marker: str) -> None:
    if not target.exists() and not target.is_symlink():
        return
    ours = target.is_dir() and ((target / marker).is_file() or not any(target.iterdir()))
    if not ours:
        raise WontOverwrite(
            f"{target} exists and holds no {marker}, so cesta did not write it; choose another folder"
        )


def flush(folder: Path) -> None:
    """Have a folder and all that is in it on the disk, and not only in memory."""
    for path in [*folder.rglob("*"), folder]:
        if path.is_symlink():
            continue
        _flush_one(path)


def _flush_one(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _swap_in(tmp: Path, target: Path) -> None:
    """Rename `tmp` to `target`; a folder already there steps aside first and comes back if that fails."""
    old = tmp.with_name(tmp.name + ".old")
    if target.exists():
        target.rename(old)
    try:
        tmp.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)
