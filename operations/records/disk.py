"""The file system's refusals as sentences, and the modes of the files that others read."""

import errno
import os
import pwd
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from operations.errors import CestaError

FILE_MODE: Final = 0o644  # of everything in a repository, whatever the publisher's umask
FOLDER_MODE: Final = 0o755
FULL: Final = (errno.ENOSPC, errno.EDQUOT)
DENIED: Final = (errno.EACCES, errno.EPERM)


def is_full(error: OSError) -> bool:
    """Is there no room left on the disk, or in the user's quota?"""
    return error.errno in FULL


def explain(error: OSError, path: Path | None = None) -> str:
    """One sentence: the path, the file system's reason, the way out. ``path`` replaces the error's own.

    numpy reports a full disk without number and name, shutil all files of a folder in one error.
    """
    if isinstance(error, shutil.Error):
        error = _first(error)
    target = error.filename2 if is_full(error) else None  # of a copy, whose source has room
    named = path or target or error.filename
    place = str(named) if isinstance(named, str | Path) else ""
    return f"{place or 'the output'}: {error.strerror or error}; {_way_out(error.errno, place)}"


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Raise CestaError for an OSError of the block: ``what`` names what is not done."""
    try:
        yield
    except OSError as error:
        raise CestaError(f"{what}: {explain(error)}") from None


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, which every user can read, whatever the umask."""
    for missing in reversed([place for place in (folder, *folder.parents) if not place.is_dir()]):
        missing.mkdir(exist_ok=True)
        missing.chmod(FOLDER_MODE)


def open_to_readers(folder: Path) -> None:
    """Give everything below a folder FILE_MODE or FOLDER_MODE, whatever the umask and the files' origin."""
    for path in folder.rglob("*"):
        path.chmod(FOLDER_MODE if path.is_dir() else FILE_MODE)


def _first(error: shutil.Error) -> OSError:
    """The first refusal of a folder's copy, which shutil keeps as texts: source, target, reason."""
    _, target, reason = error.args[0][0]
    match = re.match(r"\[Errno (\d+)\] ([^:]*)", reason)
    return OSError(int(match[1]), match[2], target) if match else OSError(None, reason, target)


def _way_out(number: int | None, place: str) -> str:
    existing = _nearest_existing(Path(place)) if place else None
    if number == errno.EDQUOT:
        return "the user's quota is used up: delete files of this user, or raise it"
    if number in (errno.ENOSPC, None):
        if existing and _has_no_inodes(existing):
            return "the file system has room and no inodes left: delete some files"
        return "free some space"
    if number == errno.EROFS:
        return "the file system is read-only: mount it writable, or choose another folder"
    if number in DENIED and existing:
        return _describe_owner(existing)
    if number == errno.EIO:
        return "the disk fails: look at the kernel's log (dmesg)"
    return "choose another folder"


def _nearest_existing(path: Path) -> Path | None:
    for candidate in (path, *path.absolute().parents):
        with suppress(OSError):
            candidate.stat()
            return candidate
    return None


def _has_no_inodes(path: Path) -> bool:
    about = os.statvfs(path)
    return about.f_files > 0 and about.f_favail == 0 and about.f_bavail > 0


def _describe_owner(path: Path) -> str:
    """Name the owner of a path; of its folder, if the path is this user's own."""
    mine = os.geteuid()
    place = path if path.stat().st_uid != mine else path.absolute().parent
    about = place.stat()
    owner, mode = _user(about.st_uid), f"{about.st_mode & 0o777:04o}"
    return (
        f"{place} belongs to {owner}, mode {mode}, and this is {_user(mine)}: "
        "run this as the owner, or choose another folder"
    )


def _user(number: int) -> str:
    try:
        return f"{pwd.getpwuid(number).pw_name} ({number})"
    except KeyError:  # a container's user has a number and no name
        return f"user {number}"
