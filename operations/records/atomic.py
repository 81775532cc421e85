"""Writes a file or folder whole or not at all: staged beside its target, flushed to disk, renamed."""

import fcntl
import glob
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from operations.errors import CestaError, WontOverwrite

MINUTE_S: Final = 60
OLD: Final = ".old"  # end of the name of a folder that is being replaced


def write_file(target: Path, content: bytes, staged_in: Path | None = None, mode: int | None = None) -> None:
    """Write or replace ``target``. A failure leaves the file as it was, and nothing beside it.

    Each of several writers at once writes a whole file; the last one's stays. Files that killed writers left
    are removed. ``staged_in`` is the folder for the unfinished file, on the same file system; by default the
    target's. ``mode`` holds whatever the umask, and before anything is written: others can never read a
    secret. Raises OSError with the target's name.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    folder, prefix = staged_in or target.parent, f".{target.name}.partial-"
    _sweep(folder, prefix)
    partial = folder / f"{prefix}{uuid.uuid4().hex}"
    try:
        with open(partial, "xb", opener=lambda path, flags: os.open(path, flags, mode or 0o666)) as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # keeps the _sweep of other processes off it
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            partial.replace(target)
        _flush_path(target.parent)
    except OSError as error:
        error.filename, error.filename2 = str(target), None
        raise
    finally:
        partial.unlink(missing_ok=True)


def append_line(target: Path, line: str, mode: int) -> None:
    """Add a line to a file; on disk when this returns. A failure takes back what was written of it.

    A new file has this ``mode``, whatever the umask. Raises OSError with the target's name.
    """
    is_new = not target.exists()
    torn = not is_new and not target.read_bytes().endswith(b"\n")  # by a power failure
    handle = os.open(target, os.O_WRONLY | os.O_APPEND | os.O_CREAT, mode)
    try:
        size = os.fstat(handle).st_size
        if is_new:
            os.fchmod(handle, mode)
        try:
            with open(handle, "a", encoding="utf-8", closefd=False) as file:
                file.write(("\n" if torn else "") + line + "\n")
            os.fsync(handle)
        except OSError as error:
            os.ftruncate(handle, size)
            error.filename = str(target)
            raise
    finally:
        os.close(handle)


def overwrite(target: Path, content: bytes, at: int = 0) -> None:
    """Replace bytes of a file in their place. It needs no room on a full disk; readers may see a part.

    For what must not wait for room, and is small: a write within a page is not torn by a process's death.
    """
    handle = os.open(target, os.O_WRONLY)
    try:
        os.pwrite(handle, content, at)
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def staged_folder(target: Path, *, marker: str, names: Collection[str] = ("*",)) -> Iterator[Path]:
    """Yield an empty folder that replaces `target` when the block ends, and is deleted if it raises.

    Folders that killed processes left are deleted first. `marker` is a file that every folder of this kind
    holds. `names` are patterns of what may be in it. Raises WontOverwrite, before and after the block, if
    `target` is neither empty nor holds the marker, or if it holds a file or folder with another name:
    somebody else wrote that, and it would be lost.
    """
    target = _behind_links(target)
    _restore(target)
    _refuse_strangers(target, marker, names)
    # The dot hides the unfinished folder from everything that lists releases or data folders.
    with scratch_folder(target.parent, f".{target.name}.partial-") as folder:
        yield folder
        flush(folder)
        _refuse_strangers(target, marker, names)
        _swap_in(folder, target)


@contextmanager
def resumed_folder(target: Path, *, marker: str, names: Collection[str] = ("*",)) -> Iterator[Path]:
    """Yield a folder beside `target`, which replaces it when the block ends. A killed block's files stay.

    `marker`, `names` and WontOverwrite are those of `staged_folder`. Raises CestaError if another process
    fills it.
    """
    target = _behind_links(target)
    _restore(target)
    _refuse_strangers(target, marker, names)
    folder = target.with_name(f".{target.name}.unfinished")
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise CestaError(f"{folder} is being filled by another cesta; wait until it is done") from None
    try:
        yield folder
        flush(folder)
        _refuse_strangers(target, marker, names)
        _swap_in(folder, target)
    finally:
        os.close(handle)  # this ends the lock


@contextmanager
def scratch_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Yield an empty folder in ``parent`` for this process alone; delete it when the block ends.

    Folders that killed processes left are deleted first. A living process holds a lock on its folder.
    """
    parent.mkdir(parents=True, exist_ok=True)
    _sweep(parent, prefix)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        folder.chmod(0o755)  # mkdtemp's 0700 would lock out a server of another user
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _sweep(parent: Path, prefix: str) -> None:
    """Remove files and folders of this prefix that no process holds a lock on."""
    for path in parent.glob(f"{glob.escape(prefix)}*"):
        try:
            # Its lock may not be set yet. One that is far ahead is old: the clock was set back since.
            is_young = abs(time.time() - path.stat().st_mtime) < MINUTE_S
            handle = os.open(path, os.O_RDONLY)
        except (FileNotFoundError, PermissionError):
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not is_young:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
        except OSError:  # it is locked, or another process has removed it
            pass
        finally:
            os.close(handle)


def _behind_links(target: Path) -> Path:
    """Return the folder that a link leads to, maybe on another disk; a link to nothing is refused later."""
    target = Path(target).absolute()
    return target.resolve() if target.exists() else target


def _refuse_strangers(target: Path, marker: str, names: Collection[str]) -> None:
    if not target.exists() and not target.is_symlink():
        return
    ours = target.is_dir() and ((target / marker).is_file() or not any(target.iterdir()))
    if not ours:
        raise WontOverwrite(
            f"{target} exists and has no {marker}, so cesta did not write it; choose another folder"
        )
    strangers = [path for path in sorted(target.iterdir()) if not _is_known(path.name, names)]
    if strangers:
        others = f" and {len(strangers) - 1:,} more" if len(strangers) > 1 else ""
        raise WontOverwrite(
            f"{strangers[0]}{others} would be lost, since {target} is written anew; cesta did not write "
            f"{'them' if others else 'it'}: move {'them' if others else 'it'} elsewhere"
        )


def _is_known(name: str, names: Collection[str]) -> bool:
    """Is it a name of these patterns, or one of the hidden files that file managers leave?"""
    return name.startswith(".") or any(fnmatchcase(name, pattern) for pattern in names)


def _restore(target: Path) -> None:
    """Give the folder its name back that a process renamed in `_swap_in` before it was killed."""
    if not target.exists() and not target.is_symlink():
        for old in target.parent.glob(f".{glob.escape(target.name)}.*{OLD}"):
            old.rename(target)
            return


def flush(folder: Path) -> None:
    """Flush a folder and everything in it from memory to the disk."""
    for path in [*folder.rglob("*"), folder]:
        if path.is_symlink():
            continue
        _flush_path(path)


def _flush_path(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _swap_in(tmp: Path, target: Path) -> None:
    """Rename `tmp` to `target`. An existing folder is renamed first, and back if that fails."""
    old = tmp.with_name(tmp.name + OLD)
    if target.exists():
        target.rename(old)
    try:
        tmp.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)
