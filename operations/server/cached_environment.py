"""The serving environment of an installed cesta: it is made on first use in the user's cache folder.

    ~/.cache/cesta/serving/1f0c…-python3.11/    # the lock file's digest, the Python

It appears whole or not at all: made beside its place, then renamed. pip checks the hash of every package.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from operations.errors import ServerError
from operations.shipped import find_shipped

LOCK: Final = Path("images", "cpu", "serving.lock")  # of the CPU image, whose environment is the same
SERVING: Final = ("3.12", "3.11")  # the Pythons that it can have
NEEDED_BYTES: Final = 2 * 2**30  # 0.6 GiB, as much again while pip unpacks, and a margin
PIP: Final = ("-I", "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--progress-bar=off")
BY_HASH: Final = ("--no-deps", "--require-hashes", "--requirement")
LAST_LINES: Final = 5  # of pip, if it fails

_PACKAGE: Final = re.compile(r"(?:Collecting|Processing) (?:\S*/)?(.+?)(?:==|-\d|\s|$)")

OnStep = Callable[[str], object]  # is told what is being done


def cache_folder() -> Path:
    """Return the folder of what cesta can make anew. Raises ServerError for a user without a home."""
    if named := os.environ.get("XDG_CACHE_HOME"):
        return Path(named) / "cesta"
    try:
        return Path.home() / ".cache" / "cesta"
    except RuntimeError:  # neither $HOME nor an entry in /etc/passwd
        raise ServerError("this user has no home for a cache folder; set XDG_CACHE_HOME to one") from None


def place(python: str) -> Path:
    """Return the folder of the environment with a Python such as `"3.11"`, whether it was made or not."""
    digest = hashlib.sha256(_lock().read_bytes()).hexdigest()[:12]
    return cache_folder() / "serving" / f"{digest}-python{python}"


def find_made(first: str) -> Path | None:
    """Return the environment that was made, with the Python `first` if there is one.

    Raises ServerError if another user made it.
    """
    versions = sorted(SERVING, key=lambda version: version != first)
    return next(filter(_is_made, map(place, versions)), None)


def package_count() -> int:
    """Return how many packages pip installs at most."""
    return len(re.findall(r"^\S+==", _lock().read_text(encoding="utf-8"), re.MULTILINE))


def make(python: str, version: str, on_step: OnStep) -> Path:
    """Make the environment with the interpreter `python` of this version, unless another process just did.

    Raises ServerError with pip's last words. Whatever happens, the folder is whole or not there.
    """
    target = place(version)
    target.parent.mkdir(parents=True, exist_ok=True)
    _check_owner(target.parent)
    with _only_one(target.with_name(f"{target.name}.lock"), on_step):
        if _is_made(target):
            return target
        _check_space(target.parent)
        partial = target.with_name(f"{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
        try:
            on_step("a virtual environment")
            _run([python, "-I", "-m", "venv", str(partial)], on_step)
            _run([str(partial / "bin" / "python"), *PIP, *BY_HASH, str(_lock())], on_step)
            return partial.rename(target)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def _is_made(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    _check_owner(folder)
    return True


def _check_owner(folder: Path) -> None:
    """Raise ServerError if another user owns the folder or a link in its place: he may put programs there."""
    if folder.lstat().st_uid not in (0, os.geteuid()):
        raise ServerError(
            f"{folder} belongs to another user, whose programs would run; set XDG_CACHE_HOME to a folder of "
            "your own"
        )


def _lock() -> Path:
    return find_shipped("deploy") / LOCK


@contextmanager
def _only_one(lock: Path, on_step: OnStep) -> Iterator[None]:
    """Wait for another process that makes the same. The kernel frees the lock of one that is killed."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_step("another process makes it; waiting")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _check_space(folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < NEEDED_BYTES:
        raise ServerError(
            f"{folder} has {free / 2**30:.1f} GiB free, and the serving environment needs "
            f"{NEEDED_BYTES / 2**30:g} while it is made; free some, or set XDG_CACHE_HOME to another folder"
        )


def _run(command: list[str], on_step: OnStep) -> None:
    """Run a program; tell of each package that pip collects, and of their installation."""
    last: deque[str] = deque(maxlen=LAST_LINES)
    variables = {name: value for name, value in os.environ.items() if name != "PIP_TARGET"}
    with subprocess.Popen(
        command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        for line in process.stdout or ():
            last.append(line.rstrip())
            if found := _PACKAGE.match(line):
                on_step(found[1])
            elif line.startswith("Installing collected packages"):
                on_step("unpacking")
    if process.returncode:
        said = "\n".join(last)
        raise ServerError(
            f"the serving environment could not be made: {' '.join(command[:4])} … ended with "
            f"{process.returncode}:\n{said}"
        )
