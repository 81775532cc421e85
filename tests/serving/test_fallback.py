"""`cesta serve` when the active release is broken: the one before it answers, and everything says so."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loadtests.faults.broken_releases import exits_at_load, raises_at_load
from operations.errors import CestaError
from operations.records.contract import ENSEMBLE, SAMPLER
from operations.releases import history, publish
from operations.releases.canary import start_canary, stop_canary
from operations.releases.history import Action
from operations.releases.model_control import ModelControl
from operations.releases.models.configs import CANARY, canary_on_disk
from operations.releases.promote import promote, roll_back
from operations.releases.repository import active_release, manifest_place
from operations.releases.signatures.signature import NAME as SIGNATURES
from operations.releases.stores.folder import FolderRepository
from operations.server.process import Server
from tests.building import TOY_SAMPLER
from tests.building.runs import toy_run
from tests.running.supervised import Supervised

pytestmark = [pytest.mark.triton, pytest.mark.timeout(240)]

Damage = Callable[[FolderRepository], None]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Release 2 is active, release 1 the previous one."""
    root = tmp_path_factory.mktemp("falling")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("operations.records.sampler_code.SAMPLER_CODE", TOY_SAMPLER)
        repository = FolderRepository(root / "repository")
        for seed in (1, 2):
            promote(repository, publish.publish(toy_run(root / f"run-{seed}", seed), repository))
    return repository.root


@pytest.fixture
def repository(published: Path, tmp_path: Path) -> FolderRepository:
    return FolderRepository(shutil.copytree(published, tmp_path / "repository"))


@pytest.fixture
def serve(start_server: Callable[..., Server]) -> Iterator[Callable[..., Supervised]]:
    started: list[Supervised] = []

    def start(repository: FolderRepository, *options: str, wait: bool = True) -> Supervised:
        started.append(Supervised(repository.root, *options, wait=wait))
        return started[-1]

    yield start
    for serving in started:
        serving.kill()


def test_a_release_named_from_outside_is_served_and_stays(
    serve: Callable[..., Supervised], repository: FolderRepository
) -> None:
    """Release 2 is active, and release 1 was named. Commands on the repository do not reach this server,
    which writes nothing there. A release that cannot be served ends the start: no other one is wanted.
    """
    before = history.read(repository)
    serving = serve(repository, "--release=1")
    assert serving.ask("/readyz") == (200, {"ready": True, "release": 1})
    assert serving.ask("/v1/status")[1]["pinned"] == 1
    refusal = pytest.raises(CestaError, match=r"does not serve .*repository; give --address")
    with ModelControl(serving.addresses["grpc"]) as control, refusal:
        promote(repository, 2, control)
    assert serving.ask("/readyz") == (200, {"ready": True, "release": 1})
    assert [record for record in history.read(repository) if "failed" not in record] == before
    assert serving.end() == 0

    damage_an_array(repository)
    refused = serve(repository, "--release=2", wait=False)
    assert refused.process.wait(60) == 1
    unknown = serve(repository, "--release=7", wait=False)
    assert unknown.process.wait(60) == 1


def an_array(repository: FolderRepository) -> Path:
    return repository / SAMPLER / "2" / "arrays" / "sizes.npy"


def damage_an_array(repository: FolderRepository) -> None:
    path = an_array(repository)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def distrust(repository: FolderRepository) -> None:
    """The signature of release 2 is gone, as if its publisher were no longer trusted."""
    signatures = repository / SIGNATURES
    signatures.write_text(signatures.read_text().splitlines()[0] + "\n")


def damage_the_manifest(repository: FolderRepository) -> None:
    manifest_place(repository, 2).write_text("{")


def damage_the_ensembles_config(repository: FolderRepository) -> None:
    (repository / ENSEMBLE / "config.pbtxt").write_text("name: {")


def garble_the_ensembles_config(repository: FolderRepository) -> None:
    (repository / ENSEMBLE / "config.pbtxt").write_bytes(b"\xff\xfe")


def lose_the_ensembles_config(repository: FolderRepository) -> None:
    (repository / ENSEMBLE / "config.pbtxt").unlink()


def damage_the_history_too(repository: FolderRepository) -> None:
    """Lines that are no records stand around those that are."""
    path = repository / history.NAME
    path.write_bytes(b"\xff\n{}\n" + path.read_bytes() + b'{"what": "promote"}\n')
    damage_an_array(repository)


DAMAGES: dict[Damage, str] = {
    damage_an_array: "sizes.npy is not what the manifest lists",
    distrust: "is not signed",
    damage_the_manifest: "manifest.json",
    damage_the_history_too: "sizes.npy is not what the manifest lists",
    lambda repository: raises_at_load(repository, 2): "no such table",
    lambda repository: exits_at_load(repository, 2): "release 2 cannot be served",
}


