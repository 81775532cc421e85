"""No key and no spelling of a path reaches the services behind the gateway."""

from __future__ import annotations

import json

import pytest
import tritonclient.http
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.running.door import FUZZ, PROBLEM, TIMEOUT_S, Door

pytestmark = pytest.mark.triton

HIDDEN = [
    "/v2",
    "/v2/health/ready",
    "/v2/models/recommender",
    "/v2/models/recommender/config",
    "/v2/models/recommender/stats",
    "/v2/models/recommender/generate",
    "/v2/models/recommender/generate_stream",
    "/v2/models/candidate_sampler/infer",
    "/v2/models/recommender/versions/1/infer",
    "/v2/models/recommender/trace/setting",
    "/v2/trace/setting",
    "/v2/logging",
    "/v2/repository/index",
    "/v2/repository/models/recommender/load",
    "/v2/repository/models/recommender/unload",
    "/v2/systemsharedmemory/status",
    "/v2/systemsharedmemory/region/x/register",
    "/v2/cudasharedmemory/status",
    "/metrics",
    "/_generate",
    "/_infer",
    "/docs",
    "/openapi.json",
    "/admin/",
    "/admin/..",
    "/inference.GRPCInferenceService/RepositoryIndex",
]


@pytest.mark.parametrize("key", ["shop", "admin", None])
@pytest.mark.parametrize("path", HIDDEN)
def test_management_is_not_there(door: Door, path: str, key: str | None) -> None:
    """Everyone gets 404 with any method. Paths that do not exist need no key."""
    for method in ("GET", "POST"):
        answer = door.ask(path, {} if method == "POST" else None, key=key, method=method)
        assert answer.status == 404
        assert answer.error == "no such path"


DISGUISES = [
    "/v1/../v2/repository/index",
    "/v1/recommend/../../v2/repository/index",
    "/v1/%2e%2e/v2/repository/index",
    "/v1/%2E%2E%2Fv2/repository/index",
    "/v1/..%2fv2/repository/index",
    "/v1/..%5cv2/repository/index",
    "//v2/repository/index",
    "/./v2/repository/index",
    "/%76%32/repository/index",
    "/v2;/repository/index",
    "/v1/recommend/..;/v2/repository/index",
    "/v1/recommend%00/v2/repository/index",
    "/v1/recommend/v2/repository/index",
    "/v1/recommend/",
    "/v1/recommend%20",
    "/V1/recommend",
    "/admin/%2e%2e/v1/../v2/repository/index",
    "/admin/..%2fmetrics",
    "/admin/%252e%252e/metrics",
    "/admin/releases%2f..%2f..%2fmetrics",
    "/admin/releases?x=/../../metrics",
    "http://other/v2/repository/index",
    "/v1/recommend#/v2",
]


@pytest.mark.parametrize("path", DISGUISES)
def test_no_spelling_leads_behind(door: Door, path: str) -> None:
    """No answer holds what Triton or the supervisor's other paths would have said."""
    answer = door.send(_request(door, "GET", path, key="admin"))
    status = int(answer.split()[1])

    body = answer.partition(b"\r\n\r\n")[2]
    if path == "/admin/releases?x=/../../metrics":
        assert json.loads(body)["path"] == "/admin/releases"  # matched, and passed on without the rest
    else:
        assert status in (400, 404, 405)
    assert b"recommender" not in body


def _request(
    door: Door, method: str, path: str, *headers: str, key: str = "shop", body: bytes = b""
) -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: shop",
        f"Authorization: Bearer {door.keys[key]}",
        "Content-Type: application/json",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


# ---- smuggling: what one side would read as the end of a request and the other not

HIDDEN_REQUEST = b"GET /v2/repository/index HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"2\r\n{}\r\n0\r\n\r\n"
SMUGGLED = {
    "CL and TE": (["Content-Length: 2", "Transfer-Encoding: chunked"], CHUNKED, {400}),
    "TE and CL": (["Transfer-Encoding: chunked", "Content-Length: 60"], b"0\r\n\r\n" + HIDDEN_REQUEST, {400}),
    "TE twice": (["Transfer-Encoding: chunked", "Transfer-Encoding: identity"], CHUNKED, {400}),
    "TE listed": (["Transfer-Encoding: chunked, identity"], CHUNKED, {400}),
    "TE with a tab": (["Transfer-Encoding:\tchunked"], CHUNKED, {200, 400}),
    "TE misspelt": (["Transfer-Encoding: xchunked"], CHUNKED, {400}),
    "TE with a space before the colon": (["Transfer-Encoding : chunked"], CHUNKED, {400}),
    "CL twice": (["Content-Length: 2", "Content-Length: 60"], b"{}" + HIDDEN_REQUEST, {400}),
    "CL listed": (["Content-Length: 2, 60"], b"{}" + HIDDEN_REQUEST, {400}),
    "CL with a sign": (["Content-Length: +2"], b"{}", {400}),
    "a folded header": (["X-A: b", " Transfer-Encoding: chunked", "Content-Length: 2"], b"{}", {200, 400}),
    "a bare line feed": (["X-A: b\nTransfer-Encoding: chunked", "Content-Length: 2"], b"{}", {400}),
    "a bad chunk size": (["Transfer-Encoding: chunked"], b"0x2\r\n{}\r\n0\r\n\r\n", {400}),
    "an endless chunk size": (["Transfer-Encoding: chunked"], b"f" * 40 + b"\r\n{}\r\n", {400, 413}),
    "a chunk longer than said": (["Transfer-Encoding: chunked"], b"1\r\n{}\r\n0\r\n\r\n", {400}),
}


