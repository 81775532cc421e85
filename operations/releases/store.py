"""What file systems do each in their own way: take a number, move a release in, lock, write, append, delete.

A repository is a folder (``pathlib.Path``) or a place in an object store (``ObjectPath``); all else reads
both alike. Here are the folder's halves; those of object stores are in ``object_store.py``.
"""

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from operations.errors import BeingChanged
from operations.records import atomic
from operations.records.atomic import flush, scratch_folder
from operations.records.contract import MODELS, SAMPLER
from operations.records.object_path import ObjectPath
from operations.releases import object_store

Repository = Path | ObjectPath

STAGING = ".publishing-"  # in the repository: renaming in is one step. Triton lists it and never loads it


def open_repository(place: str | os.PathLike[str]) -> Repository:
    """A folder, or what a URL such as ``s3://bucket/prefix`` names. Nothing is looked at yet."""
    return ObjectPath.at(str(place)) if "://" in str(place) else Path(place)


@contextmanager
def staging_folder(repository: Repository) -> Iterator[Path]:
    """An empty local folder to put a release together in; gone when the block ends."""
    if isinstance(repository, ObjectPath):
        parent, prefix = Path(tempfile.gettempdir()), f"cesta{STAGING}"
    else:
        parent, prefix = repository, STAGING
    with scratch_folder(parent, prefix) as folder:
        yield folder


def taken_numbers(repository: Repository) -> set[int]:
    """Numbers that may have neither folder nor record yet; in a folder there are none."""
    return object_store.taken_numbers(repository) if isinstance(repository, ObjectPath) else set()


def move_in(staging: Path, repository: Repository, release: int) -> bool:
    """Have the three folders of ``staging`` in the repository as ``release``: parts first, the manifest last.

    False, and nothing moved, if another publisher has taken the number.
    """
    if isinstance(repository, ObjectPath):
        staged = [path for model in MODELS for path in sorted((staging / model).rglob("*")) if path.is_file()]
        return object_store.move_in(staged, staging, repository, release)
    flush(staging)
    for model in MODELS:
        (repository / model).mkdir(exist_ok=True)
        target = repository / model / str(release)
        try:
            # Whoever moves the sampler in has the number: a folder that holds files is not renamed over.
            (staging / model).rename(target)
        except OSError:
            if model == SAMPLER and target.exists():
                return False
            raise
    return True


def give_up(repository: Repository, release: int, whole: bool) -> bool:
    """Before a release is deleted: False if it is not ``whole`` and its publisher may still be at work.

    In a folder moving in takes a moment, and nobody is waited for.
    """
    if isinstance(repository, ObjectPath):
        return object_store.give_up(repository, release, whole)
    return True


def write_file(target: Repository, content: bytes, repository: Repository) -> None:
    """Write or replace a file of the repository; readers find the old one or the new one, whole."""
    if isinstance(target, ObjectPath):
        object_store.write(target, content, repository)
    else:
        # Staged outside: any strange name in a model's folder makes Triton reload all of its versions.
        atomic.write_file(target, content, staged_in=repository)


def append(path: Repository, record: dict[str, Any]) -> None:
    """Add a JSON object as a line, on disk when this returns."""
    line = json.dumps(record, ensure_ascii=False)
    if isinstance(path, ObjectPath):
        object_store.append(path, line)
        return
    torn = path.exists() and not path.read_bytes().endswith(b"\n")  # by a power failure
    with path.open("a", encoding="utf-8") as file:
        file.write(("\n" if torn else "") + line + "\n")
        file.flush()
        os.fsync(file.fileno())


def delete_folder(folder: Repository) -> None:
    """Delete a folder with all that is in it, if it is there."""
    if isinstance(folder, ObjectPath):
        object_store.delete_folder(folder)
    elif folder.exists():
        shutil.rmtree(folder)


@contextmanager
def standing_in(folder: Repository, other: Repository, aside: Repository) -> Iterator[None]:
    """Have the files of ``other`` in ``folder``; its own wait in ``aside`` for the block's end."""
    remote = isinstance(folder, ObjectPath)
    if remote:
        object_store.copy_folder(folder, aside)
        object_store.delete_folder(folder)
    else:
        folder.rename(aside)
    try:
        if remote:
            object_store.copy_folder(other, folder)
        else:
            shutil.copytree(other, folder, copy_function=os.link)
        yield
    finally:
        if remote:
            object_store.delete_folder(folder)
            object_store.copy_folder(aside, folder)
            object_store.delete_folder(aside)
        else:
            shutil.rmtree(folder, ignore_errors=True)
            aside.rename(folder)


@contextmanager
def locked(repository: Repository) -> Iterator[None]:
    """Alone in changing what is active; a second one gets BeingChanged. A killed one soon holds nothing."""
    if isinstance(repository, ObjectPath):
        with object_store.locked(repository):
            yield
        return
    folder = os.open(repository, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(folder)
        raise BeingChanged(
            f"{repository} is being changed by another cesta, or a server that has just started loads its "
            "releases; wait until it is done"
        ) from None
    try:
        yield
    finally:
        os.close(folder)  # and with it the lock
