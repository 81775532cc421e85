"""Requests that no client of ours sends are refused in a sentence; each refusal affects no other request."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from tests.running.live import MODEL, Live
from tests.running.raw_requests import (
    GENERATE,
    INFER,
    WIRES,
    binary,
    check_text,
    grpc_request,
    numbers,
    one_query,
    packed,
    send,
    send_grpc,
    send_together,
    tensor,
)

pytestmark = [pytest.mark.triton, pytest.mark.timeout(120), pytest.mark.usefixtures("still_answering")]

# ---- what the sampler refuses


FULL = 16  # requests that keep the sampler busy for longer than the others need to arrive
OURS = {
    "201 items": ({"basket": numbers(201)}, "basket has 201 items; at most 200 are allowed"),
    "1001 excludes": ({"exclude": numbers(1001)}, "exclude has 1001 ids; at most 1000 are allowed"),
    "101 categories": ({"categories": numbers(101)}, "categories has 101 ids; at most 100 are allowed"),
    "a long item": (
        {"basket": [b"x" * 129]},
        f'basket holds an id of 129 bytes; at most 128 are allowed: "{"x" * 40}…"',
    ),
    "a long user": (
        {"user_id": [b"y" * 1000]},
        f'user_id holds an id of 1000 bytes; at most 128 are allowed: "{"y" * 40}…"',
    ),
    "a long exclude": (
        {"exclude": [b"z" * 129]},
        f'exclude holds an id of 129 bytes; at most 128 are allowed: "{"z" * 40}…"',
    ),
    "an item of other bytes": (
        {"basket": [b"k\xe4se"]},
        'basket holds an id that is not UTF-8 at byte 1: "k\\xe4se"',
    ),
    "a user of other bytes": (
        {"user_id": [b"\xff"]},
        'user_id holds an id that is not UTF-8 at byte 0: "\\xff"',
    ),
}


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("case", OURS)
def test_what_the_contract_forbids_is_refused_with_value_and_limit(
    uncached: Live, case: str, wire: str
) -> None:
    """The refusal is one sentence, after Triton's own words about the ensemble, on every protocol."""
    ids, sentence = OURS[case]
    status, text = WIRES[wire](uncached, ids)

    assert status in (400, "INVALID_ARGUMENT")
    assert text.startswith(f"in ensemble 'recommender', {sentence}")
    check_text(uncached, text)


def test_one_bad_query_refuses_its_whole_request(uncached: Live) -> None:
    """A request is answered whole or not at all."""
    status, text = send(uncached, INFER, {"inputs": [tensor("basket", ["", "x" * 129], [2, 1])]})

    assert (status, "129 bytes" in text) == (400, True)


@pytest.mark.parametrize("wire", WIRES)
def test_an_unknown_category_is_a_warning_on_every_protocol(uncached: Live, wire: str) -> None:
    """A release that renames a category must not break a page. The list is empty, not unfiltered."""
    status, text = WIRES[wire](uncached, {"categories": [b"no such shelf"]})
    assert status in (200, "OK")
    if wire == "generate":
        answer = json.loads(text)
        assert answer["digest"][1:] == ["unknown_category:no such shelf"]
        assert set(answer["item_ids"]) == {""}


@pytest.mark.alone
def test_bad_requests_leave_those_of_the_same_batch_alone(uncached: Live) -> None:
    """Full requests keep the sampler busy while others queue up. Repeated until a batch was formed."""
    good = [one_query({"basket": [item.encode()]}) for item in uncached.item_ids[:6]]
    expected = [_item_ids(answer) for _, answer in send_together(uncached, good)]
    items = packed(*(item.encode() for item in uncached.item_ids[:200])) * 64
    excluded = packed(*(item.encode() for item in uncached.item_ids[200:1200])) * 64
    full = [grpc_request(("basket", [64, 200]), ("exclude", [64, 1000]), raw=[items, excluded])] * FULL
    requests = [*full, *good, *(one_query(ids) for ids, _ in OURS.values())]
    executions = len(requests)
    while executions == len(requests):
        before = _settled(uncached, 0)
        answers = send_together(uncached, requests, timeout_s=60)[FULL:]
        after = _settled(uncached, before["success"] + before["fail"] + len(requests))
        executions = after["execution"] - before["execution"]

        assert [_item_ids(answer) for _, answer in answers[: len(good)]] == expected
        for (code, text), (_, sentence) in zip(answers[len(good) :], OURS.values(), strict=True):
            assert (code, sentence in text) == ("INVALID_ARGUMENT", True)


