"""The supervisor's HTTP app, on a watchdog whose health the test sets."""

from __future__ import annotations

import json
import re
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

import cesta_client
from operations.releases import history
from operations.releases.history import Action
from operations.releases.stores.store import Repository, open_repository
from operations.server.version import MINIMUM, TritonVersion
from operations.shipped.commit import find_commit
from operations.supervisor.app import make_app
from operations.supervisor.metrics import Metrics
from operations.supervisor.status import Status
from operations.supervisor.watchdog import Health, Watchdog
from tests import ROOT

READY = Health(ready=True, reason="", release=3, since_s=40.0, checked_s=100.0, answered_s=100.0)

MANIFEST = json.dumps(
    {
        "release": 3,
        "contract": {},
        "metrics": {"known": {"hr_at_10": 0.2}},
        "golden": [],
        "digest": "",
        "files": {},
    }
)


class Supervisor:
    """The app at the 100th second of its clock."""

    def __init__(self, repository: Repository) -> None:
        self.now = 100.0
        self.watchdog = Watchdog(lambda: pytest.fail("a start"), threading.Event(), lambda: self.now)
        self.metrics = Metrics()
        self.status = Status(self.watchdog, repository)
        self.metrics.add_status(self.status)
        app = make_app(self.watchdog, self.status, self.metrics)
        self.client = TestClient(app, raise_server_exceptions=False)

    def get(self, path: str, **headers: str) -> Any:
        return self.client.get(path, headers=headers)

    def body(self, path: str) -> Any:
        return self.get(path).json()


@pytest.fixture
def supervisor(tmp_path: Path) -> Supervisor:
    return Supervisor(open_repository(tmp_path))


def test_the_process_lives_before_the_server_is_ready(supervisor: Supervisor) -> None:
    assert supervisor.get("/healthz").status_code == 200
    refused = supervisor.get("/readyz")
    assert (refused.status_code, refused.json()["error"]) == (503, "the server is starting")


def test_ready_is_what_the_last_canary_said(supervisor: Supervisor) -> None:
    """The answer is its release if it was answered, or else the reason."""
    supervisor.watchdog.health = READY
    assert supervisor.body("/readyz") == {"ready": True, "release": 3}
    supervisor.watchdog.health = Health(ready=False, reason="no answer within 1.2 s", release=3)
    refused = supervisor.get("/readyz")
    assert (refused.status_code, refused.json()["error"]) == (503, "no answer within 1.2 s")


def test_a_result_older_than_a_second_is_not_passed_on(supervisor: Supervisor) -> None:
    """A caller waits for the canary that is under way, and gets its result."""
    supervisor.watchdog.health = READY
    supervisor.now = 101.1
    health = Health(ready=False, reason="the stub is not healthy", release=3, checked_s=101.1)
    later = threading.Timer(0.1, lambda: setattr(supervisor.watchdog, "health", health))
    later.start()
    assert supervisor.get("/readyz").status_code == 503
    later.join()


def test_status_tells_since_when_a_release_is_active(supervisor: Supervisor, tmp_path: Path) -> None:
    """The repository's history has the time. A failed promotion after it changes nothing, but is counted."""
    supervisor.watchdog.health = READY
    (tmp_path / "recommender" / "3").mkdir(parents=True)
    (tmp_path / "recommender" / "3" / "manifest.json").write_text(MANIFEST)
    repository = open_repository(tmp_path)
    promoted = history.append(repository, Action.PROMOTE, 3)
    history.append(repository, Action.PROMOTE, 4, failed="golden requests", why="another score")
    status = supervisor.body("/v1/status")
    assert (status["release"], status["since"], status["ready"]) == (3, promoted["at"], True)
    assert status["metrics"] == {"known": {"hr_at_10": 0.2}}
    assert status["restarts"] == 0
    assert "cesta_promotions_failed_total 1.0" in supervisor.get("/metrics").text


def test_status_tells_the_version_and_the_commit(supervisor: Supervisor) -> None:
    told = supervisor.body("/v1/status")["cesta"]
    assert told == {"version": cesta_client.__version__, "commit": find_commit()}


