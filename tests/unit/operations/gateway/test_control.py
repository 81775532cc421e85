"""The control socket without nginx: a small server in its place answers, or fails to."""

from __future__ import annotations

import socketserver
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from structlog.testing import capture_logs

from operations.errors import CestaError
from operations.gateway.control import (
    announce,
    control_socket,
    is_listening,
    read_metrics,
    remove_stale_socket,
)
from operations.gateway.request_metrics import RequestMetrics

TEXT = """\
# HELP cesta_gateway_requests_total Requests.
# TYPE cesta_gateway_requests_total counter
cesta_gateway_requests_total{key="shop",route="recommend",status="200"} 3
# HELP cesta_gateway_request_seconds Times.
# TYPE cesta_gateway_request_seconds histogram
cesta_gateway_request_seconds_bucket{le="0.05",route="recommend"} 2
cesta_gateway_request_seconds_bucket{le="+Inf",route="recommend"} 3
cesta_gateway_request_seconds_sum{route="recommend"} 0.25
cesta_gateway_request_seconds_count{route="recommend"} 3
# HELP cesta_gateway_at_triton Waiting.
# TYPE cesta_gateway_at_triton gauge
cesta_gateway_at_triton 2
"""


class FakeGateway(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        control_socket(folder).parent.mkdir(parents=True)
        super().__init__(str(control_socket(folder)), _Answer)
        self.status, self.text = 200, TEXT
        self.may_answer = threading.Event()
        self.may_answer.set()


class _Answer(BaseHTTPRequestHandler):
    server: FakeGateway

    def do_GET(self) -> None:
        self.server.may_answer.wait(10)
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(self.server.text.encode())

    do_POST = do_GET  # noqa: N815 - the library looks for this name

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[FakeGateway]:
    with FakeGateway(tmp_path) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.may_answer.set()
        server.shutdown()


@pytest.fixture
def registry(tmp_path: Path) -> CollectorRegistry:
    registry = CollectorRegistry()
    Gauge("other", "Another metric", registry=registry).set(1)
    registry.register(RequestMetrics(tmp_path))
    return registry


def test_the_metrics_are_passed_on_as_they_are(gateway: FakeGateway, registry: CollectorRegistry) -> None:
    lines = generate_latest(registry).decode().splitlines()
    for line in TEXT.splitlines():
        name, _, value = line.rpartition(" ")
        assert line in lines or f"{name} {float(value)}" in lines


@pytest.mark.parametrize("answer", [(500, TEXT), (200, "cesta{"), (200, "\x00"), (200, "")])
def test_a_bad_answer_leaves_the_other_metrics_alone(
    gateway: FakeGateway, registry: CollectorRegistry, answer: tuple[int, str]
) -> None:
    gateway.status, gateway.text = answer
    with capture_logs():
        assert b"other 1.0" in generate_latest(registry)


def test_no_gateway_is_no_metric_and_no_error(tmp_path: Path, registry: CollectorRegistry) -> None:
    assert read_metrics(tmp_path) is None
    assert not announce(tmp_path)
    assert b"cesta_gateway" not in generate_latest(registry)


def test_a_gateway_that_hangs_costs_a_scrape_a_second(
    gateway: FakeGateway, registry: CollectorRegistry
) -> None:
    gateway.may_answer.clear()
    began = time.monotonic()
    assert b"other 1.0" in generate_latest(registry)
    assert time.monotonic() - began < 8  # the answer would come after ten


def test_a_change_is_announced_and_a_refusal_told(tmp_path: Path, gateway: FakeGateway) -> None:
    gateway.status, gateway.text = 204, ""
    assert announce(tmp_path)
    gateway.status, gateway.text = 500, "keys.json was not written by cesta keys; restore a copy of it"
    with pytest.raises(CestaError, match=r"does not take over .*: keys\.json was not written"):
        announce(tmp_path)


def test_only_a_dead_gateway_s_socket_is_removed(tmp_path: Path, gateway: FakeGateway) -> None:
    assert is_listening(tmp_path)
    with pytest.raises(CestaError, match="a gateway already runs on"):
        remove_stale_socket(tmp_path)
    gateway.shutdown()
    gateway.server_close()
    assert control_socket(tmp_path).exists()
    remove_stale_socket(tmp_path)
    assert not control_socket(tmp_path).exists()
    remove_stale_socket(tmp_path)