def _item_ids(answer: service_pb2.ModelInferResponse) -> bytes:
    raw = zip(answer.outputs, answer.raw_output_contents, strict=True)
    return {output.name: content for output, content in raw}["item_ids"]


def _settled(live: Live, requests: int) -> dict[str, int]:
    """The sampler's counts once it has counted so many requests: Triton answers first and counts later."""
    while True:
        counts = live.counts("candidate_sampler")
        if counts["success"] + counts["fail"] >= requests:
            return counts


# ---- what Triton refuses

ITEM = tensor("basket", ["a"])
REFUSED = {
    "no input": ({"inputs": []}, "out of bounds index 0: request has 0 inputs"),
    "rank 1": ({"inputs": [ITEM | {"shape": [1]}]}, "Expected [-1,-1], got [1]"),
    "rank 3": ({"inputs": [ITEM | {"shape": [1, 1, 1]}]}, "Expected [-1,-1], got [1,1,1]"),
    "rank 0": ({"inputs": [ITEM | {"shape": []}]}, "has no shape"),
    "two users of one query": ({"inputs": [tensor("user_id", ["a", "b"])]}, "Expected [-1,1], got [1,2]"),
    "2**40 items": ({"inputs": [ITEM | {"shape": [1, 2**40]}]}, "expected 1099511627776 string elements"),
    "2**63 items": ({"inputs": [ITEM | {"shape": [1, 2**63]}]}, "expecting -9223372036854775808"),
    "2**64 items in all": ({"inputs": [ITEM | {"shape": [2**62, 4]}]}, "string elements"),
    "0 queries of 1 item": ({"inputs": [tensor("basket", [], [0, 1])]}, "expected 1 string elements"),
    "65 queries": ({"inputs": [tensor("basket", ["a"] * 65, [65, 1])]}, "batch-size must be <= 64"),
    "unequal batches": (
        {"inputs": [tensor("basket", ["a", "b"], [2, 1]), tensor("exclude", ["a"] * 3, [3, 1])]},
        "batch size does not match",
    ),
    "too few ids": ({"inputs": [ITEM | {"shape": [1, 2]}]}, "expected 2 string elements"),
    "too many ids": ({"inputs": [ITEM | {"data": ["a", "b"]}]}, "expecting 1"),
    "no data": ({"inputs": [{k: ITEM[k] for k in ("name", "shape", "datatype")}]}, "But no field is set"),
    "an input that is a number": ({"inputs": [1]}, "But no field is set"),
    "INT32": ({"inputs": [tensor("basket", [1], datatype="INT32")]}, "'INT32', but model"),
    "no such type": ({"inputs": [ITEM | {"datatype": "STRING"}]}, "invalid datatype for input basket"),
    "a misspelt name": ({"inputs": [ITEM | {"name": "bakset"}]}, "unexpected inference input 'bakset'"),
    "one name too many": ({"inputs": [ITEM, ITEM | {"name": "k"}]}, "unexpected inference input 'k'"),
    "one input twice": ({"inputs": [ITEM, ITEM]}, "input 'basket' already exists"),
    "a misspelt output": ({"inputs": [ITEM], "outputs": [{"name": "score"}]}, "inference output 'score'"),
    "a list of parameters": ({"inputs": [ITEM], "parameters": {"k": [10]}}, "parameter 'k' has invalid type"),
    "nothing": ("", "Raw request must only have 1 input"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_the_config_is_refused(uncached: Live, case: str) -> None:
    body, words = REFUSED[case]
    status, text = send(uncached, INFER, body)

    assert (status, words in text) == (400, True), text
    check_text(uncached, text)


ONE = ("basket", [1, 1], 5)
REFUSED_BINARY = {
    "shorter than said": (*binary([("basket", [1, 1], 50)], packed(b"a")), "expecting 45 additional bytes"),
    "longer than said": (*binary([ONE], packed(b"a") + b"more"), "unexpected additional input data"),
    "an id beyond the end": (
        *binary([ONE], struct.pack("<I", 1000) + b"a"),
        "expecting string of length 1000",
    ),
    "an id of 4 GiB": (*binary([ONE], b"\xff\xff\xff\xffa"), "expecting string of length 4294967295"),
    "half a length": (*binary([("basket", [1, 1], 2)], b"\0\0"), "incomplete string length indicator"),
    "too few ids": (*binary([("basket", [1, 2], 5)], packed(b"a")), "expected 2 string elements"),
    "too many ids": (*binary([("basket", [1, 1], 10)], packed(b"a", b"b")), "expecting 1"),
    "no bytes": (*binary([("basket", [1, 1], 0)], b""), "expected 1 string elements"),
    "2**40 ids": (
        *binary([("basket", [1, 2**40], 5)], packed(b"a")),
        "expected 1099511627776 string elements",
    ),
    "a head longer than the body": (
        b"{}",
        {"Inference-Header-Content-Length": "3"},
        "should be in range (0, 2)",
    ),
    "a head of -1 bytes": (b"{}", {"Inference-Header-Content-Length": "-1"}, "should be in range (0, 2)"),
    "a head of no number": (b"{}", {"Inference-Header-Content-Length": "two"}, "Raw request must only have"),
    "gzip that is none": (b"{}", {"Content-Encoding": "gzip"}, "Raw request must only have 1 input"),
}


@pytest.mark.parametrize("case", REFUSED_BINARY)
def test_binary_data_of_the_wrong_length_is_refused(uncached: Live, case: str) -> None:
    body, headers, words = REFUSED_BINARY[case]
    status, text = send(uncached, INFER, body, headers)

    assert (status, words in text) == (400, True), text
    check_text(uncached, text)


REFUSED_BY_GENERATE = {
    "no input": ({}, "out of bounds index 0: request has 0 inputs"),
    "a misspelt list": ({"bakset": ["a"]}, "parameter 'bakset' has invalid type"),
    "one key twice": ('{"basket": ["a"], "basket": ["b"]}', "input 'basket' already exists"),
    "no user": ({"user_id": []}, "expected 1 string elements"),
    "two users of one basket": ({"basket": ["a"], "user_id": ["a", "b"]}, "batch size does not match"),
    "65 users": ({"user_id": ["a"] * 65}, "batch-size must be <= 64"),
}


@pytest.mark.parametrize("case", REFUSED_BY_GENERATE)
def test_generate_refuses_what_does_not_fit_the_config(uncached: Live, case: str) -> None:
    body, words = REFUSED_BY_GENERATE[case]
    status, text = send(uncached, GENERATE, body)

    assert (status, words in text) == (400, True), text
    check_text(uncached, text)


A = packed(b"a")
REFUSED_BY_GRPC = {
    "no input": (grpc_request(), "request has 0 inputs"),
    "no data": (grpc_request(("basket", [1, 1])), "unable to find data for input tensor 'basket'"),
    "data twice": (grpc_request(("basket", [1, 1], "BYTES", [b"a"]), raw=[A]), "must not be specified"),
    "rank 1": (grpc_request(("basket", [1]), raw=[A]), "Expected [-1,-1], got [1]"),
    "rank 3": (grpc_request(("basket", [1, 1, 1]), raw=[A]), "Expected [-1,-1], got [1,1,1]"),
    "-1 items": (grpc_request(("basket", [1, -1]), raw=[A]), "All input dimensions should be specified"),
    "-1 queries": (grpc_request(("basket", [-1, 1]), raw=[A]), "expected 4294967295 string elements"),
    "-5 items": (grpc_request(("basket", [1, -5]), raw=[A]), "expecting -5"),
    "-2**63 items": (grpc_request(("basket", [1, -(2**63)]), raw=[A]), "expecting -9223372036854775808"),
    "2**40 items": (grpc_request(("basket", [1, 2**40]), raw=[A]), "expected 1099511627776 string elements"),
    "65 queries": (grpc_request(("basket", [65, 1]), raw=[A * 65]), "batch-size must be <= 64"),
    "two users": (grpc_request(("user_id", [1, 2]), raw=[A * 2]), "Expected [-1,1], got [1,2]"),
    "too few ids": (grpc_request(("basket", [1, 2]), raw=[A]), "expected 2 string elements"),
    "too many ids": (grpc_request(("basket", [1, 1]), raw=[A * 2]), "expecting 1"),
    "an id of 4 GiB": (grpc_request(("basket", [1, 1]), raw=[b"\xff\xff\xff\xffa"]), "length 4294967295"),
    "INT32": (grpc_request(("basket", [1, 1], "INT32"), raw=[b"\0\0\0\0"]), "'INT32', but model"),
    "no such type": (grpc_request(("basket", [1, 1], "STRING"), raw=[A]), "data-type is '<invalid>'"),
    "a misspelt name": (grpc_request(("bakset", [1, 1]), raw=[A]), "unexpected inference input 'bakset'"),
    "a version of letters": (grpc_request(model_version="new"), "version should be an integral value > 0"),
}


@pytest.mark.parametrize("case", REFUSED_BY_GRPC)
def test_grpc_refuses_what_does_not_fit_the_config(uncached: Live, case: str) -> None:
    request, words = REFUSED_BY_GRPC[case]
    code, text = send_grpc(uncached, request)

    assert (code, words in text) == ("INVALID_ARGUMENT", True), text
    check_text(uncached, text)


@pytest.mark.parametrize(
    ("model", "version", "words"),
    [
        ("no_such_model", "", "Request for unknown model: 'no_such_model' is not found"),
        (MODEL, "99", "Request for unknown model: 'recommender' version 99 is not found"),
    ],
)
def test_unknown_models_and_versions_are_not_found(
    uncached: Live, model: str, version: str, words: str
) -> None:
    path = f"/v2/models/{model}{'/versions/' + version if version else ''}"

    assert send(uncached, f"{path}/infer", {"inputs": [ITEM]}) == (404, words)
    assert send(uncached, f"{path}/generate", {"basket": ["a"]}) == (404, words)
    assert send_grpc(uncached, grpc_request(model_name=model, model_version=version)) == ("NOT_FOUND", words)


@pytest.mark.parametrize("name", ["basket", "user_id", "exclude", "categories"])
def test_the_sampler_itself_refuses_a_batch_that_lost_its_axis(uncached: Live, name: str) -> None:
    """2**32 queries pass Triton's checks as none. The request then has no batch axis, and fails alone."""
    request = grpc_request((name, [2**32, 1]), raw=[A], model_name="candidate_sampler")

    assert send_grpc(uncached, request) == (
        "INVALID_ARGUMENT",
        f"{name} is a batch of 0 queries; at least 1 is needed",
    )


def test_the_largest_request_in_the_contract_is_answered(uncached: Live) -> None:
    """It has 64 queries with every list full, of the longest ids: 11 MB of ids, all unknown."""
    lists = {"basket": 200, "exclude": 1000}
    ids = {name: np.array([b"%0128d" % n for n in range(64 * count)]) for name, count in lists.items()}
    inputs = [(name, [64, count]) for name, count in lists.items()]
    request = grpc_request(*inputs, raw=[packed(*values.tolist()) for values in ids.values()])

    assert send_grpc(uncached, request) == ("OK", "")
