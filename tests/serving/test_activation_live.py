"""After a crash a server serves what was promoted in it, whatever a build published meanwhile."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from operations.errors import NotActive
from operations.releases import publish
from operations.releases.activation import activate
from operations.releases.repository import active_release
from operations.releases.stores.store import Repository, open_repository
from tests.building import TOY_SAMPLER
from tests.building.runs import toy_run
from tests.running.door import free_ports
from tests.running.supervised import Supervised

pytestmark = [pytest.mark.triton, pytest.mark.timeout(180)]


def metrics(hr: float) -> dict[str, Any]:
    interval = {"hr_at_10": [hr - 0.01, 1.0], "ndcg_at_10": [hr - 0.01, 1.0]}
    return {"known": {"hr_at_10": hr, "ndcg_at_10": hr, "interval": interval, "n": 9}}


@pytest.fixture
def repository(tmp_path: Path, control_secret: str, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """Release 1 is active; release 2 is as good, release 3 worse."""
    monkeypatch.setattr("operations.records.sampler_code.SAMPLER_CODE", TOY_SAMPLER)
    repository = open_repository(tmp_path / "repository")
    for seed, hr in ((1, 0.2), (2, 0.2), (3, 0.1)):
        publish.publish(toy_run(tmp_path / f"run-{seed}", seed, metrics=metrics(hr)), repository)
    activate(repository, 1)
    return repository


@pytest.fixture
def supervised(repository: Repository) -> Iterator[Supervised]:
    supervised = Supervised(Path(str(repository)))
    yield supervised
    supervised.kill()


def restart(supervised: Supervised) -> int:
    """Kill Triton; the release that its supervisor starts it with."""
    os.kill(supervised.triton, signal.SIGKILL)
    release: int = supervised.event("server restored")["release"]
    return release


def test_a_server_that_is_not_asked_keeps_its_release(supervised: Supervised, repository: Repository) -> None:
    """It does not listen where the build looks for it."""
    with pytest.raises(NotActive, match="a server may serve"):
        activate(repository, 2, f"127.0.0.1:{free_ports(1)[0]}")
    assert restart(supervised) == 1


def test_a_refused_release_is_not_served_after_a_crash(
    supervised: Supervised, repository: Repository
) -> None:
    with pytest.raises(NotActive, match=r"hr_at_10 0\.1000 is below"):
        activate(repository, 3, supervised.addresses["grpc"])
    assert restart(supervised) == 1


def test_a_good_release_is_served_at_once_and_after_a_crash(
    supervised: Supervised, repository: Repository
) -> None:
    """When the server has ended, nobody serves the repository any more."""
    record = activate(repository, 2, supervised.addresses["grpc"])
    assert record["server"] == supervised.addresses["grpc"]
    assert restart(supervised) == 2
    assert supervised.end() == 0
    activate(repository, 1, f"127.0.0.1:{free_ports(1)[0]}")
    assert active_release(repository) == 1
