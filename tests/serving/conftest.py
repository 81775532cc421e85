"""Live embedded servers for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ensemble.reference import Reference
from operations.server.control_secret import make_secret
from operations.server.environment import find_serving_environment
from operations.server.process import Server, ServerError, ServerSettings
from tests.building import TOY_SAMPLER
from tests.running.live import Live, check_canary
from tests.running.processes import READY_S, shared_memory
from tests.running.raw_requests import good_answer

if TYPE_CHECKING:
    from tests.building.slices import Built
    from tests.running.toy_shop import ToyShop

StartServer = Callable[..., Server]


@pytest.fixture(scope="session")
def control_secret(state: Path) -> str:
    """The secret that every server of this session requires from its operator; `ModelControl` finds it."""
    return make_secret()


@pytest.fixture(scope="session")
def start_server(control_secret: str) -> Iterator[StartServer]:
    """`start_server(repository, models=("toy",))`: a ready server on free ports, stopped with the session.

    Keywords are those of `ServerSettings`. A test may stop its server itself.
    """
    try:
        find_serving_environment()
    except ServerError as error:
        pytest.skip(str(error))
    servers: list[Server] = []

    def start(repository: Path | str, **settings: Any) -> Server:
        ports = {"http_port": 0, "grpc_port": 0, "metrics_port": 0}
        usual = {**ports, "drain_s": 10, "control_secret": control_secret}
        server = Server(ServerSettings(repository=repository, **(usual | settings)))
        servers.append(server)
        server.start()
        server.wait_ready(timeout_s=READY_S)
        return server

    yield start
    for server in servers:
        server.stop(grace_s=0)
        assert not shared_memory(server.shm_prefix)


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Path]:
    """The folder of the sampler's compiled kernels: 12 s of work that all servers of the session share, and
    all sessions on what was built before.
    """
    with pytest.MonkeyPatch.context() as patch:
        before = pytestconfig.getoption("--built")
        folder = before.absolute() / "kernels" if before else tmp_path_factory.mktemp("numba")
        patch.setenv("NUMBA_CACHE_DIR", str(folder))
        yield folder


@pytest.fixture(scope="session")
def serve_built(start_server: StartServer, built: Built, compiled: Path) -> Callable[..., Live]:
    """`serve_built(response_cache=0)`: the built release on its own server, ready when a canary passes."""

    def serve(**settings: Any) -> Live:
        server = start_server(built.repository, **settings)
        server.wait_ready(lambda: check_canary(server), timeout_s=READY_S)
        return Live(server, built, Reference.load(built.run))

    return serve


@pytest.fixture(scope="session")
def live(serve_built: Callable[..., Live]) -> Live:
    """The release as shops get it."""
    return serve_built()


@pytest.fixture(scope="session")
def uncached(serve_built: Callable[..., Live]) -> Live:
    """The release without the response cache: every answer is computed, and no entry can be spoilt."""
    return serve_built(response_cache=0)


@pytest.fixture
def shop(tmp_path: Path, start_server: StartServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[ToyShop]:
    """A repository for toy releases. Its server starts when a test first uses it."""
    from tests.running.toy_shop import ToyShop  # not above: it imports torch

    monkeypatch.setattr("operations.records.sampler_code.SAMPLER_CODE", TOY_SAMPLER)
    shop = ToyShop(tmp_path, start_server)
    yield shop
    shop.close()


@pytest.fixture
def still_answering(uncached: Live) -> Iterator[None]:
    """After the test the server answers a good question as before."""
    before = good_answer(uncached)
    yield
    assert good_answer(uncached) == before
