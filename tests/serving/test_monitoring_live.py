"""A real Prometheus and Alertmanager, with the shipped files, over a real Triton: dashboard and alert."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError

import pytest

from tests.running.live import Live
from tests.running.monitoring import (
    DEPLOY,
    RUNBOOKS,
    StandIn,
    Tool,
    Web,
    start_alertmanager,
    start_prometheus,
)
from tests.running.questions import Question, over_generate

pytestmark = pytest.mark.triton

DASHBOARD = DEPLOY / "grafana" / "dashboards" / "cesta.json"


class Stack(NamedTuple):
    prometheus: Tool
    stand_in: StandIn
    chat: Web


@pytest.fixture(scope="module")
def stack(live: Live, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Triton and its requests are real; a page of figures replaces gateway and supervisor."""
    stand_in = StandIn()
    with (
        Web(stand_in.page) as supervisor,
        Web() as chat,
        start_alertmanager(tmp_path_factory.mktemp("alertmanager"), f"http://{chat.address}") as alertmanager,
        start_prometheus(
            tmp_path_factory.mktemp("prometheus"),
            {"triton": live.metrics, "supervisor": supervisor.address},
            alertmanager.address,
        ) as prometheus,
    ):
        yield Stack(prometheus, stand_in, chat)


def shop_a_little(live: Live, turn: int) -> None:
    """Ask with known and unknown customers and items, repeat one query, and send one that is refused."""
    item, user = live.item_ids[turn], live.user_ids[turn]
    for question in (
        Question((item, f"unknown {turn}"), user),
        Question((item,), f"unknown {turn}"),
        Question((live.item_ids[0],)),
        Question((), exclude=(item,)),
    ):
        over_generate(live, [question])
    with pytest.raises(HTTPError, match="400"):
        over_generate(live, [Question((f"{turn}".rjust(129, "x"),))])


def dashboard_queries() -> dict[str, str]:
    """Panel and legend → PromQL, as Grafana fills it in for a view of one hour."""
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    queries = {
        f"{panel['title']}: {target['legendFormat']}": target["expr"].replace("$__rate_interval", "1m")
        for panel in panels
        for target in panel.get("targets", ())
    }
    assert len(queries) > 40
    return queries


def test_every_query_of_the_dashboard_finds_something(live: Live, stack: Stack) -> None:
    """The dashboard queries no metric that no part exports."""
    waiting = dashboard_queries()
    deadline = time.monotonic() + 120
    for turn in range(1, 200):
        shop_a_little(live, turn)
        answers = {
            title: stack.prometheus.get("/api/v1/query", query=query)["data"]["result"]
            for title, query in waiting.items()
        }
        waiting = {title: query for title, query in waiting.items() if not answers[title]}
        if not waiting:
            return
        assert time.monotonic() < deadline, f"no series for {waiting}"
        time.sleep(0.5)


def test_a_failed_promotion_reaches_the_chat(stack: Stack) -> None:
    """Prometheus sees the count rise and fires at once. Alertmanager posts the sentence with its runbook."""
    seen = stack.stand_in.scrapes
    while stack.stand_in.scrapes < seen + 2:  # a rise from nothing known is none
        time.sleep(0.1)
    stack.stand_in.promotions_failed += 1

    path, message = stack.chat.posted.get(timeout=40)
    assert path == "/warning"
    (attachment,) = message["attachments"]
    assert attachment["title"] == "FIRING PromotionFailed (warning)"
    assert "1 promotions or rollbacks failed in 15 minutes" in attachment["text"]
    assert f"{RUNBOOKS}#promotion-failed" in attachment["text"]


def test_the_dashboard_is_what_its_source_makes(tmp_path: Path) -> None:
    source = tmp_path / "grafana" / "dashboard.py"
    (source.parent / "dashboards").mkdir(parents=True)
    source.write_bytes((DEPLOY / "grafana" / "dashboard.py").read_bytes())
    subprocess.run([sys.executable, source], check=True)
    made = (source.parent / "dashboards" / "cesta.json").read_text(encoding="utf-8")
    assert made == DASHBOARD.read_text(encoding="utf-8"), "run python deploy/grafana/dashboard.py"