def test_a_release_of_an_object_store_is_looked_up_as_soon_as_it_answers() -> None:
    """The lookup does not wait for the next look, which is 15 s away on a clock that stands still here."""
    repository = open_repository(f"memory://{uuid.uuid4().hex}")
    repository.write("recommender/3/manifest.json", MANIFEST.encode())
    supervisor, ending = Supervisor(repository), threading.Event()
    following = threading.Thread(target=supervisor.status.follow, args=(ending,))
    following.start()
    try:
        assert supervisor.body("/v1/status")["metrics"] is None
        supervisor.watchdog.health = READY
        until = time.monotonic() + 60
        while (metrics := supervisor.body("/v1/status")["metrics"]) is None:
            assert time.monotonic() < until
            time.sleep(0.01)
    finally:
        ending.set()
        following.join()
    assert metrics == {"known": {"hr_at_10": 0.2}}


def test_the_version_of_tritonserver_is_told(supervisor: Supervisor) -> None:
    """Before the first start it is unknown, and has no metric."""
    assert supervisor.body("/v1/status")["triton"] is None
    assert "cesta_triton" not in supervisor.get("/metrics").text
    supervisor.status.note_start(None, TritonVersion("2.51.0"))
    told = {"version": "2.51.0", "minimum": MINIMUM, "outdated": True, "exposed": False}
    assert supervisor.body("/v1/status")["triton"] == told
    lines = supervisor.get("/metrics").text.splitlines()
    info = f'cesta_triton_info{{minimum="{MINIMUM}",version="2.51.0"}} 1.0'
    assert {info, "cesta_triton_outdated 1.0", "cesta_triton_exposed 0.0"} < {*lines}


def test_metrics_tell_canaries_restarts_and_health(supervisor: Supervisor) -> None:
    supervisor.watchdog.health = READY
    supervisor.watchdog.restarts["late"] += 2
    supervisor.metrics.observe(0.004)
    text = supervisor.get("/metrics").text
    for line in (
        'cesta_canary_seconds_bucket{le="0.005"} 1.0',
        'cesta_restarts_total{trouble="late"} 2.0',
        "cesta_seconds_since_healthy 0.0",
        "cesta_active_release 3.0",
        "cesta_ready 1.0",
    ):
        assert line in text.splitlines()
    supervisor.watchdog.health = Health(ready=False, reason="hung", answered_s=93.0, release=3)
    assert "cesta_seconds_since_healthy 7.0" in supervisor.get("/metrics").text


def test_every_figure_is_explained(supervisor: Supervisor) -> None:
    """This includes the gateway's metrics, which the supervisor passes on."""
    types = re.findall(r"^# TYPE (\S+)", supervisor.get("/metrics").text, re.MULTILINE)
    names = [name for name in types if not name.endswith("_created")]
    script = (ROOT / "deploy" / "gateway" / "lua" / "metrics.lua").read_text()
    counted = re.findall(r'^  (\w+) = \{"(counter|gauge|histogram)"', script, re.MULTILINE)
    names += [f"cesta_gateway_{name}{'_total' * (kind == 'counter')}" for name, kind in counted]
    process = "cesta_supervisor_process_"
    text = (ROOT / "docs" / "observability.md").read_text()
    explained = {f"`{name.removeprefix(process)}`" for name in names} | {f"`{process}…`"}
    assert len(names) > 18
    assert [name for name in sorted(explained) if name not in text] == []


@pytest.mark.parametrize(("path", "code"), [("/nothing", 404), ("/readyz", 503)])
def test_errors_are_json_with_the_caller_s_id(supervisor: Supervisor, path: str, code: int) -> None:
    """An id that does not fit a log line is replaced by a new one."""
    refused = supervisor.get(path, **{"X-Request-ID": "shop-7"})
    assert (refused.status_code, refused.json()["request_id"]) == (code, "shop-7")
    assert refused.headers["X-Request-ID"] == "shop-7"
    assert supervisor.get(path, **{"X-Request-ID": "a b" * 99}).json()["request_id"].isalnum()
    assert supervisor.client.post("/healthz").status_code == 405


def test_a_failure_of_its_own_is_json_too(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Metrics, "text", lambda self: 1 / 0)
    failed = supervisor.get("/metrics", **{"X-Request-ID": "shop-7"})
    assert (failed.status_code, failed.json()["request_id"]) == (500, "shop-7")
