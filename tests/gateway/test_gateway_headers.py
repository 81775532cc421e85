"""Headers have the meaning that a path gives them, and no other: conditions and ranges among them."""

from __future__ import annotations

import json

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.running.door import TIMEOUT_S, Door
from tests.running.gateway_log import read_log_line
from tests.running.processes import children

pytestmark = pytest.mark.triton

PAST, FUTURE = "Thu, 01 Jan 1970 00:00:01 GMT", "Fri, 01 Jan 2100 00:00:00 GMT"
CONDITIONS = {
    "If-Match": '"x"',
    "If-Unmodified-Since": PAST,
    "If-None-Match": "*",
    "If-Modified-Since": FUTURE,
    "Range": "bytes=0-1",
    "If-Range": '"x"',
}
ROUTES = [
    ("POST", "/v1/recommend", {"basket": ["i1"]}, 200),
    ("POST", "/v1/recommend/batch", {"queries": [{}]}, 200),
    ("POST", "/v1/recommend", {"k": 0}, 400),
    ("POST", "/v1/recommend", b" " * 70_000, 413),
    ("POST", "/v2/models/recommender/infer", b"{}", 400),
    ("GET", "/v1/status", None, 200),
    ("GET", "/healthz", None, 200),
    ("HEAD", "/readyz", None, 200),
    ("GET", "/admin/releases", None, 200),
    ("POST", "/admin/rollback", {}, 202),
    ("GET", "/nowhere", None, 404),
    ("PUT", "/v1/status", None, 405),
]


@pytest.mark.parametrize("header", CONDITIONS)
def test_conditions_mean_nothing(door: Door, header: str) -> None:
    """Each answer is that of the same request without the header, and no worker ends."""
    workers = children(door.gateway.pid)
    for method, path, body, status in ROUTES:
        sent = {header: CONDITIONS[header]}
        answer = door.ask(path, body, key="admin", method=method, headers=sent)
        assert answer.status == status, (method, path)
        assert "content-range" not in answer.headers
        assert door.ask(path, body, key=None, method=method, headers=sent).status in (200, 401, 404, 413)
    assert children(door.gateway.pid) == workers


@pytest.mark.parametrize("header", CONDITIONS)
def test_conditions_mean_nothing_over_grpc(door: Door, header: str) -> None:
    """The metadata of a good question, a bad one, one that is too large, and one of a stranger."""
    workers = children(door.gateway.pid)
    good, bad, large = (service_pb2.ModelInferRequest(model_name=name) for name in ("recommender", "x", "x"))
    good.inputs.add(name="basket", shape=[1, 1], datatype="BYTES")
    good.raw_input_contents.append(b"\x02\0\0\0i1")
    large.raw_input_contents.append(b" " * 70_000)
    metadata = [(header.lower(), CONDITIONS[header])]
    known = [("authorization", f"Bearer {door.keys['shop']}")]
    with grpc.insecure_channel(door.settings.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)

        def code(request: service_pb2.ModelInferRequest, *more: tuple[str, str]) -> str:
            try:
                stub.ModelInfer(request, timeout=TIMEOUT_S, metadata=[*metadata, *more])
            except grpc.RpcError as error:
                return error.code().name
            return "OK"

        assert code(good, *known) == "OK"
        assert code(bad, *known) == code(large, *known) == "INVALID_ARGUMENT"
        assert code(good) == "UNAUTHENTICATED"
    assert children(door.gateway.pid) == workers


def test_a_hundred_headers_are_enough(door: Door) -> None:
    """More would take long to drop. A condition behind them means nothing, either."""
    workers = children(door.gateway.pid)
    many = {f"X-{n}": "1" for n in range(120)} | CONDITIONS
    assert door.ask("/v1/recommend", {}, headers=dict(list(many.items())[:80])).status == 200
    for path, key in (("/v1/recommend", "shop"), ("/v1/recommend", None), ("/healthz", None)):
        assert door.ask(path, key=key, headers=many).status == 431
    request = service_pb2.ModelInferRequest(model_name="recommender")
    metadata = [(name.lower(), text) for name, text in many.items()]
    with grpc.insecure_channel(door.settings.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError):
            stub.ModelInfer(request, timeout=TIMEOUT_S, metadata=metadata)
    assert children(door.gateway.pid) == workers


