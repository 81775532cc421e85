"""A gateway in front of a real Triton that serves two toy releases, the second as a canary."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator

import pytest

from operations.releases.models.configs import CANARY
from operations.server.process import Server, ServerSettings
from tests.building import TOY_SAMPLER
from tests.running import needs
from tests.running.door import Door, OpenDoor, Supervisor, open_door
from tests.running.fake_triton import FakeTriton, fake_triton
from tests.running.processes import READY_S


@pytest.fixture(scope="package", autouse=True)
def patient_scrapes() -> Iterator[None]:
    """A gateway on a busy machine may need more than a second for its metrics."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("operations.gateway.control._METRICS_S", 5)
        yield


@pytest.fixture(scope="package")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`recommender` answers with release 2, `recommender_canary` with release 1."""
    from operations.releases import publish
    from operations.releases.canary import start_canary
    from operations.releases.promote import promote
    from operations.releases.stores.store import open_repository
    from tests.building.runs import toy_run  # not above: it imports torch

    needs.a_tritonserver()
    root = tmp_path_factory.mktemp("toys")
    repository = open_repository(root / "repository")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("operations.records.sampler_code.SAMPLER_CODE", TOY_SAMPLER)
        for seed in (1, 2):
            promote(repository, publish.publish(toy_run(root / f"run-{seed}", seed), repository))
    start_canary(repository, 1, 5)
    ports = {"http_port": 0, "grpc_port": 0, "metrics_port": 0}
    server = Server(
        ServerSettings(repository=str(repository), models=("recommender", CANARY), drain_s=10, **ports)
    )
    with server:
        server.wait_ready(timeout_s=READY_S)
        yield server
        server.stop(grace_s=0)


@pytest.fixture(scope="package")
def supervisor() -> Iterator[Supervisor]:
    with Supervisor() as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


@contextlib.contextmanager
def opening_gateways(factory: pytest.TempPathFactory, supervisor: Supervisor) -> Iterator[OpenDoor]:
    """Yield a function that opens gateways; they are stopped after the block."""
    doors: list[Door] = []

    def start(**settings: object) -> Door:
        behind = {"supervisor": supervisor.address} | settings
        with needs.debian_packages():
            doors.append(open_door(factory.mktemp("gateway"), **behind))
        return doors[-1]

    yield start
    for door in doors:
        door.gateway.stop()
        log = (door.settings.run / "error.log").read_text(errors="replace")
        assert not re.search(r"exited on signal (?!9\b)", log)  # a worker that crashed; tests kill with 9


@pytest.fixture(scope="module")
def open_gateway(tmp_path_factory: pytest.TempPathFactory, supervisor: Supervisor) -> Iterator[OpenDoor]:
    """`open_gateway(triton_http=…)`: another gateway, stopped with the module; keywords: GatewaySettings.

    Each gateway asks the supervisor for its health all the time, so none may outlive its tests.
    """
    with opening_gateways(tmp_path_factory, supervisor) as start:
        yield start


@pytest.fixture(scope="package")
def door(tmp_path_factory: pytest.TempPathFactory, supervisor: Supervisor, triton: Server) -> Iterator[Door]:
    """The gateway that tests share; tests that change its files restore them."""
    with opening_gateways(tmp_path_factory, supervisor) as start:
        yield start(triton_http=triton.http)


@pytest.fixture(scope="module")
def own_door(open_gateway: OpenDoor, triton: Server) -> Door:
    """A gateway of this module, whose files its tests change."""
    return open_gateway(triton_http=triton.http)


@pytest.fixture
def fake() -> Iterator[FakeTriton]:
    """A server in Triton's place, for gateways of `open_gateway`."""
    with fake_triton() as server:
        yield server
