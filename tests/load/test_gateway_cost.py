"""The gateway's cost: a share has an interval, a verdict is honest, and no two baskets are alike."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Any

import pytest

from loadtests import generators
from loadtests.gateway import cost, cost_tables, grpc_loop
from loadtests.gateway.front import open_bare_proxy
from loadtests.gateway.shares import BROKEN, KEPT, UNDECIDED, Share, ranks_outside, share_of
from loadtests.generators import Load
from loadtests.load.budgets import UnknownBudgetError, load_shares
from loadtests.questions import PLACEHOLDER, Question, with_placeholder
from loadtests.tables import DOCUMENT
from loadtests.wires import GENERATE, write_messages, write_requests
from operations.errors import CestaError
from operations.gateway.nginx import find_nginx


@pytest.mark.parametrize(("pairs", "outside"), [(1, 0), (5, 0), (6, 0), (8, 0), (9, 1), (15, 3)])
def test_the_interval_leaves_out_as_many_pairs_as_it_may(pairs: int, outside: int) -> None:
    """15 pairs: 2 · (1 + 15 + 105 + 455) / 2^15 = 0.035 lies outside of the fourth to the twelfth."""
    assert ranks_outside(pairs) == outside


def test_a_share_is_a_median_of_pairs() -> None:
    ours = [1.0, 4.0, 9.0, 80.0, 10.0, 18.0, 7.0, 16.0, 90.0]
    others = [10.0, 20.0, 30.0, 200.0, 20.0, 30.0, 10.0, 20.0, 100.0]  # shares 0.1 to 0.9, in order
    assert share_of(ours, others) == Share(0.5, 0.2, 0.8, 9)


@pytest.mark.parametrize(
    ("share", "verdict"),
    [
        (Share(0.75, 0.70, 0.80, 15), KEPT),
        (Share(0.74, 0.70, 0.75, 15), UNDECIDED),  # the interval reaches the budget
        (Share(0.74, 0.70, 0.749, 15), BROKEN),
        (Share(0.74, 0.74, 0.74, 5), UNDECIDED),  # five pairs have no interval
    ],
)
def test_a_budget_is_broken_only_with_confidence(share: Share, verdict: str) -> None:
    assert share.verdict(0.75) == verdict


def test_every_number_of_connections_has_a_budget() -> None:
    shares = load_shares(cost.BUDGET)
    assert {other: set(least) for other, least in shares.items()} == {
        "direct": set(cost.CONNECTIONS),
        "bare": set(cost.CONNECTIONS),
    }
    with pytest.raises(UnknownBudgetError, match=r"no budget \[gateway_price\]"):
        load_shares("gateway_price")


def load(rps: float) -> Load:
    return Load(requests=round(rps), seconds=1, p50_ms=1, p99_ms=2, errors=0, cpu_s=0)


def test_a_row_compares_the_gateway_with_everything_else() -> None:
    loads = {"direct": [load(100.0)] * 6, "bare": [load(80.0)] * 6, "gateway": [load(60.0)] * 6}
    row = cost.row_of(cost.Traffic("HTTP", "new", 8), loads, {"direct": {8: 0.5}, "bare": {8: 0.9}})
    told = {(share["of"], share["to"]): (share["middle"], share["verdict"]) for share in row["shares"]}
    assert told == {
        ("bare", "direct"): (0.8, ""),
        ("gateway", "direct"): (0.6, KEPT),
        ("gateway", "bare"): (0.75, BROKEN),
    }


def test_only_new_baskets_over_http_have_a_budget() -> None:
    loads = {"direct": [load(100.0)], "gateway": [load(1.0)]}
    for traffic in (cost.Traffic("HTTP", "cached", 8), cost.Traffic("gRPC", "new", 8)):
        (share,) = cost.row_of(traffic, loads, {"direct": {8: 0.5}})["shares"]
        assert (share["least"], share["verdict"]) == (None, "")


def test_the_document_has_a_place_for_the_tables() -> None:
    for part in ("gateway_run", "gateway"):
        assert f"<!-- bench:{part} -->" in DOCUMENT.read_text(encoding="utf-8")


def test_the_table_shows_share_interval_and_verdict() -> None:
    loads = {"direct": [load(1000.0)] * 6, "gateway": [load(800.0)] * 6}
    row = cost.row_of(cost.Traffic("HTTP", "new", 1), loads, {"direct": {1: 0.9}})
    result = {
        "rows": [row],
        "machine": {"cores": 2, "cpu": "any"},
        "plan": {"pairs": 6, "seconds": 2},
        "started": "now",
        "minutes": 1.0,
        "busy_cores_before": 0.0,
    }
    table = cost_tables.sections(result)["gateway"].splitlines()
    assert table[0] == "| load | asked | requests/s | p99 ms | share of direct | budget |"
    cells = (
        "HTTP, new baskets, 1 connection | the gateway | 800 | 2.00 | 0.800 (0.800 to 0.800) | 0.90 broken"
    )
    assert table[-1] == f"| {cells} |"


# ---- baskets


def test_a_basket_with_a_placeholder_keeps_the_limit() -> None:
    full = Question(tuple(f"{n:04}" for n in range(200)), "u")
    assert len(with_placeholder(full).basket) == 200
    assert with_placeholder(Question((), "u")) == Question((PLACEHOLDER,), "u")


class Hearer(ThreadingHTTPServer):
    """Keeps the body of every request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Hear)
        self.bodies: list[dict[str, Any]] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class _Hear(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hearer

    def do_POST(self) -> None:
        self.server.bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def hearer() -> Iterator[Hearer]:
    with Hearer() as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


def test_wrk_sends_no_basket_twice(hearer: Hearer, tmp_path: Path) -> None:
    if not shutil.which("wrk"):
        pytest.skip("wrk is not installed; on Debian: apt-get install wrk")
    questions = [with_placeholder(Question(("11", "22"), "u"))]
    file = write_requests(GENERATE, questions, tmp_path / "requests.bin")
    sent = generators.run_wrk(hearer.address, file, connections=2, seconds=1, fresh=True)
    assert sent.errors == 0
    numbers = [body["basket"][-1] for body in hearer.bodies]
    assert all(re.fullmatch(f"[0-9]{{{len(PLACEHOLDER)}}}", number) for number in numbers)
    assert len(set(numbers)) > 0.99 * len(numbers) > 10
    assert {(*body["basket"][:-1], body["user_id"]) for body in hearer.bodies} == {("11", "22", "u")}


def test_grpc_loop_sends_no_basket_twice(tmp_path: Path) -> None:
    from tritonclient.grpc import service_pb2

    from loadtests.wires import read_requests

    file = write_messages([with_placeholder(Question(("11",), "u"))], tmp_path / "messages.bin")
    turn, numbers = cycle(read_requests(file)), Random(1)
    filled = [grpc_loop._fill_in(turn, numbers) for _ in range(100)]
    assert len(set(filled)) == 100
    message = service_pb2.ModelInferRequest.FromString(filled[0])
    basket, user = message.raw_input_contents
    assert re.fullmatch(rb"\x02\0\0\0(11)\x09\0\0\0[0-9]{9}", basket)
    assert user == b"\x01\0\0\0u"
    assert [(tensor.name, list(tensor.shape)) for tensor in message.inputs] == [
        ("basket", [1, 2]),
        ("user_id", [1, 1]),
    ]


# ---- the bare proxy


def test_the_bare_proxy_passes_requests_on_and_logs_them(hearer: Hearer, tmp_path: Path) -> None:
    try:
        find_nginx()
    except CestaError as error:
        pytest.skip(str(error))
    from loadtests.running.servers import ask
    from loadtests.wires import Answer, Wire

    wire = Wire(
        "any", "/path", lambda question: (json.dumps(question.json).encode(), {}), lambda *_: Answer([], [])
    )
    with open_bare_proxy(tmp_path, hearer.address) as address:
        ask(address, wire, Question(("11",), "u"))
    assert hearer.bodies == [{"basket": ["11"], "user_id": "u"}]
    (line,) = map(json.loads, (tmp_path / "access.log").read_text().splitlines())
    assert (line["status"], line["method"], line["uri"]) == (200, "POST", "/path")
