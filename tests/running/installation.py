"""`cesta` installed from its wheels, with the packages of the images' lock; its programs are run there."""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests import ROOT

LOCK = "deploy/images/supervisor.lock"


@dataclass(frozen=True)
class Installation:
    """A virtual environment with plain `cesta`, the folder of its programs, and their `variables`."""

    environment: Path
    folder: Path
    variables: dict[str, str]

    def command(self, program: str, *words: object) -> list[str]:
        return [str(self.environment / "bin" / program), *map(str, words)]

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
    """Changes with everything that decides which packages are installed."""
    digest = hashlib.sha256((ROOT / LOCK).read_bytes() + sys.version.encode())
    return digest.hexdigest()[:12]


def make_environment(folder: Path, wheels: Sequence[Path]) -> Path:
    """Return the environment in `folder` with the wheels, which another process may use meanwhile.

    What is installed already stays: the packages of the lock, and wheels of the same bytes.
    """
    environment, packages, ours = folder / "venv", folder / "packages", folder / "wheels"
    digest = hashlib.sha256(b"".join(wheel.read_bytes() for wheel in wheels)).hexdigest()
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not packages.exists():
            venv.create(environment, clear=True, with_pip=True)
            install(environment, "--require-hashes", "--requirement", ROOT / LOCK)
            packages.touch()
        if not ours.exists() or ours.read_text() != digest:
            install(environment, "--force-reinstall", "--no-index", "--no-deps", *wheels)
            ours.write_text(digest)
    return environment


def variables(state: Path) -> dict[str, str]:
    """Return the variables of a user's programs; `state` is the user's state folder."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CESTA_")}
    inherited.pop("PYTHONPATH", None)
    serving = {"CESTA_SERVING_ENV": str(ROOT / ".venv-serving")}
    return inherited | serving | {"XDG_STATE_HOME": str(state)}


def install(environment: Path, *words: object) -> None:
    pip = [environment / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-input"]
    done = subprocess.run([*pip, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
