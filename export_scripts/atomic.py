"""A file or folder appears whole or not at all: staged beside its target, flushed to disk, renamed in."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from export_scripts.errors import WontOverwrite


def write_file(target: Path, content: bytes) -> None:
    """Write or replace ``target``; when that fails, what was there before stays and nothing else does."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    try:
        partial.write_bytes(content)
        _flush_one(partial)
        partial.replace(target)
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
        _flush(tmp)
        _refuse_strangers(target, marker)
        _swap_in(tmp, target)
    finally:
        shutil.rmtree(tmp, ignore_errors=True)


def _refuse_strangers(target: Path, marker: str) -> None:
    if not target.exists() and not target.is_symlink():
        return
    ours = target.is_dir() and ((target / marker).is_file() or not any(target.iterdir()))
    if not ours:
        raise WontOverwrite(
            f"{target} exists and holds no {marker}, so cesta did not write it; choose another folder"
        )


def _flush(folder: Path) -> None:
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
