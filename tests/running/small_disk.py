"""A small file system to fill, to run out of inodes, or to make read-only. Only root can mount one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


class SmallDisk:
    """A mounted file system of 8 MiB and 400 inodes in ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def fill(self) -> None:
        """Take all of its space."""
        with suppress(OSError), (self.root / "filling").open("ab", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        assert os.statvfs(self.root).f_bavail == 0

    def use_up_inodes(self) -> None:
        """Leave space, and no inode for another file."""
        with suppress(OSError):
            for number in range(10_000):
                (self.root / f"inode-{number}").touch()
        assert os.statvfs(self.root).f_favail == 0

    def make_read_only(self) -> None:
        subprocess.run(["mount", "-o", "remount,ro", str(self.root)], check=True)


@contextmanager
def small_disk(root: Path) -> Iterator[SmallDisk]:
    """Mount it for the block; skip the test where that is not allowed."""
    root.mkdir()
    options = ["-t", "tmpfs", "-o", "size=8m,nr_inodes=400,mode=0755", "small", str(root)]
    if os.geteuid() != 0 or subprocess.run(["mount", *options], capture_output=True).returncode:
        pytest.skip("needs root, and the right to mount a tmpfs")
    try:
        yield SmallDisk(root)
    finally:
        subprocess.run(["umount", "-l", str(root)], check=True)