@pytest.mark.parametrize("case", SMUGGLED)
def test_smuggled_requests_end_at_the_gateway(door: Door, case: str) -> None:
    """Triton never answers a second, hidden request, and the next caller is answered as before."""
    headers, body, statuses = SMUGGLED[case]
    received = door.send(_request(door, "POST", "/v1/recommend", *headers, body=body))

    assert int(received.split()[1]) in statuses
    assert b'"version"' not in received
    assert b"READY" not in received
    assert door.recommend("i1").status == 200


def test_a_request_id_cannot_add_headers(door: Door) -> None:
    """A line end inside the id ends the header, and an encoded line end makes the id invalid."""
    received = door.send(_request(door, "GET", "/v1/recommend", "X-Request-Id: a%0d%0aX-Evil: 1"))
    assert b"\nX-Evil" not in received
    received = door.send(_request(door, "GET", "/healthz", "X-Request-Id: a\rX-Evil: 1"))
    assert b"\nX-Evil" not in received


def test_the_supervisor_sees_who_asks_and_no_key(door: Door) -> None:
    """Values that a client sends in the gateway's own headers do not reach it."""
    forged = {"X-Cesta-Key": "root", "X-Request-Id": "mine-1", "X-Other": "y"}
    seen = door.ask("/admin/releases/7/promote", {}, key="admin", headers=forged).body

    assert (seen["method"], seen["path"]) == ("POST", "/admin/releases/7/promote")
    assert seen["headers"]["x-cesta-key"] == "admin"
    assert seen["headers"]["x-request-id"] == "mine-1"
    assert not {"authorization", "x-other"} & set(seen["headers"])
    assert "x-cesta-key" not in door.ask("/healthz", headers=forged, key=None).body["headers"]


def test_admin_is_for_admins(door: Door) -> None:
    for key, status in (("shop", 403), (None, 401), ("admin", 200)):
        assert door.ask("/admin/releases", key=key).status == status
    assert door.ask("/v1/status", key="shop").status == 200
    assert door.ask("/v1/status", key=None).status == 401


# ---- what nobody thought of

DOCUMENTED = {200, 400, 401, 403, 404, 405, 408, 413, 414, 415, 429, 431}

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)
queries = st.fixed_dictionaries(
    {},
    optional={
        name: st.lists(st.text(max_size=150), max_size=12) | values
        for name in ("basket", "exclude", "categories", "user_id", "k", "id", "queries")
    },
)
bodies = (queries | values | st.lists(queries, max_size=3).map(lambda some: {"queries": some})).map(
    lambda value: json.dumps(value).encode()
)
tokens = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=":"), min_size=1, max_size=20
)
header_values = st.text(
    st.characters(min_codepoint=0, max_codepoint=255, exclude_characters="\n"), max_size=80
)
paths = st.sampled_from(
    ["/v1/recommend", "/v1/recommend/batch", "/v1/items", "/v1/status", "/healthz", "/admin/x"]
)
requests = st.tuples(
    st.sampled_from(["POST", "POST", "GET", "PUT", "PATCH"]) | tokens,
    paths | paths | st.text(st.characters(max_codepoint=255), max_size=40).map(lambda text: "/" + text),
    st.lists(st.tuples(tokens, header_values), max_size=3),
    bodies | st.binary(max_size=300),
)


@settings(max_examples=FUZZ, deadline=None, suppress_health_check=list(HealthCheck))
@given(requests)
def test_no_request_brings_an_undocumented_answer(door: Door, request_: tuple) -> None:
    """Set FUZZ=10000 and --timeout=0 for 10,000 requests."""
    method, path, headers, body = request_
    lines = [f"{name}: {value}" for name, value in [*headers, ("Content-Length", len(body))]]
    received = door.send(_request(door, method, path, *lines, "Connection: close", body=body))

    # A first line that ends early is HTTP/0.9, whose answers have no head.
    head, _, content = received.rpartition(b"\r\n\r\n")
    status = int(head.split()[1]) if head else 400
    assert status in DOCUMENTED, received[:300]
    if status != 200 and method != "HEAD":  # that has none
        assert set(json.loads(content)) - {"pointer"} == PROBLEM


def test_the_server_still_answers(door: Door, triton: object) -> None:
    """This test runs after all of the above."""
    assert door.recommend("i1").status == 200
    with tritonclient.http.InferenceServerClient(triton.http, connection_timeout=TIMEOUT_S) as client:
        assert client.is_server_ready()
