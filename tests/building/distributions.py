"""Wheel and sdist of cesta and of cesta-client, as `make wheels` builds them."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tests import ROOT

SOURCES = {"cesta": ROOT, "cesta_client": ROOT / "client"}


@dataclass(frozen=True)
class Distributions:
    """What lies in a folder such as dist/."""

    folder: Path

    def wheel(self, name: str) -> Path:
        (path,) = self.folder.glob(f"{name}-[0-9]*-py3-none-any.whl")
        return path

    def sdist(self, name: str) -> Path:
        (path,) = self.folder.glob(f"{name}-[0-9]*.tar.gz")
        return path

    @property
    def wheels(self) -> list[Path]:
        return [self.wheel(name) for name in SOURCES]

    def files(self, name: str) -> dict[str, bytes]:
        """The files of a wheel: name → content."""
        with zipfile.ZipFile(self.wheel(name)) as wheel:
            return {entry.filename: wheel.read(entry) for entry in wheel.infolist() if not entry.is_dir()}

    def sources(self, name: str) -> dict[str, bytes]:
        """The files of an sdist: name below its one folder → content."""
        with tarfile.open(self.sdist(name)) as sdist:
            files = [member for member in sdist.getmembers() if member.isfile()]
            return {file.name.partition("/")[2]: sdist.extractfile(file).read() for file in files}


def build(source: Path, folder: Path) -> None:
    """Build the wheel and the sdist of the project in `source` into `folder`, without an index."""
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(folder)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def build_all(folder: Path) -> Distributions:
    for source in SOURCES.values():
        build(source, folder)
    return Distributions(folder)
