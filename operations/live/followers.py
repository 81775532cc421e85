"""Finds the version that each sampler process has applied, by the files that they keep locked."""

import contextlib
import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path

from ensemble.candidate_sampler.live.change_log import FOLLOWERS


@dataclass(frozen=True)
class Applied:
    """The version that one living sampler process has applied."""

    release: str
    instance: str
    version: int


def read_followers(folder: Path) -> list[Applied]:
    """Return the living processes in the order of their releases; remove the files of those that ended."""
    found = []
    for path in (folder / FOLLOWERS).glob("*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            if applied := _read(path):
                found.append(applied)
    return sorted(found, key=lambda one: (one.release.rjust(10), one.instance, one.version))


def _read(path: Path) -> Applied | None:
    handle = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:  # its process lives
            told = json.loads(os.pread(handle, 4096, 0))
            return Applied(str(told["release"]), str(told["model_instance"]), int(told["version"]))
        path.unlink(missing_ok=True)
        return None
    finally:
        os.close(handle)
