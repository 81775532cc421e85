"""`cesta serve` under every kind of kill: noticed soon, and the promoted release is back.

On an idle machine it is noticed within 5 s, and back within 20 s. The bounds here are those of a busy one.
pytest tests/serving/test_supervised.py -s   prints the seconds of each.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tritonclient.grpc as triton

from loadtests.faults.broken_releases import replace_file
from operations.records.contract import SAMPLER
from operations.releases import publish
from operations.releases.model_control import ModelControl
from operations.releases.promote import promote, roll_back
from operations.releases.stores.folder import FolderRepository
from operations.releases.stores.store import open_repository
from operations.server.settings import ServerSettings, claim_ports
from operations.supervisor import embedded
from operations.supervisor.watchdog import Stopped
from tests.building import TOY_SAMPLER
from tests.building.runs import toy_run
from tests.running.processes import children, command, shared_memory
from tests.running.supervised import Event, Supervised

pytestmark = [pytest.mark.triton, pytest.mark.alone, pytest.mark.timeout(300)]

NOTICED_S, RESTORED_S = 20, 60
NO_TABLE = b'raise RuntimeError("no such table")\n'

Kill = tuple[str, Callable[[int], int], signal.Signals, str]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Releases 1 and 2. A rollback to 1 makes the older one active."""
    root = tmp_path_factory.mktemp("watched")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("operations.records.sampler_code.SAMPLER_CODE", TOY_SAMPLER)
        for seed in (1, 2):
            repository = open_repository(root / "repository")
            promote(repository, publish.publish(toy_run(root / f"run-{seed}", seed), repository))
    roll_back(open_repository(root / "repository"))
    return root / "repository"


@pytest.fixture(scope="module")
def supervised(published: Path, start_server: object) -> Iterator[Supervised]:
    serving = Supervised(published)
    yield serving
    serving.kill()


@pytest.fixture
def serve(start_server: object) -> Iterator[Callable[..., Supervised]]:
    """Start a server for this test, which ends it."""
    started: list[Supervised] = []

    def start(repository: Path, **options: Any) -> Supervised:
        started.append(Supervised(repository, **options))
        return started[-1]

    yield start
    for serving in started:
        serving.kill()


def of(model: str) -> Callable[[int], int]:
    """The process that runs a part of the active release, which is 1."""

    def stub(triton: int) -> int:
        for pid in children(triton):
            if f"/{model}/1/" in " ".join(command(pid)):
                return pid
        raise AssertionError(f"no process of {model} 1")

    return stub


# Two each of one `cesta serve`: it pauses ever longer before a third start and a fourth.
KILLS = [
    [
        ("the sampler's process killed", of(SAMPLER), signal.SIGKILL, "server fails"),
        ("tritonserver stopped", lambda triton: triton, signal.SIGSTOP, "server hangs"),
    ],
    [
        ("tritonserver killed", lambda triton: triton, signal.SIGKILL, "server ended"),
        (
            "the sampler's process stopped",
            of(SAMPLER),
            signal.SIGSTOP,
            "server fails",
        ),
    ],
]


@pytest.mark.parametrize("kills", KILLS, ids=[" and ".join(kill[0] for kill in kills) for kills in KILLS])
def test_a_lost_server_is_noticed_and_restored(
    serve: Callable[..., Supervised], published: Path, kills: list[Kill]
) -> None:
    """The app answers not ready, then ready. The log has the trouble, its reason and its duration. The
    promoted release is back.
    """
    supervised = serve(published)
    for restarts, kill in enumerate(kills, start=1):
        supervised.look()
        before = supervised.processes[1:]
        lost, restored = check_restored(supervised, *kill)
        assert (lost["release"], restored["release"], restored["restarts"]) == (1, 1, restarts)
        assert [process.ended() for process in before] == [True] * len(before)


def check_restored(
    supervised: Supervised, what: str, which: Callable[[int], int], how: signal.Signals, event: str
) -> tuple[Event, Event]:
    os.kill(which(supervised.triton), how)
    began = time.monotonic()
    lost = supervised.event("server fails", "server hangs", "server ended")
    noticed_s = time.monotonic() - began
    code, body = supervised.ask("/readyz")
    restored = supervised.event("server restored")
    restored_s = time.monotonic() - began
    print(f"| {what} | {noticed_s:.1f} | {restored_s:.1f} | {lost['reason']}")
    assert lost["event"] == event
    assert (code, bool(body["error"] and body["request_id"])) == (503, True)
    assert supervised.ask("/readyz") == (200, {"ready": True, "release": 1})
    assert noticed_s < NOTICED_S
    assert restored_s < RESTORED_S
    assert restored["down_s"] < restored_s + 5  # counted from the last canary that was answered
    return lost, restored


