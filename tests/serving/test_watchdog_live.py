"""`cesta serve` under every kind of kill: noticed within 5 s, the promoted release back within 20 s.

pytest tests/serving/test_watchdog.py -s   prints the seconds of each.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import children, command, shared_memory
from supervised import Supervised

from ensemble.runtime_folder import sweep
from export_scripts import publish
from export_scripts.contract import SAMPLER, SCORER
from export_scripts.releases.model_control import ModelControl
from export_scripts.releases.promote import promote, roll_back
from tests.toy_runs import TOY_SAMPLER, toy_run

pytestmark = [pytest.mark.triton, pytest.mark.timeout(180)]

NOTICED_S, RESTORED_S = 5, 20


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Releases 1 and 2; 1 was rolled back to, so that the active one is not the newest."""
    root = tmp_path_factory.mktemp("watched")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publish, "SAMPLER_CODE", TOY_SAMPLER)
        for seed in (1, 2):
            release = publish.publish(toy_run(root / f"run-{seed}", seed), root / "repository")
            promote(root / "repository", release)
    roll_back(root / "repository")
    return root / "repository"


@pytest.fixture(scope="module")
def supervised(published: Path, start_server: object) -> Iterator[Supervised]:
    serving = Supervised(published)
    yield serving
    serving.kill()


@pytest.fixture
def serve(start_server: object) -> Iterator[Callable[..., Supervised]]:
    """Of the test's own, killed with it."""
    started: list[Supervised] = []

    def start(repository: Path, **options: Any) -> Supervised:
        started.append(Supervised(repository, **options))
        return started[-1]

    yield start
    for serving in started:
        serving.kill()


def of(model: str) -> Callable[[int], int]:
    """Of a server, the process that runs a part of the active release, which is 1."""

    def stub(triton: int) -> int:
        (found,) = [pid for pid in children(triton) if f"/{model}/1/" in command(pid)[1]]
        return found

    return stub


KILLS = [
    ("the sampler's process killed", of(SAMPLER), signal.SIGKILL, "server fails"),
    ("the scorer's process killed", of(SCORER), signal.SIGKILL, "server fails"),
    ("the sampler's process stopped", of(SAMPLER), signal.SIGSTOP, "server fails"),  # says Triton after 2 s
    ("tritonserver stopped", lambda triton: triton, signal.SIGSTOP, "server hangs"),
    ("tritonserver killed", lambda triton: triton, signal.SIGKILL, "server ended"),
    ("tritonserver told to end", lambda triton: triton, signal.SIGTERM, "server ended"),
]


@pytest.mark.parametrize(("what", "which", "how", "event"), KILLS, ids=[kill[0] for kill in KILLS])
def test_a_lost_server_is_noticed_and_restored(
    supervised: Supervised, what: str, which: Callable[[int], int], how: signal.Signals, event: str
) -> None:
    """The app says not ready, then ready again; the log what, why, how long; the promoted release is back."""
    supervised.look()
    before, restarts = supervised.processes[1:], supervised.ask("/v1/status")[1]["restarts"]
    os.kill(which(supervised.triton), how)
    began = time.monotonic()

    lost = supervised.event("server fails", "server hangs", "server ended")
    noticed_s = time.monotonic() - began
    code, said = supervised.ask("/readyz")
    restored = supervised.event("server restored")
    restored_s = time.monotonic() - began
    print(f"| {what} | {noticed_s:.1f} | {restored_s:.1f} | {lost['reason']}")

    assert (lost["event"], lost["release"], restored["release"]) == (event, 1, 1)
    assert restored["restarts"] == restarts + 1
    assert restored["down_s"] <= restored_s + 1.1  # counted from the last canary that was answered
    assert (code, bool(said["error"] and said["request_id"])) == (503, True)
    assert supervised.ask("/readyz") == (200, {"ready": True, "release": 1})
    assert [process.ended(5) for process in before] == [True] * len(before)
    assert noticed_s < NOTICED_S
    assert restored_s < RESTORED_S
    wait_for(lambda: both_loaded(supervised))


def both_loaded(supervised: Supervised) -> bool:
    with ModelControl(supervised.addresses["grpc"]) as control:
        return all(control.ready(part) == {1, 2} for part in (SAMPLER, SCORER))


