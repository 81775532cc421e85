"""The engine, the images, and releases to serve in them."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from operations.releases.publish import publish
from operations.releases.signatures.trust import publisher_key
from operations.releases.stores.store import open_repository
from tests.containers.bases import DEBIAN, base
from tests.containers.engine import Engine, find_engine
from tests.containers.images import build_image
from tests.containers.serving import Serve, make_secrets, serving

if TYPE_CHECKING:
    from tests.building.slices import Built

WANTED = "CESTA_CONTAINERS"  # set by make containers; "required" where no engine is a failure
NOBODY = "containers were not tested: neither podman nor docker answers; apt-get install podman runc iptables"


@pytest.fixture(scope="session")
def engine() -> Engine:
    """podman or docker."""
    wanted = os.environ.get(WANTED)
    if not wanted:
        pytest.skip('containers were not tested; "make containers" builds and runs the images')
    engine = find_engine()
    reason = why_none_runs(engine) if engine else NOBODY
    if engine and not reason:
        return engine
    if wanted == "required":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def why_none_runs(engine: Engine) -> str:
    """Return why the engine, which answers, runs no container on this machine; "" if it does."""
    try:
        engine.run("run", "--rm", "--publish=127.0.0.1::8080", base(engine, DEBIAN), "true")
    except (AssertionError, LookupError, subprocess.SubprocessError) as error:
        return f"containers were not tested: {engine.program} runs none here: {error}"
    return ""


@pytest.fixture(scope="session")
def cpu_image(engine: Engine) -> str:
    return build_image(engine, "cpu")


@pytest.fixture(scope="session")
def gateway_image(engine: Engine) -> str:
    return build_image(engine, "gateway")


@pytest.fixture
def repository(built: Built, tmp_path: Path) -> Path:
    """A repository with the active release 1 and an equal release 2."""
    folder = shutil.copytree(built.repository, tmp_path / "repository")
    assert publish(built.run, open_repository(str(folder))) == 2
    return folder


@pytest.fixture
def secrets(publisher: None, tmp_path: Path) -> Path:
    """The files that compose mounts as secrets."""
    return make_secrets(tmp_path)


@pytest.fixture(scope="session")
def publisher(state: Path) -> None:
    """The key of this session, which the containers trust."""
    publisher_key()


@pytest.fixture(scope="session")
def kernels(engine: Engine) -> Iterator[str]:
    """The volume of the sampler's compiled kernels: 6 s of work for the first container."""
    with engine.volume() as volume:
        yield volume


@pytest.fixture
def serve(engine: Engine, cpu_image: str, secrets: Path, kernels: str) -> Serve:
    """`serve(repository, *options)`: a context in which the slim image serves the repository."""
    return functools.partial(serving, engine, cpu_image, secrets, kernels)
