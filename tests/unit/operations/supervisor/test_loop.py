"""What /v1/status and /metrics tell of the loop that retrains, and of the ages of release and data."""

from __future__ import annotations

import json
import threading
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest

from operations.releases.retraining import NAME, EndedRun, Retraining, write_retraining
from operations.releases.stores.store import Repository, open_repository
from operations.supervisor.loop import Ages, Loop
from operations.supervisor.metrics import Metrics
from operations.supervisor.status import Status
from operations.supervisor.watchdog import Health, Watchdog

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
LAST = EndedRun(
    started_at="2026-11-22T03:30:00+00:00",
    ended_at="2026-11-22T05:00:00+00:00",
    outcome="refused",
    exit_code=3,
    sentence="release 8 is published and not promoted",
    release=8,
)
STATE = Retraining(every_s=7 * 86_400, started_at="2026-11-22T03:30:00+00:00", step=None, last=LAST)
MANIFEST = """{"release": 3, "created_at": "2026-11-29T12:00:00+00:00", "contract": {}, "golden": [],
    "digest": "", "files": {}, "data": {"last": "2026-11-28T12:00:00Z"}}"""


@pytest.fixture(params=["folder", "bucket"])
def repository(request: pytest.FixtureRequest, tmp_path: Path) -> Repository:
    return open_repository(tmp_path if request.param == "folder" else f"memory://{uuid.uuid4().hex}")


def read(repository: Repository) -> Loop:
    loop = Loop(repository)
    loop.follow()
    return loop


def test_a_repository_that_nobody_retrains_has_no_loop(repository: Repository) -> None:
    loop = read(repository)
    assert loop.describe(NOW) is None
    assert list(loop.metrics()) == []


def test_status_tells_the_last_run_and_the_next(repository: Repository) -> None:
    """It was due on the 29th at 3:30, which is 32.5 hours ago."""
    write_retraining(repository, STATE)
    assert read(repository).describe(NOW) == {
        "every_s": 604_800,
        "started_at": "2026-11-22T03:30:00+00:00",
        "step": None,
        "last": LAST.json_object(),
        "next_at": "2026-11-29T03:30:00+00:00",
        "overdue_s": 32.5 * 3600,
    }


def test_a_run_under_way_shows_its_step(repository: Repository) -> None:
    write_retraining(repository, STATE.model_copy(update={"step": "watch"}))
    loop = read(repository)
    assert loop.describe(NOW)["step"] == "watch"
    values = {metric.name: metric.samples[0].value for metric in loop.metrics()}
    assert values["cesta_retraining_running"] == 1
    assert values["cesta_retraining_exit_code"] == 3
    due = datetime(2026, 11, 29, 3, 30, tzinfo=UTC)
    assert values["cesta_retraining_next_timestamp_seconds"] == due.timestamp()


def test_a_damaged_file_is_logged_and_the_last_state_stays(repository: Repository) -> None:
    write_retraining(repository, STATE)
    loop = read(repository)
    assert loop.describe(NOW)
    repository.write(NAME, b"{")
    loop.follow()
    assert loop.describe(NOW)["last"]["release"] == 8


def test_the_ages_are_those_of_the_answering_release(tmp_path: Path) -> None:
    """In /v1/status and in /metrics; the manifest has both moments."""
    repository = open_repository(tmp_path)
    repository.write("recommender/3/manifest.json", MANIFEST.encode())
    watchdog = Watchdog(lambda: pytest.fail("a start"), threading.Event(), lambda: 0.0)
    watchdog.health = Health(ready=True, reason="", release=3)
    status, metrics = Status(watchdog, repository), Metrics()
    metrics.add_status(status)
    age = status.ages().describe(NOW)
    assert (age["release_s"], age["data_s"]) == (86_400, 2 * 86_400)
    assert status.describe()["age"]["data_until"] == "2026-11-28T12:00:00+00:00"
    created = metrics.registry.get_sample_value("cesta_release_created_timestamp_seconds")
    assert created == datetime(2026, 11, 29, 12, tzinfo=UTC).timestamp()


def test_a_release_without_moments_has_no_age() -> None:
    assert Ages().describe(NOW)["release_s"] is None
    assert list(Ages().metrics()) == []


@pytest.mark.parametrize(
    "wrong",
    [
        '"started_at": "yesterday"',
        '"started_at": "0001-01-01T00:00+14:00"',
        '"every_s": 1e300',
        '"every_s": NaN',
    ],
)
def test_a_state_that_cannot_be_counted_with_is_no_state(repository: Repository, wrong: str) -> None:
    """Status and metrics go on: an edited file must not hide all other figures."""
    key, value = wrong.split(": ", 1)
    described = {"every_s": 604_800.0, "started_at": STATE.started_at} | {key.strip('"'): None}
    fields = ", ".join(
        f"{json.dumps(k)}: {json.dumps(v) if v is not None else value}" for k, v in described.items()
    )
    repository.write(NAME, f"{{{fields}}}".encode())
    loop = read(repository)
    assert loop.describe(NOW) is None
    assert list(loop.metrics()) == []
