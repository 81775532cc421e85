"""However `cesta stack` ends, nothing of it stays, or the next start removes it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import astuple
from pathlib import Path

import pytest

from operations.gateway.keys import add_key
from operations.processes.identity import session_members
from operations.releases import publish
from operations.releases.promote import promote
from operations.releases.stores.store import open_repository
from operations.stack import Addresses
from operations.stack.programs import check_machine
from tests.building import TOY_SAMPLER
from tests.building.runs import toy_run
from tests.running import needs
from tests.running.processes import Watched, children, command
from tests.running.stack import free_addresses

pytestmark = [pytest.mark.triton, pytest.mark.timeout(300)]

# `cesta stack` on other ports.
SERVE = """
import signal
import sys
from pathlib import Path
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup may have started the tests
from operations.errors import CestaError
from operations.stack import Addresses, serve_stack
out, *addresses = sys.argv[1:]
try:
    serve_stack(Path(out), f"{out}/repository", Addresses(*addresses))
except CestaError as error:
    sys.exit(str(error))
"""
RECORDS = ("gateway/supervisor", "gateway/run/nginx", "alertmanager/alertmanager", "prometheus/prometheus")

StartStack = Callable[[], "Running"]


class Running:
    """A stack that was started; its programs are known once their records are written."""

    def __init__(self, out: Path, addresses: Addresses) -> None:
        self.out, self.addresses = out, addresses
        words = [sys.executable, "-c", SERVE, str(out), *astuple(addresses)]
        self.process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self.seen: set[int] = set()

    def await_ready(self) -> None:
        assert self.process.stdout
        assert self.process.stdout.readline().startswith("ready: ")
        self.seen |= {self.pid(record) for record in RECORDS}

    def pid(self, record: str) -> int:
        """The program of a start record; waits until it is written."""
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with contextlib.suppress(OSError, ValueError):
                pid = int(json.loads((self.out / f"{record}.started").read_text())["program"]["pid"])
                self.seen.add(pid)
                return pid
            time.sleep(0.02)
        raise AssertionError(f"no {record}.started")

    def end(self) -> tuple[int, str]:
        """Exit code and stderr, after its end."""
        _, err = self.process.communicate(timeout=60)
        return self.process.returncode, err

    def kill(self) -> None:
        """Kill it with all that it started, for a test that failed."""
        self.process.kill()
        for pid in (pid for leader in self.seen for pid in session_members(leader)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.communicate()

    def left(self) -> list[object]:
        """Processes and records that stayed."""
        processes = (pid for leader in self.seen for pid in session_members(leader))
        return [*self.out.rglob("*.started"), *processes]

    def recommend(self, key: str) -> int:
        connection = http.client.HTTPConnection(self.addresses.http, timeout=30)
        with contextlib.closing(connection):
            headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
            connection.request("POST", "/v1/recommend", b'{"basket": ["i1"]}', headers)
            return connection.getresponse().status


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a toy release."""
    needs.a_tritonserver()
    with needs.debian_packages():
        check_machine()
    out = tmp_path_factory.mktemp("stack")
    repository = open_repository(out / "repository")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("operations.records.sampler_code.SAMPLER_CODE", TOY_SAMPLER)
        publish.publish(toy_run(out / "run", 1), repository)
    promote(repository, 1)
    return out


@pytest.fixture
def addresses() -> Addresses:
    return free_addresses()


@pytest.fixture
def start(out: Path, addresses: Addresses) -> Iterator[StartStack]:
    """Start a stack, always on the same addresses; it is killed after the test."""
    started: list[Running] = []

    def begin() -> Running:
        started.append(Running(out, addresses))
        return started[-1]

    yield begin
    for stack in started:
        stack.kill()


def test_a_signal_while_it_starts_ends_it(start: StartStack) -> None:
    stack = start()
    stack.pid("gateway/supervisor")
    stack.process.send_signal(signal.SIGTERM)
    assert stack.end()[0] == 0
    assert stack.left() == []


def test_a_hang_up_ends_it_in_good_order(start: StartStack) -> None:
    """So does a program that dies meanwhile."""
    stack = start()
    stack.await_ready()
    stack.process.send_signal(signal.SIGHUP)
    os.kill(stack.pid("gateway/supervisor"), signal.SIGKILL)
    assert stack.end()[0] == 0
    assert stack.left() == []


def test_the_next_start_removes_what_a_killed_stack_left(start: StartStack, out: Path) -> None:
    """A worker of nginx stands still and holds the ports, and so does Triton. Then Ctrl-C comes twice."""
    key = add_key(out / "gateway", "web", "shop", 100)
    stack = start()
    stack.await_ready()
    supervisor, nginx = stack.pid("gateway/supervisor"), stack.pid("gateway/run/nginx")
    (triton,) = (pid for pid in children(supervisor) if "tritonserver" in "".join(command(pid)[:1]))
    still = [Watched(children(nginx)[0]), Watched(triton)]
    for process in still:
        os.kill(process.pid, signal.SIGSTOP)
    for pid in (stack.process.pid, nginx, supervisor):
        os.kill(pid, signal.SIGKILL)
    stack.process.wait()

    again = start()
    again.await_ready()
    assert [process.ended(0) for process in still] == [True, True]
    assert again.recommend(key) == 200
    for _ in range(2):
        again.process.send_signal(signal.SIGINT)
    assert again.end() == (0, "")
    assert [*stack.left(), *again.left()] == []


def test_a_second_stack_on_the_folder_is_refused(start: StartStack) -> None:
    """It disturbs nothing of the first."""
    first = start()
    first.await_ready()
    second = start()
    code, err = second.end()
    assert (code, f"started by process {first.process.pid} " in err) == (1, True), err
    assert len(first.left()) >= 2 * len(RECORDS)


def test_a_foreign_process_on_a_port_is_named_and_left_alone(start: StartStack, addresses: Addresses) -> None:
    """It is found before Triton starts."""
    host, _, port = addresses.prometheus.rpartition(":")
    with socket.create_server((host, int(port))) as stranger:
        stack = start()
        code, err = stack.end()
        stranger.settimeout(1)
        with socket.create_connection((host, int(port))):
            stranger.accept()[0].close()
    sentence = f"{addresses.prometheus} cannot be used (Address already in use); stop process {os.getpid()} ("
    assert (code, err.startswith(sentence)) == (1, True), err
    assert stack.left() == []