def test_a_promotion_is_no_trouble(supervised: Supervised, published: Path) -> None:
    """Two releases are switched under the watchdog: it logs which one answers now, and starts nothing."""
    assert supervised.event("all loaded")["releases"] == [1, 2]
    restarts = supervised.ask("/v1/status")[1]["restarts"]
    with ModelControl(supervised.addresses["grpc"]) as control:
        promote(open_repository(published), 2, control)
        assert (supervised.event("release switched")["release"], supervised.ask("/readyz")[0]) == (2, 200)
        roll_back(open_repository(published), control)
    event = supervised.event("release switched")
    assert (event["release"], event["before"]) == (1, 2)
    code, status = supervised.ask("/v1/status")
    assert (code, status["ready"], status["release"], status["restarts"]) == (200, True, 1, restarts)
    figures = supervised.ask("/metrics")[1]
    assert "cesta_active_release 1.0" in figures
    assert (
        f'cesta_restarts_total{{trouble="exited"}} {float(status["restarts_by_trouble"]["exited"])}'
        in figures
    )


def test_the_supervisor_ends_in_the_middle_of_a_restart(supervised: Supervised) -> None:
    """It is asked to stop while the next server starts. It soon exits with 0, leaves nothing, and every line
    is JSON.
    """
    supervised.look()
    os.kill(of(SAMPLER)(supervised.triton), signal.SIGKILL)
    assert SAMPLER in supervised.event("server fails")["reason"]
    supervised.look_again()
    began = time.monotonic()
    assert supervised.end() == 0
    assert time.monotonic() - began < 20
    assert [process.ended() for process in supervised.processes] == [True] * len(supervised.processes)
    assert not shared_memory(supervised.shm_prefix)
    assert not any(runtime.exists() for runtime in supervised.runtimes)
    assert supervised.not_events == []


def test_a_broken_previous_release_does_not_keep_the_active_one_from_serving(
    serve: Callable[..., Supervised], published: Path, tmp_path: Path
) -> None:
    """The log has its number and Triton's words. The serving process never sees it."""
    repository = shutil.copytree(published, tmp_path / "repository")
    replace_file(FolderRepository(repository), f"{SAMPLER}/2/model.py", NO_TABLE)
    serving = serve(repository)
    event = serving.event("release not loaded")
    assert event["release"] == 2
    assert "no such table" in event["reason"]
    assert serving.ask("/readyz") == (200, {"ready": True, "release": 1})
    assert serving.event("all loaded")["releases"] == [1]
    with ModelControl(serving.addresses["grpc"]) as control:
        assert control.states(SAMPLER) == {1: "READY"}
    with triton.InferenceServerClient(serving.addresses["grpc"]) as client:
        assert client.is_server_ready()


def test_what_a_killed_supervisor_leaves_is_swept_by_the_next(
    serve: Callable[..., Supervised], published: Path
) -> None:
    """The supervisor gets kill -9, and its server hangs, so that it does not end by itself. The next start
    kills that server and its stubs, removes their memory and files and no others, and serves.
    """
    killed = serve(published)
    os.kill(killed.triton, signal.SIGSTOP)
    killed.process.kill()
    killed.process.wait()
    assert killed.runtime.exists()

    following = serve(published)
    assert [process.ended() for process in killed.processes] == [True] * len(killed.processes)
    assert not shared_memory(killed.shm_prefix)
    assert not killed.runtime.exists()
    assert following.runtime.exists()
    assert following.ask("/readyz") == (200, {"ready": True, "release": 1})


def test_a_start_that_fails_lets_go_of_its_connections(
    published: Path, start_server: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The supervisor tries again every few seconds, each time with connections of its own."""
    made: list[str] = []
    held: list[object] = []

    def counted(kind: Any) -> type:
        class Counted(kind):
            def __init__(self, *values: object) -> None:
                super().__init__(*values)
                made.append(kind.__name__)
                held.append(self)

            def close(self) -> None:
                super().close()
                held.remove(self)

        return Counted

    for name in ("ModelControl", "Canary"):
        monkeypatch.setattr(embedded, name, counted(getattr(embedded, name)))
    ending = threading.Event()
    ending.set()
    settings = claim_ports(ServerSettings(repository=published, http_port=0, grpc_port=0, metrics_port=0))
    with pytest.raises(Stopped):
        embedded.open_server(
            replace(settings, models=()), open_repository(published), ending, lambda line: None
        )
    assert made == ["ModelControl", "Canary"]
    assert held == []
