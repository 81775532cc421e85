"""What status, metrics, history and list say about a fallback, on a repository without a server."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from operations.commands.release import app
from operations.releases import history, publish
from operations.releases.history import Action
from operations.releases.promote import promote, roll_back
from operations.releases.repository import active_release
from operations.releases.stores.store import Repository, open_repository
from operations.supervisor.fallback import Fallback, find_fallback, record_start
from operations.supervisor.metrics import Metrics
from operations.supervisor.status import Status
from operations.supervisor.watchdog import Health, Watchdog
from tests.building.runs import make_run


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Release 2 is active, release 1 the previous one, release 3 published."""
    repository = open_repository(tmp_path / "repository")
    for seed in (1, 2, 3):
        publish.publish(make_run(tmp_path / f"run-{seed}", seed), repository)
    promote(repository, 1)
    promote(repository, 2)
    return repository


def fall_back(repository: Repository) -> Fallback:
    fallback = find_fallback(repository, "release 2 is damaged")
    assert fallback is not None
    record_start(repository, fallback.release, fallback)
    return fallback


def test_the_previous_release_is_the_way_back(repository: Repository) -> None:
    fallback = fall_back(repository)
    assert (fallback.release, fallback.active, fallback.reason) == (1, 2, "release 2 is damaged")


def test_a_damaged_config_of_the_ensemble_leaves_the_history_to_tell(repository: Repository) -> None:
    """The last release that was promoted answers, and a promotion writes the config anew."""
    repository.write("recommender/config.pbtxt", b"name: {")
    fallback = find_fallback(repository, "recommender/config.pbtxt is damaged")
    assert fallback is not None
    assert (fallback.release, fallback.active) == (2, None)
    promote(repository, 2)
    assert (active_release(repository), history.previous(repository)) == (2, 1)


def test_without_a_previous_release_there_is_none(tmp_path: Path) -> None:
    repository = open_repository(tmp_path / "repository")
    publish.publish(make_run(tmp_path / "run"), repository)
    promote(repository, 1)
    assert find_fallback(repository, "release 1 is damaged") is None


def test_restarts_for_the_same_reason_have_one_record(repository: Repository) -> None:
    """A start that can serve the active release ends it, once."""
    for _ in range(2):
        fall_back(repository)
    for _ in range(2):
        record_start(repository, 2, None)
    whats = [record["what"] for record in history.read(repository)]
    assert whats == [Action.PROMOTE, Action.PROMOTE, Action.FALLBACK, Action.END_FALLBACK]
    assert history.line_of_succession(repository) == [1, 2]


def test_a_record_that_cannot_be_written_stops_no_server(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(history, "append", full_disk)
    fall_back(repository)
    assert history.fallback(history.read(repository)) is None


@pytest.mark.parametrize("end", ["promote", "rollback", "another release answers", "start"])
def test_status_and_metric_show_a_fallback_until_it_ends(repository: Repository, end: str) -> None:
    watchdog = Watchdog(lambda: pytest.fail("a start"), threading.Event(), lambda: 0.0)
    status, metrics = Status(watchdog, repository), Metrics()
    metrics.add_status(status)
    watchdog.health = Health(ready=True, reason="", release=1)
    assert status.describe()["fallback"] is None
    status.note_start(fall_back(repository))
    assert status.describe()["fallback"] == {"active": 2, "reason": "release 2 is damaged"}
    assert b"cesta_fallback 1.0" in metrics.text()
    match end:
        case "promote":
            promote(repository, 3)
        case "rollback":
            roll_back(repository)
        case "another release answers":
            watchdog.health = Health(ready=True, reason="", release=2)
        case "start":
            status.note_start(None)
    assert status.describe()["fallback"] is None
    assert b"cesta_fallback 0.0" in metrics.text()


def test_the_list_shows_which_release_answers(repository: Repository) -> None:
    fall_back(repository)
    told = CliRunner().invoke(app, ["list", "--repository", str(repository)], env={"COLUMNS": "120"}).stdout
    rows = {line.split("│")[1].strip(): line for line in told.splitlines() if line.startswith("│")}
    assert "previous, answers instead" in rows["1"]
    assert "active, cannot be served" in rows["2"]
    roll_back(repository)
    told = CliRunner().invoke(app, ["list", "--repository", str(repository)], env={"COLUMNS": "120"}).stdout
    assert "cannot be served" not in told