@pytest.mark.parametrize(("damage", "reason"), DAMAGES.items(), ids=range(len(DAMAGES)))
def test_the_previous_release_answers_for_a_broken_active_one(
    serve: Callable[..., Supervised], repository: FolderRepository, damage: Damage, reason: str
) -> None:
    """Status, metric, log and history name both releases and the reason. The active one stays active."""
    damage(repository)
    serving = serve(repository)
    event = serving.event("active release not served")
    assert (event["active"], event["instead"]) == (2, 1)
    assert reason in event["reason"]
    serving.event("all loaded")
    assert serving.ask("/readyz") == (200, {"ready": True, "release": 1})
    status = serving.ask("/v1/status")[1]
    assert status["fallback"]["active"] == 2
    assert reason in status["fallback"]["reason"]
    assert "cesta_fallback 1.0" in serving.ask("/metrics")[1]
    record = history.read(repository)[-1]
    assert (record["what"], record["release"], record["before"]) == (Action.FALLBACK, 1, 2)
    assert (active_release(repository), history.previous(repository)) == (2, 1)


def test_a_lost_server_comes_back_with_the_previous_release_until_the_active_one_verifies(
    serve: Callable[..., Supervised], repository: FolderRepository
) -> None:
    """An array is damaged while the server runs, and the server dies. Once the array is restored, the next
    start serves the active release, and records that.
    """
    serving, good = serve(repository), an_array(repository).read_bytes()
    serving.event("all loaded")
    assert serving.ask("/v1/status")[1]["fallback"] is None
    damage_an_array(repository)
    os.kill(serving.triton, signal.SIGKILL)
    assert serving.event("server restored")["release"] == 1
    serving.event("all loaded")
    an_array(repository).write_bytes(good)
    serving.look()
    os.kill(serving.triton, signal.SIGKILL)
    assert serving.event("server restored")["release"] == 2
    serving.event("all loaded")
    assert serving.ask("/v1/status")[1]["fallback"] is None
    assert "cesta_fallback 0.0" in serving.ask("/metrics")[1]
    whats = [record["what"] for record in history.read(repository)]
    assert whats == [Action.PROMOTE, Action.PROMOTE, Action.FALLBACK, Action.END_FALLBACK]


@pytest.mark.parametrize("change", ["rollback", "promote"])
def test_a_change_of_the_active_release_ends_a_fallback(
    serve: Callable[..., Supervised],
    repository: FolderRepository,
    tmp_path: Path,
    change: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A rollback makes the release that answers the active one; a promotion switches to another."""
    damage_an_array(repository)
    serving = serve(repository)
    serving.event("all loaded")
    with ModelControl(serving.addresses["grpc"]) as control:
        if change == "rollback":
            assert roll_back(repository, control)["release"] == 1
            assert control.states(SAMPLER) == {1: "READY"}  # the damaged one is not loaded as the previous
        else:
            monkeypatch.setattr("operations.records.sampler_code.SAMPLER_CODE", TOY_SAMPLER)
            three = publish.publish(toy_run(tmp_path / "run", 3), repository)
            assert promote(repository, three, control)["before"] == 1
            assert serving.event("release switched")["release"] == three
    assert serving.ask("/v1/status")[1]["fallback"] is None
    assert history.fallback(history.read(repository)) is None


def test_two_broken_releases_are_both_named(
    serve: Callable[..., Supervised], repository: FolderRepository
) -> None:
    """The first start ends with exit code 1 and one sentence."""
    damage_an_array(repository)
    raises_at_load(repository, 1)
    serving = serve(repository, wait=False)
    assert serving.process.wait(60) == 1
    serving.kill()
    sentence = " ".join(serving.not_events)
    assert sentence.startswith("release 2 cannot be served: ")
    assert "sizes.npy is not what the manifest lists" in sentence
    assert "; and release 1 cannot be served: " in sentence
    assert "no such table" in sentence


@pytest.mark.parametrize(
    "damage", [damage_the_ensembles_config, garble_the_ensembles_config, lose_the_ensembles_config]
)
def test_a_damaged_config_of_the_ensemble_is_made_anew(
    serve: Callable[..., Supervised], repository: FolderRepository, damage: Damage
) -> None:
    """Only the history knows the active release. It answers, and a promotion of it ends the fallback."""
    damage(repository)
    serving = serve(repository)
    assert serving.ask("/readyz") == (200, {"ready": True, "release": 2})
    reason = serving.ask("/v1/status")[1]["fallback"]["reason"]
    assert "config.pbtxt" in reason or "was promoted" in reason
    serving.event("all loaded")
    with ModelControl(serving.addresses["grpc"]) as control:
        promote(repository, 2, control)
    assert (active_release(repository), history.previous(repository)) == (2, 1)
    assert serving.ask("/v1/status")[1]["fallback"] is None


def test_a_canary_release_is_ended_during_a_fallback(
    serve: Callable[..., Supervised],
    repository: FolderRepository,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server serves another release than the active one. A bad canary release must end all the same."""
    monkeypatch.setattr("operations.records.sampler_code.SAMPLER_CODE", TOY_SAMPLER)
    three = publish.publish(toy_run(tmp_path / "run", 3), repository)
    start_canary(repository, three, 50.0)
    damage_an_array(repository)
    serving = serve(repository)
    serving.event("all loaded")
    with ModelControl(serving.addresses["grpc"]) as control:
        assert control.ready(CANARY) == {three}
        stop_canary(repository, three, control)
        assert control.ready(CANARY) == set()
    assert serving.ask("/readyz") == (200, {"ready": True, "release": 1})
    assert (active_release(repository), canary_on_disk(repository)) == (2, None)
