"""The flows `drift` and `score`, with a program in the place of `cesta` that answers as its verbs do."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.flows.prefect_server import LOOK_S, PrefectServer

PAGE = '<style>p{}</style><p>drift</p><svg viewBox="0 0 1 1" aria-label="sizes of baskets"></svg>'
TABLE = """
│ feature         │ window   │ distance │      95 %   │ threshold │       │ what changed most │
│ size of baskets │ receipts │    0.412 │ 0.399-0.425 │     0.050 │ DRIFT │ 9 items and more  │
│ hour            │ receipts │    0.004 │ 0.001-0.009 │     0.050 │       │ 17                │
"""

Verbs = Callable[[int], PrefectServer]


@pytest.fixture
def answering(prefect: PrefectServer, tmp_path: Path) -> Verbs:
    """A server whose workers find a drift, or none: the exit code of `cesta drift`."""

    def make(code: int) -> PrefectServer:
        (tmp_path / "page").write_text(PAGE)
        (tmp_path / "table").write_text(TABLE)
        command = tmp_path / "cesta"
        command.write_text(
            f"""#!/bin/sh
case "$1" in
build) echo "etl ran" ;;
drift) cat {tmp_path}/table; cp {tmp_path}/page "$5"; exit {code} ;;
score) echo "600 rows of release 1 in $3/scores" ;;
esac
"""
        )
        command.chmod(0o755)
        return prefect.with_variables(CESTA_COMMAND=str(command))

    return make


def test_a_drift_starts_a_retraining(answering: Verbs, tmp_path: Path) -> None:
    """The flow's state names what has drifted, its plot is an artifact, its event schedules a retraining."""
    server = answering(10)
    deployment = server.ask("/deployments/name/retrain/on-drift", method="GET")["id"]
    with server.local.worker():
        run = server.start("drift/daily", out=str(tmp_path))
        state = server.await_end(run)
        assert state["name"] == "Drifted", server.logs(run)
        assert state["message"] == f"drifted: size of baskets; {tmp_path}/drift.html"
        assert server.artifacts(run)["drift-plot-1"]["description"] == "sizes of baskets"
        asked = {"flow_runs": {"deployment_id": {"any_": [deployment]}}}
        end = time.monotonic() + 60
        while not (started := server.ask("/flow_runs/filter", asked)):
            assert time.monotonic() < end, "no retraining was started"
            time.sleep(LOOK_S)
        server.await_end(started[0]["id"])


def test_no_drift_starts_nothing(answering: Verbs, tmp_path: Path) -> None:
    server = answering(0)
    with server.local.worker():
        run = server.start("drift/daily", out=str(tmp_path))
        assert server.await_end(run)["name"] == "Completed"
        server.await_tasks(run, [("etl", "Completed"), ("drift", "Completed")])
        run = server.start("score/weekly", out=str(tmp_path))
        state = server.await_end(run)
    assert state["message"] == f"600 rows of release 1 in {tmp_path}/scores"
