"""The life of an embedded server: start, drain, stop, and every kind of kill."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import tritonclient.grpc
import tritonclient.http

from operations.server.process import Server, ServerError
from operations.server.runtime_folder import sweep
from tests import ROOT
from tests.building.toy_models import write_python_model
from tests.running.processes import Watched, children, command, shared_memory

pytestmark = [pytest.mark.triton, pytest.mark.timeout(60)]


# Opens the pipe `started` when a request is with it, and answers once someone opens `answer`.
HELD = """
    import pathlib
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            here = pathlib.Path(__file__).parent
            (here / "started").open("w").close()
            (here / "answer").open().read()
            inputs = [pb_utils.get_input_tensor_by_name(request, "x") for request in requests]
            return [pb_utils.InferenceResponse([pb_utils.Tensor("y", x.as_numpy())]) for x in inputs]
"""
BROKEN = """
    class TritonPythonModel:
        def initialize(self, args):
            raise ValueError("the candidates are gone")
"""


_THREADS = ThreadPoolExecutor()


def _await_port(address: str, seconds: float = 60) -> None:
    host, _, port = address.partition(":")
    deadline = time.monotonic() + seconds
    while True:
        with socket.socket() as tried:
            if tried.connect_ex((host, int(port))) == 0:
                return
        assert time.monotonic() < deadline, f"nothing listens at {address}"
        time.sleep(0.05)


def _get(url: str, body: bytes | None = None) -> bytes:
    with urlopen(url, body, timeout=20) as answer:
        return bytes(answer.read())


def _post(url: str, body: object) -> Any:
    return json.loads(_get(url, json.dumps(body).encode()))


class Held:
    """A request that the model keeps until `release`."""

    def __init__(self, repository: Path, http: str) -> None:
        self._folder = repository / "held" / "1"
        self._call = _THREADS.submit(_post, f"http://{http}/v2/models/held/generate", {"x": ["milk"]})
        (self._folder / "started").open().close()  # blocks until the model has it

    def release(self) -> None:
        (self._folder / "answer").open("w").close()

    def answer(self) -> object:
        return self._call.result(timeout=20)["y"]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with the model `held`."""
    write_python_model(tmp_path, "held", HELD)
    for pipe in ("started", "answer"):
        os.mkfifo(tmp_path / "held" / "1" / pipe)
    return tmp_path


class Foreground:
    """`python -m operations.server` as a shell starts it: the leader of its own process group."""

    def __init__(self, repository: Path) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "operations.server",
                "--repository",
                repository,
                "--model=held",
                "--drain-s=20",
            ]
            + [f"--{port}-port=0" for port in ("http", "grpc", "metrics")],
            cwd=ROOT,
            process_group=0,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.http = self._read_until(r"ready: http (\S+)")[1]
        (triton_pid,) = children(self.process.pid)
        self.triton = Watched(triton_pid)
        self.stubs = [Watched(pid) for pid in children(triton_pid)]
        self.shm_prefix = re.search(r"shm-region-prefix-name=(\S+)", " ".join(command(triton_pid)))[1]
        self.runtime = Path(
            re.search(r"--backend-directory=(\S+)/backends", " ".join(command(triton_pid)))[1]
        )
        assert self.stubs
        assert shared_memory(self.shm_prefix)

    def _read_until(self, pattern: str) -> re.Match[str]:
        for line in self.process.stdout:
            if match := re.search(pattern, line):
                return match
        raise AssertionError(f"ended without {pattern}: {self.process.stderr.read()}")

    def left_behind(self) -> list[object]:
        """Wait for the processes, then list those that stay, and files."""
        running = [watched.pid for watched in (self.triton, *self.stubs) if not watched.ended()]
        return [*running, *shared_memory(self.shm_prefix)]


@pytest.fixture
def foreground(repository: Path, start_server: object) -> Iterator[Foreground]:
    """A foreground server with the model `held`; after a failed test it ends when tritonserver is gone."""
    server = Foreground(repository)
    yield server
    if not server.triton.ended(0):
        os.kill(server.triton.pid, signal.SIGKILL)
    server.process.communicate(timeout=20)
    sweep()  # a parent that was killed could not


