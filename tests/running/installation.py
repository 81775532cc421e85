"""`cesta` installed as in the CPU image, on the files that it holds; its programs are run there."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests import ROOT

LOCK = "deploy/images/supervisor.lock"
DOCKERFILE = ROOT / "deploy" / "images" / "cpu" / "Dockerfile"


@dataclass(frozen=True)
class Installation:
    """The virtual environment of the supervisor, and `variables` for the programs in it."""

    folder: Path
    variables: dict[str, str]

    def command(self, program: str, *words: object) -> list[str]:
        return [str(self.folder / "venv" / "bin" / program), *map(str, words)]

    def run(self, program: str, *words: object, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(program, *words),
            cwd=self.folder,
            env=self.variables | variables,
            capture_output=True,
            text=True,
            check=False,
        )

    def cesta(self, *words: object) -> str:
        """The command's stdout; it must end well."""
        done = self.run("cesta", *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextmanager
    def ready(self, program: str, *words: object) -> Iterator[dict[str, str]]:
        """Start a server, yield the addresses of its "ready:" line, and end it with SIGTERM."""
        process = subprocess.Popen(
            self.command(program, *words),
            cwd=self.folder,
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            lines: list[str] = []
            for line in process.stdout:
                lines.append(line)
                if line.startswith("ready: "):
                    break
            else:
                raise AssertionError("".join(lines) + process.stderr.read())
            pairs = line.removeprefix("ready: ").split()
            yield dict(zip(pairs[::2], pairs[1::2], strict=True))
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
        assert process.returncode == 0


def requirements_digest() -> str:
    """Changes with everything that decides what is installed."""
    files = [ROOT / name for name in ("pyproject.toml", "client/pyproject.toml", LOCK)]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files))
    digest.update(sys.version.encode())
    return digest.hexdigest()[:12]


def make_installation(folder: Path, state: Path) -> Installation:
    """Copy the image's files into `folder`, and install there unless that was done before.

    `state` is the state folder of the user who runs the programs.
    """
    copy_image_files(folder / "tree")
    if not (folder / "installed").exists():
        install(folder)
        (folder / "installed").touch()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CESTA_")}
    inherited.pop("PYTHONPATH", None)
    serving = {"CESTA_SERVING_ENV": str(ROOT / ".venv-serving")}
    return Installation(folder, inherited | serving | {"XDG_STATE_HOME": str(state)})


def copy_image_files(tree: Path) -> None:
    """Copy what the CPU image copies from the checkout."""
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE.read_text(), re.MULTILINE):
        *names, target = line.split()
        for source in (ROOT / name for name in names):
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
                shutil.copytree(source, tree / target, ignore=ignored)
            else:
                shutil.copy2(source, tree / target)  # a folder, in this Dockerfile always "./"


def install(folder: Path) -> None:
    """Install as the image does: the packages by their hashes, then cesta without asking an index."""
    venv.create(folder / "venv", clear=True, with_pip=True)
    pip = [folder / "venv" / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-input"]
    ours = ["--no-index", "--no-deps", "--no-build-isolation", "--editable", "./client", "--editable", "."]
    for packages in (["--require-hashes", "--requirement", Path(LOCK).name], ours):
        done = subprocess.run(
            [*pip, *packages], cwd=folder / "tree", capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