def wait_for(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_promotion_is_no_trouble(supervised: Supervised, published: Path) -> None:
    """Two releases are switched under the watchdog: it says which answers now, and starts nothing."""
    restarts = supervised.ask("/v1/status")[1]["restarts"]
    with ModelControl(supervised.addresses["grpc"]) as control:
        promote(published, 2, control)
        assert (supervised.event("release switched")["release"], supervised.ask("/readyz")[0]) == (2, 200)
        roll_back(published, control)
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
    """Asked to stop while the next server loads: 0, at once, and nothing is left; every line was JSON."""
    supervised.look()
    os.kill(supervised.triton, signal.SIGKILL)
    supervised.event("server ended")
    wait_for(lambda: bool(shared_memory("cesta-")) and _started_again(supervised))
    began = time.monotonic()
    assert supervised.end() == 0
    assert time.monotonic() - began < 5
    assert [process.ended(5) for process in supervised.processes] == [True] * len(supervised.processes)
    assert not shared_memory(supervised.shm_prefix)
    assert not any(runtime.exists() for runtime in supervised.runtimes)
    assert supervised.not_events == []


def _started_again(supervised: Supervised) -> bool:
    before = supervised.triton
    try:
        supervised.look()
    except (ValueError, TypeError, FileNotFoundError):  # not yet tritonserver
        return False
    return supervised.triton != before


def test_a_broken_previous_release_does_not_keep_the_active_one_from_serving(
    serve: Callable[..., Supervised], published: Path, tmp_path: Path
) -> None:
    """Logged with its number and Triton's words; Triton ends up ready, too."""
    repository = shutil.copytree(published, tmp_path / "repository")
    broken = repository / SAMPLER / "2" / "model.py"
    broken.unlink()
    broken.write_text('raise RuntimeError("no such table")\n')
    serving = serve(repository)
    event = serving.event("release not loaded")
    assert (event["release"], event["model"]) == (2, SAMPLER)
    assert "no such table" in event["reason"]
    assert serving.ask("/readyz") == (200, {"ready": True, "release": 1})
    with ModelControl(serving.addresses["grpc"]) as control:
        wait_for(lambda: control.states(SAMPLER) == {1: "READY", 2: ""})
        wait_for(lambda: control.ready(SCORER) == {1, 2})
    assert broken.exists()


def test_a_broken_active_release_is_one_sentence(
    serve: Callable[..., Supervised], published: Path, tmp_path: Path
) -> None:
    """On a first start: exit code 1, the release and Triton's reason, nothing left."""
    repository = shutil.copytree(published, tmp_path / "repository")
    model = repository / SAMPLER / "1" / "model.py"
    model.unlink()
    model.write_text('raise RuntimeError("no such table")\n')
    serving = serve(repository, wait=False)
    assert serving.process.wait(60) == 1
    serving.kill()
    (sentence,) = serving.not_events
    assert sentence.startswith("release 1 cannot be served: ")
    assert "no such table" in sentence


def test_a_killed_supervisor_takes_its_server_along(
    serve: Callable[..., Supervised], published: Path
) -> None:
    """kill -9: server and stubs end by themselves; the next start removes what is left, and serves."""
    killed = serve(published)
    killed.process.kill()
    assert [process.ended() for process in killed.processes] == [True] * len(killed.processes)
    assert killed.runtime.exists()

    following = serve(published)
    assert not killed.runtime.exists()
    assert not shared_memory(killed.shm_prefix)
    assert following.runtime.exists()
    assert sweep() == []
    assert following.ask("/readyz") == (200, {"ready": True, "release": 1})
    assert following.end(signal.SIGINT) == 0


def test_a_hung_server_of_a_killed_supervisor_is_swept(
    serve: Callable[..., Supervised], published: Path
) -> None:
    """It hears no SIGTERM; the next start kills it and its stubs."""
    killed = serve(published)
    os.kill(killed.triton, signal.SIGSTOP)
    killed.process.kill()
    killed.process.wait()
    assert killed.runtime in sweep()
    assert [process.ended(5) for process in killed.processes] == [True] * len(killed.processes)
    assert not shared_memory(killed.shm_prefix)
