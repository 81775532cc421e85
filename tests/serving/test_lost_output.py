"""`cesta serve` whose output cannot be written, as on a full disk: lines are lost, and no requests."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from urllib.error import URLError

import pytest

from cesta_client import Recommender
from operations.releases.promote import promote
from operations.releases.publish import publish
from operations.releases.stores.store import open_repository
from operations.server.settings import ServerSettings, claim_ports
from tests.building import TOY_SAMPLER
from tests.building.runs import toy_run
from tests.running.supervised import CESTA, DIRECT

pytestmark = [pytest.mark.triton, pytest.mark.timeout(120)]


@pytest.fixture
def repository(tmp_path: Path, start_server: object) -> Path:
    """One toy release, promoted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("operations.records.sampler_code.SAMPLER_CODE", TOY_SAMPLER)
        repository = open_repository(tmp_path / "repository")
        promote(repository, publish(toy_run(tmp_path / "run", 1), repository))
    return tmp_path / "repository"


def await_ready(supervisor: str, serving: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while True:
        assert serving.poll() is None
        assert time.monotonic() < deadline
        with suppress(URLError, ConnectionError), DIRECT.open(f"http://{supervisor}/readyz", timeout=30):
            return
        time.sleep(0.05)


def test_a_server_that_cannot_log_answers_and_ends_with_0(repository: Path) -> None:
    claimed = claim_ports(ServerSettings(repository=repository, http_port=0, grpc_port=0, metrics_port=0))
    (grpc, http, supervisor) = claimed.grpc_port, claimed.http_port, claimed.metrics_port
    ports = [
        f"--grpc-port={grpc}",
        f"--http-port={http}",
        f"--supervisor-port={supervisor}",
        "--metrics-port=0",
    ]
    command = [*CESTA, "serve", f"--repository={repository}", *ports]
    with open("/dev/full", "wb") as full:  # noqa: PTH123 - a device
        serving = subprocess.Popen(
            command, env=os.environ | {"PYTHONUNBUFFERED": ""}, stdout=full, stderr=full
        )
    try:
        await_ready(f"127.0.0.1:{supervisor}", serving)
        with Recommender(f"127.0.0.1:{grpc}", protocol="grpc", timeout_s=10) as shop:
            for _ in range(20):
                assert shop.recommend(["i1"]).release == 1
        serving.send_signal(signal.SIGTERM)
        assert serving.wait(30) == 0
    finally:
        serving.kill()
        serving.wait()
