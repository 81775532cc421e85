"""The flows on a Prefect server: a worker types the real verbs, for a small shop."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from operations.releases.repository import active_release, releases
from operations.releases.stores.store import open_repository
from tests.flows.prefect_server import PrefectServer, children, is_alive, kill
from tests.flows.weekly_shop import WeeklyShop

WEEKLY, ON_DRIFT = "retrain/weekly", "retrain/on-drift"
NO_SERVER = {"release_verb": "build", "release_options": ["--offline"]}
STAGES = ["etl", "train", "evaluate", "export"]
LONG = 400  # epochs: a training that is still at work when its worker dies


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


def test_a_drift_becomes_a_release_and_its_lists(prefect: PrefectServer, shop: WeeklyShop) -> None:
    """Baskets grow by half: `cesta drift` ends with 10, so the event starts retrain/on-drift, which makes
    release 2. `cesta score` writes its lists. Each flow shows its table and its plots.
    """
    shop.build()
    shop.next_week(per_basket=2)
    asked = {"out": str(shop.out), "settings": shop.settings("\n[release]\nlost_sales = 1\nlost_day = 1\n")}
    prefect.local.set_parameters(ON_DRIFT, **asked, **NO_SERVER)
    began = datetime.now(UTC)
    with prefect.local.worker():
        look = prefect.local.start("drift/daily", **asked)
        state = prefect.await_end(look)
        assert state["name"] == "Drifted", prefect.logs(look)
        retraining = prefect.local.await_run_of(ON_DRIFT, began)
        assert prefect.await_end(retraining)["name"] == "Completed", prefect.logs(retraining)
        prefect.await_tasks(retraining, [("etl", "Cached"), *((s, "Completed") for s in STAGES[1:])])
        scoring = prefect.local.start("score/weekly", out=str(shop.out))
        scored = prefect.await_end(scoring)

    assert state["message"].startswith("drifted: basket_size")
    shown = prefect.artifacts(look)
    assert {"drift", "drift-plot-1"} <= set(shown)
    assert json.loads(shown["drift-findings"]["data"])[0]["feature"] == "basket_size"
    assert active_release(open_repository(shop.out / "repository")) == 2
    shown = prefect.artifacts(retraining)
    assert {"report", "report-plot-1"} <= set(shown)
    measured = json.loads((shop.out / "metrics.json").read_text())
    assert json.loads(shown["metrics"]["data"])[0]["hr_at_10"] == measured["known"]["hr_at_10"]
    assert shown["report-plot-1"]["data"].startswith("data:image/svg+xml;base64,")
    assert scored["message"] == f"600 rows of release 2 in {shop.out}/scores", prefect.logs(scoring)


def test_a_refusal_is_told_and_not_repeated(prefect: PrefectServer, shop: WeeklyShop, chat: Chat) -> None:
    """The bar of the gate is out of reach: release 2 is published, release 1 stays, the chat hears why."""
    hook = shop.root / "hook"
    hook.write_text(f"{chat.url}\n")
    asked = {"out": str(shop.out), "settings": shop.settings(), **NO_SERVER}
    shop.build()
    shop.next_week()
    shop.settings("\n[release]\nhr_at_10 = 0.999\n")
    with prefect.with_variables(CESTA_WEBHOOK_FILE=str(hook)).local.worker():
        run = prefect.local.start(WEEKLY, **asked)
        state = prefect.await_end(run)
    assert state["name"] == "Refused"
    assert "0.999" in state["message"]
    tries = prefect.local.ask("/task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})
    assert {task["run_count"] for task in tries} == {1}
    assert active_release(open_repository(shop.out / "repository")) == 1
    (told,) = chat.texts
    assert told.startswith("retrain refused: ")
    assert "0.999" in told


def test_a_lost_machine_and_a_second_run(prefect: PrefectServer, shop: WeeklyShop) -> None:
    """The worker, its run and its training die at once. Once the run was silent for 90 s, another worker goes
    on with it, behind a run that was asked for meanwhile and has waited since.
    """
    asked = {"out": str(shop.out), "settings": shop.settings(epochs=LONG), **NO_SERVER}
    with prefect.local.worker() as worker:
        run = prefect.local.start(WEEKLY, **asked)
        prefect.await_task(run, "train", "Running")
        prefect.await_run(run, 120, lambda _: (shop.out / "training").exists())
        waiting = prefect.local.start("retrain/daily", **asked)
        lost = children(worker.pid)
        kill(worker.pid, *lost)
    prefect.await_run(run, 30, lambda _: not any(map(is_alive, lost)))
    assert prefect.run(run)["state_name"] == "Running"  # nobody has told the server
    shop.settings(epochs=2)
    with prefect.local.worker():
        lost_at = prefect.await_run(run, 240, lambda found: found["state_name"] == "AwaitingRetry")["state"]
        for each in (waiting, run):  # the one that has waited longer goes first
            assert prefect.await_end(each, 400)["name"] == "Completed", prefect.logs(each)
    assert prefect.run(waiting)["start_time"] > lost_at["timestamp"]
    assert prefect.run(run)["run_count"] == 2
    prefect.await_run(run, 60, lambda _: ("train", "Cached") in prefect.tasks(run))
    assert releases(open_repository(shop.out / "repository")) == [1]


def test_a_run_that_dies_alone_is_a_crash(prefect: PrefectServer, shop: WeeklyShop) -> None:
    """The worker sees it at once. The training ends, too."""
    asked = {"out": str(shop.out), "settings": shop.settings(epochs=LONG), **NO_SERVER}
    with prefect.local.worker() as worker:
        run = prefect.local.start(WEEKLY, **asked)
        prefect.await_task(run, "train", "Running")
        trainings = [pid for pid in children(worker.pid) if "--until" in command(pid)]
        assert trainings
        kill(parent(trainings[0]))
        assert prefect.await_end(run)["type"] == "CRASHED"
        prefect.await_run(run, 30, lambda _: not any(map(is_alive, trainings)))


def command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
