"""Triton's spans, as a collector gets them over OTLP/HTTP, hang below the span that the client names.

The gateway has a share of the other requests traced.
"""

from __future__ import annotations

import json
import queue
import threading
import urllib.request
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http

from tests.running.door import Door, open_door
from tests.running.live import MODEL, Live

pytestmark = pytest.mark.triton

CLIENT_SPAN = "b7ad6b7169203331"


class Collector:
    """An OTLP/HTTP endpoint at `url`; `trace(id)` waits for the spans of one trace."""

    def __init__(self) -> None:
        arrived: queue.Queue[dict[str, Any]] = queue.Queue()

        class Endpoint(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                assert self.headers["Content-Type"] == "application/json"
                export = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()
                for resource in export["resourceSpans"]:
                    for span in (
                        scope_span for scope in resource["scopeSpans"] for scope_span in scope["spans"]
                    ):
                        arrived.put(span | {"resource": resource["resource"]})

            def log_message(self, *_: object) -> None:
                pass

        self._arrived = arrived
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1/traces"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def trace(self, trace_id: str, spans: int) -> dict[str, dict[str, Any]]:
        """Name → span of a trace of so many spans; a part's `compute` span is named after the part, too."""
        trace_spans = self.traces({trace_id}, spans)[trace_id]
        names = {span["spanId"]: span["name"] for span in trace_spans}
        return {
            f"{names[span['parentSpanId']]}.compute" if span["name"] == "compute" else span["name"]: span
            for span in trace_spans
        }

    def traces(self, trace_ids: Set[str], spans: int) -> dict[str, list[dict[str, Any]]]:
        """Trace → its spans, so many of each, in any order: the last span of one trace may come after the
        next trace's.
        """
        received: dict[str, list[dict[str, Any]]] = {trace_id: [] for trace_id in trace_ids}
        while any(len(some) < spans for some in received.values()):
            try:
                span = self._arrived.get(timeout=15)
            except queue.Empty:
                names = {trace: [span["name"] for span in some] for trace, some in received.items()}
                pytest.fail(f"of {spans} spans each there are only {names}")
            assert span["traceId"] in received, f"nobody asked for a trace of {span}"
            received[span["traceId"]].append(span)
        return received


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


@pytest.fixture(scope="module")
def traced(serve_built: Callable[..., Live], collector: Collector) -> Live:
    """A server started as docs/observability.md says; it traces only requests that bring a traceparent."""
    settings = ("mode=opentelemetry", "level=TIMESTAMPS", "rate=0", f"opentelemetry,url={collector.url}")
    more = ("opentelemetry,resource=service.name=cesta", "opentelemetry,bsp_schedule_delay=100")
    return serve_built(extra_args=tuple(f"--trace-config={setting}" for setting in (*settings, *more)))


def over_http(traced: Live, headers: dict[str, str], request_id: str, basket: str) -> None:
    body = json.dumps({"basket": [basket], "id": request_id}).encode()
    url = f"http://{traced.http}/v2/models/{MODEL}/generate"
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=30) as answer:
        assert answer.status == 200


def over_grpc(traced: Live, headers: dict[str, str], request_id: str, basket: str) -> None:
    with tritonclient.grpc.InferenceServerClient(traced.grpc) as client:
        tensor = tritonclient.grpc.InferInput("basket", [1, 1], "BYTES")
        tensor.set_data_from_numpy(np.array([[basket.encode()]], object))
        client.infer(MODEL, [tensor], request_id=request_id, headers=headers)


@pytest.mark.parametrize("ask", [over_http, over_grpc])
def test_every_stage_of_a_traced_request_is_a_span_below_the_client_s(
    traced: Live, collector: Collector, ask: Callable[..., None]
) -> None:
    """The spans are the request, the ensemble, and queue and work of each part, all with the request's id."""
    trace_id = f"{ask.__name__.encode().hex():0>32}"
    ask(traced, {}, "untraced", f"{ask.__name__} 1")
    ask(traced, {"traceparent": f"00-{trace_id}-{CLIENT_SPAN}-01"}, "basket-42", f"{ask.__name__} 2")

    spans = collector.trace(trace_id, spans=6)
    parents = {
        "InferRequest": CLIENT_SPAN,
        "recommender": spans["InferRequest"]["spanId"],
        "candidate_sampler": spans["recommender"]["spanId"],
        "candidate_sampler.compute": spans["candidate_sampler"]["spanId"],
        "ncf_scorer": spans["recommender"]["spanId"],
        "ncf_scorer.compute": spans["ncf_scorer"]["spanId"],
    }
    assert {name: span["parentSpanId"] for name, span in spans.items()} == parents
    assert {"key": "service.name", "value": {"stringValue": "cesta"}} in spans["InferRequest"]["resource"][
        "attributes"
    ]
    for model in ("recommender", "candidate_sampler", "ncf_scorer"):
        attributes = {a["key"]: next(iter(a["value"].values())) for a in spans[model]["attributes"]}
        assert attributes["triton.request_id"] == "basket-42"
        assert int(attributes["triton.model_version"]) == traced.release


