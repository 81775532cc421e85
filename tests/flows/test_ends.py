"""What ends a run besides its own work: a refusal, a worker that is lost, a run's process that dies.

A script answers in the place of `cesta`. The tests of `cesta retrain` kill the real stages.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.flows.prefect_server import PrefectServer, children, is_alive, kill

WEEKLY = "retrain/weekly"
# Its training hangs until the file "shorter" is there. A stage that has run is fresh.
TRAINING = """
[ "$2" = --until ] || { echo "release 2 is active"; exit; }
[ -e "$3.done" ] && { echo "$3 is fresh"; exit; }
[ "$3" = train ] && [ ! -e shorter ] && { touch started; exec sleep 600; }
touch "$3.done"; echo "$3 ran"
"""
REFUSAL = """
[ "$2" = --until ] && { echo "$3 ran"; exit; }
echo release >> asked; echo "release 2 is not promoted: HR@10 is 0.2, the bar is 0.999" >&2; exit 3
"""

Answering = Callable[[str], PrefectServer]


class Chat:
    """An incoming webhook."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        texts = self.texts

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                texts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        self._thread = threading.Thread(target=self.server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


@pytest.fixture
def chat() -> Iterator[Chat]:
    chat = Chat()
    yield chat
    chat.close()


@pytest.fixture
def answering(prefect: PrefectServer, tmp_path: Path) -> Answering:
    """A server whose workers type a script in the place of `cesta`; it runs in tmp_path."""

    def make(script: str) -> PrefectServer:
        verb = tmp_path / "cesta"
        verb.write_text(f"#!/bin/sh\ncd {tmp_path}\n{script}")
        verb.chmod(0o755)
        return prefect.with_variables(CESTA_COMMAND=str(verb))

    return make


def test_a_refusal_is_told_and_not_repeated(answering: Answering, chat: Chat, tmp_path: Path) -> None:
    hook = tmp_path / "hook"
    hook.write_text(f"{chat.url}\n")
    server = answering(REFUSAL).with_variables(CESTA_WEBHOOK_FILE=str(hook))
    with server.local.worker():
        run = server.local.start(WEEKLY)
        state = server.await_end(run)
    assert state["name"] == "Refused", server.logs(run)
    assert "0.999" in state["message"]
    assert (tmp_path / "asked").read_text() == "release\n"
    (told,) = chat.texts
    assert told.startswith("retrain refused: ")
    assert "0.999" in told


def test_a_lost_machine_and_a_second_run(answering: Answering, tmp_path: Path) -> None:
    """The worker, its run and its training die at once. Once the run was silent for 90 s, another worker goes
    on with it, behind a run that was asked for meanwhile and has waited since.
    """
    server = answering(TRAINING)
    with server.local.worker() as worker:
        run = server.local.start(WEEKLY)
        server.await_run(run, 120, lambda _: (tmp_path / "started").exists())
        waiting = server.local.start("retrain/daily")
        lost = children(worker.pid)
        kill(worker.pid, *lost)
    server.await_run(run, 30, lambda _: not any(map(is_alive, lost)))
    assert server.run(run)["state_name"] == "Running"  # nobody has told the server
    (tmp_path / "shorter").touch()
    with server.local.worker():
        lost_at = server.await_run(run, 240, lambda found: found["state_name"] == "AwaitingRetry")["state"]
        for each in (waiting, run):  # the one that has waited longer goes first
            assert server.await_end(each)["name"] == "Completed", server.logs(each)
    assert server.run(waiting)["start_time"] > lost_at["timestamp"]
    assert server.run(run)["run_count"] == 2
    server.await_run(run, 60, lambda _: ("train", "Cached") in server.tasks(run))


def test_a_run_that_dies_alone_is_a_crash(answering: Answering, tmp_path: Path) -> None:
    """The worker sees it at once. The training ends, too."""
    server = answering(TRAINING)
    with server.local.worker() as worker:
        run = server.local.start(WEEKLY)
        server.await_run(run, 120, lambda _: (tmp_path / "started").exists())
        trainings = [pid for pid in children(worker.pid) if command(pid).startswith("sleep 600")]
        assert trainings
        kill(parent(trainings[0]))
        assert server.await_end(run)["type"] == "CRASHED"
        server.await_run(run, 30, lambda _: not any(map(is_alive, trainings)))


def command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
