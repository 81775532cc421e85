"""The request log: its lines, its level, its rotation, and the metrics counted from it."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from cesta_client import Recommender, Unauthorized
from operations.gateway.request_metrics import RequestMetrics
from tests import ROOT
from tests.running.door import Door, release_of
from tests.running.gateway_log import logged, wait_for

pytestmark = pytest.mark.triton


def test_a_request_is_one_line_without_what_was_asked(own: Door) -> None:
    """The line is enough to find and to bill the request, and holds nothing about customers."""
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    headers = {"X-Request-Id": "find-me", "X-Session-Id": "secret-session", "traceparent": trace}
    question = {"basket": ["secret-item"], "user_id": "secret-user", "exclude": ["secret-other"]}
    own.ask("/v1/recommend?secret-argument", question, headers=headers)
    line = logged(own, "find-me")

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
        "trouble": "",
    }
    for log in own.settings.run.glob("*.log"):
        text = log.read_text(errors="replace")
        assert own.keys["shop"] not in text
        assert "secret-item" not in text
        assert "secret-user" not in text


@pytest.mark.parametrize("wire", ["grpc", "http"])
def test_the_client_s_request_id_is_the_log_s(own: Door, wire: str) -> None:
    """The log has the id if it fits a line, and a new one otherwise. An id in the header takes precedence."""
    address = own.settings.grpc if wire == "grpc" else own.settings.http
    with Recommender(address, protocol=wire, api_key=own.keys["shop"], timeout_s=5) as shop:
        shop.recommend(["i1"], request_id=f"basket-42-{wire}")
        shop.recommend(["i1"], request_id=f"basket 43 {wire}")
    assert logged(own, f"basket-42-{wire}")["route"] == ("grpc" if wire == "grpc" else "tensors")
    assert f"basket 43 {wire}" not in own.settings.access_log.read_text()
    release_of(own, wire, "anyone", f"header-{wire}")
    assert logged(own, f"header-{wire}")["status"] == 200


def test_every_line_is_json_whatever_was_sent(own: Door) -> None:
    own.send(b'GET /"\x01\\ HTTP/1.1\r\nHost: "\r\nX-Request-Id: "},{\r\nConnection: close\r\n\r\n')
    own.send(b"\x16\x03\x01\x02\x00\x01\r\n\r\n")
    for line in own.settings.access_log.read_bytes().splitlines():
        assert set(json.loads(line)) >= {"request_id", "status"}


def test_the_log_s_level_changes_while_it_runs(own: Door) -> None:
    """The level changes from warnings to everything that nginx reports, and back."""
    log = own.settings.run / "error.log"
    for level, told in (("info", True), ("warn", False)):
        own.gateway.reload(dataclasses.replace(own.settings, log_level=level))
        before = log.stat().st_size
        own.ask(
            "/v1/recommend", b"x" * 70_000
        )  # "client intended to send too large body" is an error: always told
        own.send(b"GET / HTTP/1.1\r\n\r\n")  # "client sent HTTP/1.1 request without Host": info
        new = wait_for(lambda: log.read_bytes()[before:].decode(errors="replace"))  # noqa: B023
        assert ("without" in new) is told


OPERATIONS = (ROOT / "docs" / "operations.md").read_text()


def documented(first: str, own: Door, checkout: Path) -> None:
    """Run the lines of operations.md that start with `first`, in a checkout whose gateway is this one."""
    (lines,) = re.findall(
        rf"^ *({re.escape(first)}.*?)\n *(?:```|endscript)$", OPERATIONS, re.DOTALL | re.MULTILINE
    )
    (checkout / "artifacts").mkdir()
    (checkout / "artifacts" / "gateway").symlink_to(own.settings.folder)
    lines = lines.replace("/srv/cesta", str(checkout))
    subprocess.run(["sh", "-euc", lines], cwd=checkout, check=True)


def test_the_log_s_level_changes_as_operators_are_told(own: Door, tmp_path: Path) -> None:
    log = own.settings.run / "error.log"
    before = log.stat().st_size
    documented("sed -i", own, tmp_path)

    def told() -> str:
        own.send(b"GET / HTTP/1.1\r\n\r\n")
        return "yes" if b"without" in log.read_bytes()[before:] else ""

    assert wait_for(told) == "yes"
    own.gateway.reload()


def test_a_request_log_that_was_moved_is_left_alone(own: Door, tmp_path: Path) -> None:
    """The test runs the documented line for logrotate: no request is lost, and the next one is logged in a
    new file.
    """
    own.ask("/v1/recommend", {}, headers={"X-Request-Id": "before-moving"})
    logged(own, "before-moving")
    moved = own.settings.access_log.rename(tmp_path / "access.log.1")
    documented("kill -USR1", own, tmp_path)
    wait_for(lambda: "made" if own.settings.access_log.exists() else "")
    size = moved.stat().st_size

    own.ask("/v1/recommend", {}, headers={"X-Request-Id": "after-moving"})
    assert logged(own, "after-moving")["status"] == 200
    assert moved.stat().st_size == size


def test_requests_are_counted_and_timed(own: Door) -> None:
    """The labels are route, key, status, release and model. gRPC errors count under the HTTP status of the
    same meaning.
    """
    registry = CollectorRegistry()
    metrics = RequestMetrics(own.settings.log_socket, registry)
    try:
        assert own.settings.log_socket.stat().st_mode & 0o007 == 0  # strangers count nothing
        for _ in range(3):
            own.recommend("i1")
        own.ask("/v1/recommend", {"k": 0})
        own.ask("/nowhere", key=None)
        with Recommender(own.settings.grpc, api_key="wrong") as shop, pytest.raises(Unauthorized):
            shop.recommend()
        with Recommender(own.settings.grpc, api_key=own.keys["shop"], timeout_s=5) as shop:
            shop.recommend()

        def value(name: str, **labels: str) -> float:
            return registry.get_sample_value(name, labels) or 0

        def counted(route: str, key: str, status: str, release: str = "", model: str = "") -> float:
            labels = {"route": route, "key": key, "status": status, "release": release, "model": model}
            return value("cesta_gateway_requests_total", **labels)

        wait_for(lambda: "yes" if counted("grpc", "shop", "200", "2", "recommender") else "")
        assert counted("recommend", "shop", "200", "2", "recommender") == 3
        assert counted("recommend", "shop", "400") == 1
        assert counted("other", "", "404") == 1
        assert counted("grpc", "", "401") == 1
        for route, requests in (("recommend", 3), ("grpc", 1)):
            times = [
                value(f"cesta_gateway_{name}_seconds_{kind}", route=route, release="2")
                for kind in ("count", "sum")
                for name in ("request", "upstream")
            ]
            assert times[:2] == [requests, requests]
            assert times[3] <= times[2] + 0.001 * requests  # nginx tells whole milliseconds, rounded apart
        assert value("cesta_gateway_upstream_seconds_count", route="other", release="") == 0
        assert value("cesta_gateway_unread_lines_total") == 0
    finally:
        metrics.close()