def test_an_answer_from_the_cache_has_no_spans_of_the_parts(traced: Live, collector: Collector) -> None:
    """Nothing was sampled or scored; only the request and the ensemble have spans."""
    over_http(traced, {}, "", "asked twice")
    over_http(traced, {"traceparent": f"00-{'c' * 32}-{CLIENT_SPAN}-01"}, "", "asked twice")
    assert set(collector.trace("c" * 32, spans=2)) == {"InferRequest", "recommender"}


# ---- behind the gateway


@contextmanager
def gateway(folder: Path, traced: Live, share: str) -> Iterator[Door]:
    from operations.errors import CestaError

    try:
        door = open_door(folder, triton_http=traced.http, traced=share)
    except CestaError as error:
        if "apt-get install" in str(error):
            pytest.skip(str(error))
        raise
    try:
        yield door
    finally:
        door.gateway.stop()


def shop_asks(door: Door, wire: str, basket: str, headers: dict[str, str]) -> None:
    if wire == "json":
        assert door.recommend(basket, headers=headers).status == 200
        return
    kind = {"grpc": tritonclient.grpc, "http": tritonclient.http}[wire]
    tensor = kind.InferInput("basket", [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[basket.encode()]], object))
    with kind.InferenceServerClient(door.settings.grpc if wire == "grpc" else door.settings.http) as client:
        client.infer(MODEL, [tensor], headers=headers | {"authorization": f"Bearer {door.keys['shop']}"})


def logged_traces(door: Door) -> dict[str, str]:
    """Request id → the traceparent that Triton got, from the log of a gateway that has stopped."""
    logged = [json.loads(line) for line in door.settings.access_log.read_text().splitlines()]
    return {line["request_id"]: line["trace"] for line in logged}


WIRES = ("json", "grpc", "http")


def test_the_gateway_has_the_share_traced_that_it_is_told(
    traced: Live, collector: Collector, tmp_path: Path
) -> None:
    """At 100 % it is each request; the trace is in the gateway's log."""
    with gateway(tmp_path, traced, "100%") as door:
        for wire in WIRES:
            shop_asks(door, wire, f"traced over {wire}", {"x-request-id": f"traced-{wire}"})
    traces = logged_traces(door)
    received = collector.traces({traces[f"traced-{wire}"].split("-")[1] for wire in WIRES}, spans=6)
    assert [len(spans) for spans in received.values()] == [6] * len(WIRES)


def test_the_gateway_leaves_the_rest_alone_but_for_what_a_client_has_traced(
    traced: Live, collector: Collector, tmp_path: Path
) -> None:
    """A client's own span is kept if its sampled flag is set. Any other trace fails the test, except for one
    request in 10,000, which the gateway's log marks as traced.
    """
    client_headers = {flag: {"traceparent": f"00-{'d' * 32}-{CLIENT_SPAN}-{flag}"} for flag in ("00", "01")}
    with gateway(tmp_path / "alone", traced, "0.01%") as door:
        for wire in WIRES:
            shop_asks(
                door, wire, f"not wanted over {wire}", client_headers["00"] | {"x-request-id": f"not-{wire}"}
            )
            shop_asks(door, wire, f"left alone over {wire}", {"x-request-id": f"alone-{wire}"})
    traces = logged_traces(door)
    assert [traces[f"not-{wire}"] for wire in WIRES] == [""] * 3
    by_chance = [traces[f"alone-{wire}"] for wire in WIRES if traces[f"alone-{wire}"]]
    assert len(by_chance) <= 1
    for trace in by_chance:
        collector.trace(trace.split("-")[1], spans=6)

    with gateway(tmp_path / "asked", traced, "0.01%") as door:
        for wire in WIRES:
            shop_asks(door, wire, f"asked for over {wire}", client_headers["01"])
            spans = collector.trace("d" * 32, spans=6)
            assert spans["InferRequest"]["parentSpanId"] == CLIENT_SPAN