def test_items_keep_their_condition(own_door: Door) -> None:
    """Only If-None-Match has a meaning, and only there."""
    (own_door.settings.folder / "items.json").write_text(json.dumps({"items": {}}))
    answer = own_door.ask("/v1/items")
    tag = answer.headers["etag"]
    for header, value in CONDITIONS.items():
        expected = 304 if header == "If-None-Match" else 200
        assert own_door.ask("/v1/items", headers={header: value}).status == expected, header
    assert own_door.ask("/v1/items", headers={"If-None-Match": tag}).status == 304
    assert own_door.ask("/v1/items", headers={"If-None-Match": '"other"'}).status == 200


# ---- a path has one spelling


def test_the_supervisor_gets_no_header_that_its_server_cannot_read(door: Door) -> None:
    """An Idempotency-Key that cannot be passed on is refused: a change that ignored it could run twice."""
    for values in (["a\x01"], ["\x7f"], ["\xe9"], ["x" * 256], [""], ["one", "two"]):
        sent = "".join(f"Idempotency-Key: {value}\r\n" for value in values)
        assert b"Idempotency-Key is one header of 1 to 255 printable" in change(door, sent)
    passed = json.loads(
        change(door, "Idempotency-Key: night 42\r\nX-Cesta-Key: root\r\nX-Cesta-Admin: x\r\n")
    )
    told = passed["headers"]
    assert (told["idempotency-key"], told["x-cesta-key"]) == ("night 42", "admin")
    assert (told["content-type"], told.get("x-cesta-admin")) == ("application/json", None)
    for kind, read in (
        ("text/plain\x01", "application/octet-stream"),
        ("Application/JSON;\x01", "application/json"),
    ):
        assert json.loads(change(door, "", kind))["headers"]["content-type"] == read


def change(door: Door, headers: str, kind: str = "application/json") -> bytes:
    """The body of the answer."""
    head = f"POST /admin/rollback HTTP/1.1\r\nHost: shop\r\nAuthorization: Bearer {door.keys['admin']}\r\n"
    sent = f"{head}Content-Type: {kind}\r\nContent-Length: 2\r\nConnection: close\r\n{headers}\r\n{{}}"
    return door.send(sent.encode("latin-1")).partition(b"\r\n\r\n")[2]


RESPELT = [
    "/v1/recommend%20",
    "/v1/recommend%0a",
    "//v1/recommend",
    "/v1//recommend",
    "/v1/%72ecommend",
    "/v1/x/../recommend",
    "/v1/./recommend",
    "/v1/recommend/",
    "/v1/recommend;a",
    "/V1/recommend",
    "/readyz%0a",
    "/%72eadyz",
    "/healthz/",
    "/v1/status%0a",
    "/admin/releases%0a",
    "/admin//releases",
    "/admin/%72eleases",
    "/v2/models/recommender/infer%0a",
    "/v2/models//recommender/infer",
]


@pytest.mark.parametrize("path", RESPELT)
def test_another_spelling_of_a_path_is_404(own_door: Door, path: str) -> None:
    """The log calls it `other`, as it is."""
    request_id = f"respelt-{RESPELT.index(path)}"
    received = own_door.send(
        f"POST {path} HTTP/1.1\r\nHost: shop\r\nAuthorization: Bearer {own_door.keys['admin']}\r\n"
        "Content-Type: application/json\r\nContent-Length: 2\r\n"
        f"X-Request-Id: {request_id}\r\n\r\n{{}}".encode()
    )
    assert received.startswith(b"HTTP/1.1 404 "), received
    line = read_log_line(own_door, request_id)
    assert (line["route"], line["status"]) == ("other", 404)


def test_what_follows_a_question_mark_does_not_matter(own_door: Door) -> None:
    answer = own_door.ask("/v1/recommend?x=/../y", {}, headers={"X-Request-Id": "questioned"})
    assert answer.status == 200
    assert read_log_line(own_door, "questioned")["route"] == "recommend"
