"""The requests that the client sends over HTTP and gRPC, and its results for every answer and status."""

import json
import pickle

import grpc
import pytest

from cesta_client import (
    CestaError,
    InvalidRequest,
    Query,
    Recommender,
    ServerError,
    Throttled,
    TimedOut,
    Unauthorized,
    Unavailable,
    __version__,
)
from tests.running.scripted_shops import TRITON_SAID, ask, every_client, http_answer

INPUTS = [("basket", [1, 1], "BYTES"), ("user_id", [1, 1], "BYTES")]


@every_client
def test_http_carries_the_question_and_reads_the_answer(kind, http_shop):
    answer = ask(
        kind,
        http_shop.address + "/shop/",
        protocol="http",
        api_key="s3cret",
        headers={"X-Shop": "Berlin"},
        question={"request_id": "checkout-17"},
    )
    assert [(item.item_id, item.score, item.rank) for item in answer] == [("bread", 1.0, 1)]
    assert answer.release == 9
    path, headers, body = http_shop.seen[0]
    headers = {name.lower(): value for name, value in headers.items()}
    assert path == "/shop/v2/models/recommender/infer"
    assert (headers["authorization"], headers["x-shop"]) == ("Bearer s3cret", "Berlin")
    assert headers["user-agent"] == f"cesta-client/{__version__}"
    length = int(headers["inference-header-content-length"])
    sent = json.loads(body[:length])
    assert sent["id"] == "checkout-17"
    assert [(i["name"], i["shape"], i["datatype"]) for i in sent["inputs"]] == INPUTS
    assert body[length:] == b"\x04\x00\x00\x00milk" + b"\x00\x00\x00\x00"


@every_client
def test_grpc_carries_the_question_and_reads_the_answer(kind, grpc_shop):
    answer = ask(
        kind,
        grpc_shop.address,
        api_key="s3cret",
        headers={"X-Shop": "Berlin"},
        question={"request_id": "checkout-17"},
    )
    assert [(item.item_id, item.score, item.rank) for item in answer] == [("bread", 1.0, 1)]
    assert answer.release == 9
    request, metadata = grpc_shop.seen[0]
    assert (metadata["authorization"], metadata["x-shop"]) == ("Bearer s3cret", "Berlin")
    assert metadata["user-agent"].startswith(f"cesta-client/{__version__} ")  # gRPC adds its own
    assert (request.model_name, request.id) == ("recommender", "checkout-17")
    assert [(i.name, list(i.shape), i.datatype) for i in request.inputs] == INPUTS
    assert list(request.raw_input_contents) == [b"\x04\x00\x00\x00milk", b"\x00\x00\x00\x00"]


@every_client
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, InvalidRequest),
        (401, Unauthorized),
        (403, Unauthorized),
        (404, Unavailable),
        (413, InvalidRequest),
        (429, Throttled),
        (500, ServerError),
        (502, Unavailable),
        (503, Unavailable),
        (504, TimedOut),
    ],
)
@pytest.mark.parametrize(
    "body", [TRITON_SAID, b"<html>nginx</html>", b"", b"[]", b'{"detail": "no"}', b"\xff"]
)
def test_every_http_status_is_an_error_of_ours(kind, status, error, body, http_shop):
    http_shop.script = [(status, {}, body)]
    with pytest.raises(CestaError) as failed:
        ask(kind, http_shop.address, protocol="http")
    assert type(failed.value) is error
    if body is TRITON_SAID:
        assert 'category "x" is unknown' in str(failed.value)
        assert "ensemble" not in str(failed.value)
    else:
        assert str(failed.value) == f"{http_shop.address} answered HTTP {status}"


@every_client
@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("INVALID_ARGUMENT", InvalidRequest),
        ("UNAUTHENTICATED", Unauthorized),
        ("PERMISSION_DENIED", Unauthorized),
        ("NOT_FOUND", Unavailable),
        ("RESOURCE_EXHAUSTED", Throttled),
        ("UNAVAILABLE", Unavailable),
        ("DEADLINE_EXCEEDED", TimedOut),
        ("INTERNAL", ServerError),
        ("CANCELLED", ServerError),
        ("UNIMPLEMENTED", ServerError),
    ],
)
def test_every_grpc_code_is_an_error_of_ours(kind, code, error, grpc_shop):
    grpc_shop.script = [(grpc.StatusCode[code], "in ensemble 'recommender', no such luck")]
    with pytest.raises(CestaError) as failed:
        ask(kind, grpc_shop.address)
    assert type(failed.value) is error
    if error is InvalidRequest:
        assert str(failed.value) == "no such luck"


PROBLEM = {
    "type": "urn:problem-type:cesta:too_many_ids",
    "detail": "basket has 201 items; at most 200 are allowed",
    "code": "too_many_ids",
    "pointer": "/basket",
    "error": "an old sentence",
    "request_id": "r-1",
    "planted": {"field": [1]},
}


@every_client
@pytest.mark.parametrize("change", [{}, {"code": 5, "pointer": ["x"], "request_id": None}])
def test_problem_details_over_http_are_attributes_of_the_error(kind, change, http_shop):
    """Fields of newer servers are ignored, and those of another type are as none."""
    body = json.dumps(PROBLEM | change).encode()
    http_shop.script = [(400, {"Retry-After": "7"}, body)]
    with pytest.raises(InvalidRequest, match="basket has 201 items") as failed:
        ask(kind, http_shop.address, protocol="http")
    error = failed.value
    told = ("", None, "") if change else ("too_many_ids", "/basket", "r-1")
    assert (error.code, error.pointer, error.request_id) == told
    assert error.retry_after_s == 7
    assert pickle.loads(pickle.dumps(error)).pointer == error.pointer


@every_client
def test_trailers_over_grpc_are_attributes_of_the_error(kind, grpc_shop):
    def refuse(context):
        context.set_trailing_metadata((("cesta-code", "rate_exceeded"), ("retry-after", "7")))
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many requests for this key")

    grpc_shop.script = [refuse]
    with pytest.raises(Throttled, match="too many requests") as failed:
        ask(kind, grpc_shop.address)
    error = failed.value
    assert (error.code, error.pointer, error.retry_after_s) == ("rate_exceeded", None, 7)


@every_client
@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, b"<html>hello</html>"),
        ({}, b"{}"),
        ({}, b'{"outputs": []}'),
        ({}, b'{"model_version": "1", "outputs": [{"name": "item_ids"}]}'),
        ({"Inference-Header-Content-Length": "12"}, b"{}"),
        ({"Inference-Header-Content-Length": "x"}, b"{}"),
        (http_answer()[0], http_answer()[1][:-20]),
    ],
)
def test_an_http_answer_that_is_none_is_a_server_error(kind, headers, body, http_shop):
    http_shop.script = [(200, headers, body)]
    with pytest.raises(ServerError, match="cannot be read"):
        ask(kind, http_shop.address, protocol="http")


def test_an_answer_with_too_few_rows_is_a_server_error(grpc_shop):
    """The shop answers one row for two queries."""
    with Recommender(grpc_shop.address, timeout_s=10) as shop, pytest.raises(ServerError, match="shape"):
        shop.recommend_many([Query(), Query()])