def test_three_free_ports_are_chosen_and_answer(start_server: Callable[..., Server], tmp_path: Path) -> None:
    """Port 0 means any free port; the addresses name it, and each service answers there."""
    server = start_server(tmp_path, models=())

    assert len({server.http, server.grpc, server.metrics}) == 3
    assert tritonclient.http.InferenceServerClient(server.http).is_server_live()
    _await_port(server.metrics)  # Triton opens it last, after it has said that it is ready
    assert b"nv_cpu_memory_total_bytes" in _get(f"http://{server.metrics}/metrics")
    assert tritonclient.grpc.InferenceServerClient(server.grpc).is_server_live()


def test_stop_answers_what_is_in_flight_and_leaves_nothing(
    start_server: Callable[..., Server], repository: Path
) -> None:
    """A request that the model holds when stop() begins is answered. No process or memory is left."""
    server = start_server(repository, models=("held",))
    processes = [Watched(pid) for pid in (server.pid, *children(server.pid))]
    request = Held(repository, server.http)
    stopping = threading.Thread(target=server.stop)
    stopping.start()
    while "Signal (15) received" not in server.log_tail:
        assert stopping.is_alive()
    request.release()

    assert request.answer() == "milk"
    stopping.join()
    assert [process.ended(0) for process in processes] == [True, True]
    assert server.wait() == 0
    assert not shared_memory(server.shm_prefix)
    assert not list(repository.rglob("__pycache__"))  # Triton would take it for a change of the model


def test_stop_kills_what_does_not_end_in_time(start_server: Callable[..., Server], repository: Path) -> None:
    """After the grace, stop() kills a model that never answers, stub included."""
    server = start_server(repository, models=("held",))
    processes = [Watched(pid) for pid in (server.pid, *children(server.pid))]
    Held(repository, server.http)

    server.stop(grace_s=0.1)

    assert [process.ended(0) for process in processes] == [True, True]
    assert not shared_memory(server.shm_prefix)


def test_a_model_that_does_not_load_is_the_last_word(
    start_server: Callable[..., Server], tmp_path: Path
) -> None:
    """`wait_ready` fails when the server ends, with the model's own reason."""
    write_python_model(tmp_path, "broken", BROKEN)

    with pytest.raises(ServerError, match=r"(?s)tritonserver ended with 1 .*the candidates are gone"):
        start_server(tmp_path, models=("broken",))


def test_a_canary_that_fails_is_named_when_time_is_up(
    start_server: Callable[..., Server], tmp_path: Path
) -> None:
    """The server is ready when the canary passes; the error tells how it failed."""
    server = start_server(tmp_path, models=())

    def canary() -> None:
        raise ValueError("no recommendations")

    with pytest.raises(ServerError, match=r"not ready after 0.2 s \(no recommendations\)"):
        server.wait_ready(canary, timeout_s=0.2)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_the_foreground_server_drains_when_asked_to_stop(
    foreground: Foreground, repository: Path, stop: signal.Signals
) -> None:
    """Ctrl-C (to the whole process group) or SIGTERM: requests in flight are answered; the exit code is 0."""
    request = Held(repository, foreground.http)
    os.killpg(foreground.process.pid, stop)
    foreground._read_until("Signal .15. received")
    request.release()

    assert request.answer() == "milk"
    assert foreground.process.wait(20) == 0
    assert foreground.left_behind() == []
    assert not foreground.runtime.exists()


def test_the_server_ends_when_its_parent_is_killed(foreground: Foreground) -> None:
    """SIGKILL gives the parent no chance to clean up. The server drains by itself."""
    foreground.process.kill()

    assert foreground.left_behind() == []


def test_a_server_that_dies_by_itself_is_an_error_with_its_last_words(foreground: Foreground) -> None:
    """The command ends with 1, tells how the server ended and cleans up after it."""
    os.kill(foreground.triton.pid, signal.SIGKILL)
    _, errors = foreground.process.communicate(timeout=20)

    assert foreground.process.returncode == 1
    assert "tritonserver ended by itself with -9" in errors
    assert "Started HTTPService" in errors
    assert foreground.left_behind() == []


def test_a_port_in_use_is_named(start_server: Callable[..., Server], tmp_path: Path) -> None:
    """The second server on a port names the port and the way to choose another, and starts nothing."""
    first = start_server(tmp_path, models=())
    port = int(first.grpc.rpartition(":")[2])

    with pytest.raises(ServerError, match=rf"grpc_port {port} on 127.0.0.1 .*--grpc-port"):
        start_server(tmp_path, models=(), grpc_port=port)
