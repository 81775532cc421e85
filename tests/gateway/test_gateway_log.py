"""The request log: its lines, its level, its rotation, and the metrics counted from it."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from cesta_client import Recommender, Unauthorized
from operations.gateway.control import read_metrics
from operations.gateway.request_metrics import RequestMetrics
from tests import ROOT
from tests.running.door import TIMEOUT_S, Door, release_of
from tests.running.gateway_log import read_log_line, wait_for

pytestmark = pytest.mark.triton


def test_a_request_is_one_line_without_what_was_asked(own_door: Door) -> None:
    """The line is enough to find and to bill the request, and holds nothing about customers."""
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    headers = {"X-Request-Id": "find-me", "X-Session-Id": "a visit", "traceparent": trace}
    headers |= {"X-Placement": "cart/top", "X-Variant": 'not "allowed"'}
    question = {"basket": ["secret-item"], "user_id": "secret-user", "exclude": ["secret-other"]}
    own_door.ask("/v1/recommend?secret-argument", question, headers=headers)
    line = read_log_line(own_door, "find-me")

    assert line.pop("time").startswith("20")
    assert line.pop("trace") == trace
    assert 0 <= line.pop("seconds") < 5
    assert 0 <= float(line.pop("upstream_seconds")) < 5
    assert line.pop("bytes_in") > 100
    assert line.pop("bytes_out") > 500
    assert line == {
        "request_id": "find-me",
        "key": "shop",
        "route": "recommend",
        "method": "POST",
        "status": 200,
        "grpc": "",
        "release": "2",
        "model": "recommender",
        "session": "",
        "placement": "cart/top",
        "variant": "",
        "trouble": "",
    }
    for log in own_door.settings.run.glob("*.log"):
        text = log.read_text(errors="replace")
        assert own_door.keys["shop"] not in text
        assert "secret-item" not in text
        assert "secret-user" not in text


@pytest.mark.parametrize("wire", ["grpc", "http"])
def test_what_the_client_tells_beside_a_question_is_logged_and_counted(own_door: Door, wire: str) -> None:
    """The session is in the log only, because nobody bounds the number of sessions."""
    address = own_door.settings.grpc if wire == "grpc" else own_door.settings.http
    told = {"session_id": f"visit-{wire}", "placement": f"cart-{wire}", "variant": "b"}
    with Recommender(address, protocol=wire, api_key=own_door.keys["shop"], timeout_s=TIMEOUT_S) as shop:
        shop.recommend(["i1"], request_id=f"told-{wire}", **told)
    line = read_log_line(own_door, f"told-{wire}")
    assert (line["session"], line["placement"], line["variant"]) == tuple(told.values())
    metrics = read_metrics(own_door.settings.folder) or ""
    labels = f'{{key="shop",placement="cart-{wire}",variant="b",status="2xx"}}'
    assert f"cesta_gateway_context_requests_total{labels} 1\n" in metrics
    assert "visit" not in metrics


def test_a_key_cannot_fill_the_metrics_with_placements(own_door: Door) -> None:
    """Fifty pairs of placement and variant are told apart; the metrics cannot grow without end."""
    for n in range(60):
        assert own_door.ask("/v1/status", key="admin", headers={"X-Placement": f"p{n}"}).status == 200

    def counts() -> list[tuple[str, str, str]]:
        return re.findall(
            r'context_requests_total\{key="admin",placement="(\w+)",variant="(\w*)",status="2xx"\} (\d+)',
            read_metrics(own_door.settings.folder) or "",
        )

    # nginx counts a request after its answer
    wait_for(lambda: "all" if sum(int(count) for *_, count in counts()) == 60 else "")
    assert sorted(counts()) == sorted([("other", "other", "10"), *((f"p{n}", "", "1") for n in range(50))])


@pytest.mark.parametrize("wire", ["grpc", "http"])
def test_the_client_s_request_id_is_the_log_s(own_door: Door, wire: str) -> None:
    """The log has the id if it fits a line, and a new one otherwise. An id in the header takes precedence."""
    address = own_door.settings.grpc if wire == "grpc" else own_door.settings.http
    with Recommender(address, protocol=wire, api_key=own_door.keys["shop"], timeout_s=TIMEOUT_S) as shop:
        shop.recommend(["i1"], request_id=f"basket-42-{wire}")
        shop.recommend(["i1"], request_id=f"basket 43 {wire}")
    assert read_log_line(own_door, f"basket-42-{wire}")["route"] == ("grpc" if wire == "grpc" else "tensors")
    assert f"basket 43 {wire}" not in own_door.settings.access_log.read_text()
    release_of(own_door, wire, "anyone", f"header-{wire}")
    assert read_log_line(own_door, f"header-{wire}")["status"] == 200


def test_every_line_is_json_whatever_was_sent(own_door: Door) -> None:
    own_door.send(b'GET /"\x01\\ HTTP/1.1\r\nHost: "\r\nX-Request-Id: "},{\r\nConnection: close\r\n\r\n')
    own_door.send(b"\x16\x03\x01\x02\x00\x01\r\n\r\n")
    for line in own_door.settings.access_log.read_bytes().splitlines():
        assert set(json.loads(line)) >= {"request_id", "status"}


def test_the_log_s_level_changes_while_it_runs(own_door: Door) -> None:
    """The level changes from warnings to everything that nginx reports, and back."""
    log = own_door.settings.run / "error.log"
    for level, logged_info in (("info", True), ("warn", False)):
        own_door.gateway.reload(dataclasses.replace(own_door.settings, log_level=level))
        before = log.stat().st_size
        own_door.send(b"GET / HTTP/1.1\r\n\r\n")  # "client sent HTTP/1.1 request without Host": info
        new = log.read_bytes()[before:].decode(errors="replace")  # nginx writes the line before it answers
        assert ("without" in new) is logged_info


OPERATIONS = (ROOT / "docs" / "operations.md").read_text()


def documented(first: str, own_door: Door, checkout: Path) -> None:
    """Run the lines of operations.md that start with `first`, in a checkout whose gateway is this one."""
    (lines,) = re.findall(
        rf"^ *({re.escape(first)}.*?)\n *(?:```|endscript)$", OPERATIONS, re.DOTALL | re.MULTILINE
    )
    (checkout / "artifacts").mkdir()
    (checkout / "artifacts" / "gateway").symlink_to(own_door.settings.folder)
    lines = lines.replace("/srv/cesta", str(checkout))
    subprocess.run(["sh", "-euc", lines], cwd=checkout, check=True)


def test_the_log_s_level_changes_as_operators_are_told(own_door: Door, tmp_path: Path) -> None:
    log = own_door.settings.run / "error.log"
    before = log.stat().st_size
    documented("sed -i", own_door, tmp_path)

    def info_is_logged() -> str:
        own_door.send(b"GET / HTTP/1.1\r\n\r\n")
        return "yes" if b"without" in log.read_bytes()[before:] else ""

    assert wait_for(info_is_logged) == "yes"
    own_door.gateway.reload()


def test_a_request_log_that_was_moved_is_left_alone(own_door: Door, tmp_path: Path) -> None:
    """The test runs the documented line for logrotate: no request is lost, and the next one is logged in a
    new file.
    """
    own_door.ask("/v1/recommend", {}, headers={"X-Request-Id": "before-moving"})
    read_log_line(own_door, "before-moving")
    moved = own_door.settings.access_log.rename(tmp_path / "access.log.1")
    documented("kill -USR1", own_door, tmp_path)
    wait_for(lambda: "made" if own_door.settings.access_log.exists() else "")
    size = moved.stat().st_size

    own_door.ask("/v1/recommend", {}, headers={"X-Request-Id": "after-moving"})
    assert read_log_line(own_door, "after-moving")["status"] == 200
    assert moved.stat().st_size == size


def test_requests_are_counted_and_timed(own_door: Door) -> None:
    """The labels are route, key, status, release and model. gRPC errors count under the HTTP status of the
    same meaning. A reload loses no count.
    """
    registry = CollectorRegistry()
    registry.register(RequestMetrics(own_door.settings.folder))

    def value(name: str, **labels: str) -> float:
        return registry.get_sample_value(name, labels) or 0

    def counted(route: str, key: str, status: str, release: str = "", model: str = "") -> float:
        labels = {"route": route, "key": key, "status": status, "release": release, "model": model}
        return value("cesta_gateway_requests_total", **labels)

    def times(route: str) -> list[float]:
        return [
            value(f"cesta_gateway_{name}_seconds_{kind}", route=route, release="2")
            for kind in ("count", "sum")
            for name in ("request", "upstream")
        ]

    asked = ("recommend", "shop", "200", "2", "recommender"), ("grpc", "shop", "200", "2", "recommender")
    before, before_s = [counted(*labels) for labels in asked], [times(labels[0]) for labels in asked]
    for _ in range(3):
        own_door.recommend("i1")
    own_door.ask("/v1/recommend", {"k": 0})
    own_door.ask("/nowhere", key=None)
    with Recommender(own_door.settings.grpc, api_key="wrong") as shop, pytest.raises(Unauthorized):
        shop.recommend()
    own_door.gateway.reload()
    with Recommender(own_door.settings.grpc, api_key=own_door.keys["shop"], timeout_s=TIMEOUT_S) as shop:
        shop.recommend()

    wait_for(lambda: "yes" if counted(*asked[1]) > before[1] else "")
    assert [counted(*labels) - n for labels, n in zip(asked, before, strict=True)] == [3, 1]
    assert counted("recommend", "shop", "400") >= 1
    assert counted("other", "", "404") >= 1
    assert counted("grpc", "", "401") >= 1
    for labels, old, requests in zip(asked, before_s, (3, 1), strict=True):
        new = [now - then for now, then in zip(times(labels[0]), old, strict=True)]
        assert new[:2] == [requests, requests]
        assert new[3] <= new[2] + 0.001 * requests  # both are whole milliseconds, rounded apart
    for name in ("request", "upstream"):  # strangers would make the gateway look fast
        assert value(f"cesta_gateway_{name}_seconds_count", route="other", release="") == 0


def test_the_metrics_are_as_prometheus_wants_them(own_door: Door) -> None:
    own_door.recommend("i1")
    text = read_metrics(own_door.settings.folder)
    assert text
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed; apt-get install prometheus")
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    names = set(re.findall(r"^# TYPE cesta_gateway_(\S+)", text, re.MULTILINE))
    assert names == {
        *("requests_total", "request_seconds", "upstream_seconds", "unlogged_total"),
        *(
            "cache_mismatches_total",
            "canary_failures_total",
            "worker_deaths_total",
            "at_triton",
            "workers",
            "start_time_seconds",
            "context_requests_total",
        ),
    }
