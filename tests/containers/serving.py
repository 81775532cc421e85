"""A container that serves a repository, with the mounts and secrets that docker-compose.yml gives it."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests import ROOT
from tests.containers.engine import Container, Engine
from tests.containers.images import compose_options

PORTS = {"http": 8000, "grpc": 8001, "supervisor": 8003}
OWNER = 10001  # of the images' processes


@dataclass(frozen=True)
class Serving:
    """A container whose service is ready, and the volume that it shares with a gateway."""

    container: Container
    gateway: str

    @property
    def http(self) -> str:
        """Triton's HTTP, as this machine reaches it."""
        return self.container.address(PORTS["http"])

    @property
    def supervisor(self) -> str:
        return self.container.address(PORTS["supervisor"])

    def cesta(self, *words: object) -> str:
        """Run a command of cesta beside the service, as `docker compose exec` does."""
        return self.container.execute("cesta", *words)


Serve = Callable[..., AbstractContextManager[Serving]]


def make_secrets(folder: Path) -> Path:
    """Make the files of docker-compose.yml's secrets; the containers trust whom this session trusts."""
    script = ROOT / "deploy" / "make_secrets.sh"
    subprocess.run(["sh", script], cwd=folder, check=True, capture_output=True)
    return folder / "secrets"


def give_away(folder: Path) -> None:
    """Let the images' user read and write a folder of this test."""
    for path in (folder, *folder.rglob("*")):
        with contextlib.suppress(PermissionError):  # only root may; then everybody may write
            os.chown(path, OWNER, OWNER)
        path.chmod(0o777 if path.is_dir() else 0o666)


@contextmanager
def serving(
    engine: Engine,
    image: str,
    secrets: Path,
    kernels: str,
    repository: Path | str,
    *options: str,
    arguments: tuple[str, ...] = (),
) -> Iterator[Serving]:
    """Serve a folder or a bucket as compose's service does, and yield when it is ready.

    `kernels` is the volume of the compiled kernels. `options` of the engine come after those of the service,
    and `arguments` go to `cesta serve`.
    """
    # Each by itself, as compose does: the folder keeps others out.
    mounts = [
        f"--volume={secrets / name}:/run/secrets/{name}:ro" for name in ("control_secret", "trusted_keys")
    ]
    if isinstance(repository, Path):
        give_away(repository)
        mounts.append(f"--volume={repository}:/repository")
    variables = {
        "CESTA_REPOSITORY": "/repository" if isinstance(repository, Path) else repository,
        "CESTA_CONTROL_SECRET_FILE": "/run/secrets/control_secret",
        "CESTA_TRUSTED_KEYS_FILE": "/run/secrets/trusted_keys",
        "CESTA_OLD_TRITON": "expose",  # to this machine, through the engine
    }
    with engine.volume() as gateway:
        given = (
            *compose_options("cesta-cpu"),
            *(f"--env={name}={value}" for name, value in variables.items()),
            *mounts,
            f"--volume={gateway}:/gateway",
            f"--volume={kernels}:/var/cache",
            *(f"--publish=127.0.0.1::{port}" for port in PORTS.values()),
            *options,
        )
        words = ("--host=0.0.0.0", "--gateway=/gateway", *arguments)
        with engine.container(image, *words, options=given) as container:
            container.await_ready()
            yield Serving(container, gateway)
