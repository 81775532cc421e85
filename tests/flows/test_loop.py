"""The loop on a Prefect server: a worker types the real verbs, for a small shop."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from operations.releases.repository import active_release
from operations.releases.stores.store import open_repository
from tests.flows.prefect_server import PrefectServer
from tests.flows.weekly_shop import WeeklyShop

ON_DRIFT = "retrain/on-drift"
# Two epochs of a small shop are too little for the gate.
NO_SERVER = {"release_verb": "build", "release_options": ["--offline", "--force"]}
STAGES = ["etl", "train", "evaluate", "export"]


def test_a_drift_becomes_a_release_and_its_lists(prefect: PrefectServer, shop: WeeklyShop) -> None:
    """The shop sells at night: `cesta drift` ends with 10, so the event starts retrain/on-drift, which makes
    release 2. `cesta score` writes its lists. Tables and plots are artifacts.
    """
    shop.build()
    shop.next_week(at_night=True)
    asked = {"out": str(shop.out), "settings": shop.settings()}
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

    assert state["message"] == f"drifted: hour; {shop.out}/drift.html"
    shown = prefect.artifacts(look)
    assert str(shop.out / "drift.html") in shown["drift"]["data"]
    first = json.loads(shown["drift-findings"]["data"])[0]
    assert (first["feature"], first["verdict"]) == ("hour", "DRIFT")
    assert active_release(open_repository(shop.out / "repository")) == 2
    shown = prefect.artifacts(retraining)
    assert {"report", "report-plot-1"} <= set(shown)
    measured = json.loads((shop.out / "metrics.json").read_text())
    assert json.loads(shown["metrics"]["data"])[0]["hr_at_10"] == measured["known"]["hr_at_10"]
    assert shown["report-plot-1"]["data"].startswith("data:image/svg+xml;base64,")
    assert scored["message"] == f"600 rows of release 2 in {shop.out}/scores", prefect.logs(scoring)
