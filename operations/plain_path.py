"""Paths that programs can be given which write them into shell lines, lists and configurations unquoted.

Triton starts each Python model through a shell, the loader splits lists at colons and semicolons, nginx's
configuration has quotes and variables of its own, and a socket's path has at most 107 bytes. Such programs
get a short link to a path that they could misread. The link is named by the path, so it stays the same from
start to start, and so do caches that know files by their paths. Standard library only.
"""

import contextlib
import hashlib
import os
import re
import stat
import tempfile
import time
import uuid
from pathlib import Path
from typing import Final

from operations.errors import CestaError

LONGEST: Final = 1000  # bytes; far below the kernel's 4096, since programs append names
_PLAIN: Final = re.compile(r"[A-Za-z0-9/._+@-]+")
_DAY_S: Final = 86_400
_LONGEST_PLACE: Final = 40  # bytes; the link and the name of a socket below it fit into 107
_PLACES: Final = ("/tmp", "/var/tmp", "/dev/shm")


def plain_path(path: Path, longest: int = LONGEST) -> Path:
    """Return the absolute path if it is plain and has at most `longest` bytes, else a link to it.

    A plain path holds ASCII letters, digits and `/._+@-`. Raises CestaError if no link can be made.
    """
    path = path.absolute()
    if is_plain(path) and len(os.fsencode(path)) <= longest:
        return path
    folder = _open_folder(path)
    link = folder / hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    if not _leads_to(link, path):
        _sweep(folder)
        staged = folder / uuid.uuid4().hex
        staged.symlink_to(path)
        staged.replace(link)
    return link


def is_plain(path: Path) -> bool:
    """Tell whether every program reads the path as it stands."""
    return _PLAIN.fullmatch(str(path)) is not None


def _sweep(folder: Path) -> None:
    """Remove yesterday's links to what is gone. A younger one may lead to a disk that comes back."""
    for link in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process has removed it
            if not link.exists() and time.time() - link.lstat().st_mtime > _DAY_S:
                link.unlink()


def _leads_to(link: Path, path: Path) -> bool:
    with contextlib.suppress(OSError):
        return link.readlink() == path
    return False


def _open_folder(path: Path) -> Path:
    """Return this user's folder of links, in the first place that can hold it."""
    name = f"cesta-links-{os.geteuid()}"
    for place in dict.fromkeys((tempfile.gettempdir(), *_PLACES)):
        folder = Path(place) / name
        if not is_plain(folder) or len(place) > _LONGEST_PLACE:
            continue
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, exist_ok=True)
            found = folder.lstat()
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and os.access(folder, os.W_OK):
                return folder
    raise CestaError(
        f"{path} is too long, or has characters that tritonserver or nginx misread, and no link to it can be "
        f"made in {', '.join(_PLACES)}; choose a short path of ASCII letters, digits and ._+@-"
    )
