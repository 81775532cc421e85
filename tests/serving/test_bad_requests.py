"""Requests that no client of ours sends: each is refused in a sentence, alone, and the next one is answered.

What tritonserver 2.51 itself gets wrong; what is safe to send is pinned below, so that an upgrade shows:

- Malformed JSON, and JSON of the wrong types, is answered 500 where 400 is meant (`MALFORMED`).
- The response cache looks at names and bytes of inputs alone. Equal bytes of another shape, and requests for
  fewer outputs, get the answer that happens to be cached, and poison it for those that follow.
- A batch size is cut to 32 bits: 2**32 + 1 queries pass for 1, and 2**32 for a request without a batch axis,
  as do 0 queries; the answer then has no batch axis either.
- `generate` flattens nested lists, takes a list of n user ids for a batch of n, and passes over unknown keys
  with text or numbers as "parameters": a misspelt key is not noticed beside a right one.
- A request without any input is refused with "out of bounds index 0".

Not sent here, found by hand on a server thrown away afterwards:

- V2 JSON makes room for a tensor of numbers by its shape, before the config is looked at: 100 bytes of
  {"inputs": [{"name": "basket", "shape": [1, 2**40], "datatype": "INT32", "data": [1]}]} end the whole server
  (SIGABRT; SIGSEGV where shape times size overflows), and smaller shapes take that much memory. BYTES, binary
  data, gRPC and `generate` are not affected, so `infer` over HTTP is for trusted callers alone.
- 100,000 nested "[" in a JSON body overflow the usual stack of 8 MiB and end the whole server. `Server`
  starts it with a stack limit of 1 GiB, which is tested below; elsewhere `ulimit -s` must do that.
- A batch of 0 sent to `candidate_sampler` itself ([0, 0], no data) is never scheduled and never answered.
"""

from __future__ import annotations

import http.client
import json
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.running.live import MODEL, Live
from tests.running.questions import Question, over_generate, over_grpc

pytestmark = [pytest.mark.triton, pytest.mark.timeout(120)]

TIMEOUT_S = 5  # an answer that takes longer counts as none
INFER, GENERATE = f"/v2/models/{MODEL}/infer", f"/v2/models/{MODEL}/generate"

Ids = Mapping[str, Sequence[bytes]]  # input → ids of one query


@pytest.fixture(autouse=True)
def still_answering(uncached: Live) -> Iterator[None]:
    """Every test here ends with a good question, answered as before."""
    before = good_answer(uncached)
    yield
    assert good_answer(uncached) == before


def good_answer(live: Live) -> list[str]:
    reply = over_generate(live, [Question(tuple(live.item_ids[:3]), live.user_ids[0])])
    assert reply.item_ids.shape == (1, 20)
    return reply.item_ids[0].tolist()


# ---- how to send anything


def send(
    live: Live, path: str, body: bytes | str | object, headers: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Status and error text; the answer's own text where there is no error."""
    connection = http.client.HTTPConnection(live.http, timeout=TIMEOUT_S)
    try:
        connection.request(
            "POST", path, body if isinstance(body, bytes | str) else json.dumps(body), headers or {}
        )
        response = connection.getresponse()
        text = response.read().decode(errors="backslashreplace")
    finally:
        connection.close()
    return response.status, json.loads(text)["error"] if response.status != 200 else text


def send_grpc(live: Live, request: service_pb2.ModelInferRequest) -> tuple[str, str]:
    """gRPC's code and text; ("OK", "") for an answer."""
    with grpc.insecure_channel(live.grpc) as channel:
        try:
            service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            return error.code().name, error.details()
    return "OK", ""


def tensor(name: str, data: Sequence[Any], shape: object = None, datatype: str = "BYTES") -> dict[str, Any]:
    shape = [1, len(data)] if shape is None else shape
    return {"name": name, "shape": shape, "datatype": datatype, "data": list(data)}


def packed(*ids: bytes) -> bytes:
    """Triton's BYTES: each with its length in front."""
    return b"".join(struct.pack("<I", len(value)) + value for value in ids)


def binary(inputs: Sequence[tuple[str, object, object]], data: bytes) -> tuple[bytes, dict[str, str]]:
    """V2 with binary tensors, (name, shape, declared size): body and headers."""
    described = [
        {"name": name, "shape": shape, "datatype": "BYTES", "parameters": {"binary_data_size": size}}
        for name, shape, size in inputs
    ]
    head = json.dumps({"inputs": described}).encode()
    return head + data, {"Inference-Header-Content-Length": str(len(head))}


def grpc_request(*inputs: tuple[Any, ...], raw: Sequence[bytes] = (), **fields: Any) -> Any:
    """(name, shape[, datatype[, explicit contents]]) per input."""
    request = service_pb2.ModelInferRequest(**({"model_name": MODEL} | fields))
    for name, shape, datatype, *contents in ((*i, "BYTES")[: max(3, len(i))] for i in inputs):
        added = request.inputs.add(name=name, shape=shape, datatype=datatype)
        for values in contents:
            added.contents.bytes_contents.extend(values)
    request.raw_input_contents.extend(raw)
    return request


def by_json(live: Live, ids: Ids) -> tuple[object, str]:
    inputs = [tensor(name, [value.decode("latin-1") for value in values]) for name, values in ids.items()]
    return send(live, INFER, json.dumps({"inputs": inputs}, ensure_ascii=False).encode("latin-1"))


def by_generate(live: Live, ids: Ids) -> tuple[object, str]:
    body = {name: [value.decode("latin-1") for value in values] for name, values in ids.items()}
    return send(live, GENERATE, json.dumps(body, ensure_ascii=False).encode("latin-1"))


def by_binary(live: Live, ids: Ids) -> tuple[object, str]:
    inputs = [(name, [1, len(values)], len(packed(*values))) for name, values in ids.items()]
    return send(live, INFER, *binary(inputs, b"".join(packed(*values) for values in ids.values())))


def by_grpc(live: Live, ids: Ids) -> tuple[object, str]:
    inputs = [(name, [1, len(values)]) for name, values in ids.items()]
    return send_grpc(live, grpc_request(*inputs, raw=[packed(*values) for values in ids.values()]))


WIRES = {"json": by_json, "generate": by_generate, "binary": by_binary, "grpc": by_grpc}


def check_text(live: Live, text: str) -> None:
    """An error is for the caller: no traceback, no path of the server."""
    for secret in (str(live.built.root), str(live.server._runtime), "Traceback", "site-packages", ".py"):
        assert secret not in text


# ---- what the sampler refuses


def numbers(count: int) -> list[bytes]:
    return [b"%d" % n for n in range(count)]


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
    "an unknown category": (
        {"categories": [b"no such shelf"]},
        'unknown category "no such shelf"; use a value of',
    ),
}


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("case", OURS)
def test_what_the_contract_forbids_is_refused_with_value_and_limit(
    uncached: Live, case: str, wire: str
) -> None:
    """In one sentence, after Triton's own words about the ensemble, on every wire."""
    ids, sentence = OURS[case]
    status, text = WIRES[wire](uncached, ids)

    assert status in (400, "INVALID_ARGUMENT")
    assert text.startswith(f"in ensemble 'recommender', {sentence}")
    check_text(uncached, text)


def test_one_bad_query_refuses_its_whole_request(uncached: Live) -> None:
    """A request is answered whole or not at all."""
    status, text = send(uncached, INFER, {"inputs": [tensor("categories", ["", "no such shelf"], [2, 1])]})

    assert (status, "no such shelf" in text) == (400, True)


def test_bad_requests_leave_those_of_the_same_batch_alone(uncached: Live) -> None:
    """Full requests keep the sampler busy while bad and good ones queue up, to be taken together."""
    good = [Question((item,), uncached.user_ids[0]) for item in uncached.item_ids[:6]]
    alone = [over_grpc(uncached, [question]).item_ids.tolist() for question in good]
    full = [
        Question(tuple(uncached.item_ids[:200]), uncached.user_ids[0], tuple(uncached.item_ids[200:1200]))
    ] * 64
    requests = 4 + len(good) + len(OURS)
    before = _settled(uncached, 0)
    with ThreadPoolExecutor(requests) as threads:
        for _ in range(4):
            threads.submit(over_grpc, uncached, full)
        answers = [threads.submit(over_grpc, uncached, [question]) for question in good]
        refusals = [threads.submit(by_grpc, uncached, ids) for ids, _ in OURS.values()]
    after = _settled(uncached, before["success"] + before["fail"] + requests)

    assert [answer.result().item_ids.tolist() for answer in answers] == alone
    for refusal, (_, sentence) in zip(refusals, OURS.values(), strict=True):
        code, text = refusal.result()
        assert (code, sentence in text) == ("INVALID_ARGUMENT", True)
    assert after["execution"] - before["execution"] < requests  # batches there were


def _settled(live: Live, requests: int) -> dict[str, int]:
    """The sampler's counts once it has counted so many: Triton answers first and counts later."""
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
    """2**32 queries pass Triton's checks as none; what arrives has no batch axis, and fails alone."""
    request = grpc_request((name, [2**32, 1]), raw=[A], model_name="candidate_sampler")

    assert send_grpc(uncached, request) == (
        "INVALID_ARGUMENT",
        f"{name} is a batch of 0 queries; at least 1 is needed",
    )


# ---- what Triton gets wrong

MALFORMED = {
    "no JSON": (INFER, "hello", "failed to parse the request JSON buffer: Invalid value. at 0"),
    "cut off": (INFER, '{"inputs": [', "failed to parse the request JSON buffer: Invalid value. at 12"),
    "no object": (
        INFER,
        [],
        "Unable to parse 'inputs': attempt to access non-existing object member 'inputs'",
    ),
    "no inputs": (
        INFER,
        {},
        "Unable to parse 'inputs': attempt to access non-existing object member 'inputs'",
    ),
    "inputs null": (
        INFER,
        {"inputs": None},
        "Unable to parse 'inputs': attempt to access JSON non-array as array",
    ),
    "no name": (
        INFER,
        {"inputs": [{"shape": [1, 1], "datatype": "BYTES", "data": ["a"]}]},
        "Unable to parse 'name': attempt to access non-existing object member 'name'",
    ),
    "no shape": (
        INFER,
        {"inputs": [{"name": "basket", "datatype": "BYTES", "data": ["a"]}]},
        "Unable to parse 'shape': attempt to access non-existing object member 'shape'",
    ),
    "no type": (
        INFER,
        {"inputs": [{"name": "basket", "shape": [1, 1], "data": ["a"]}]},
        "Unable to parse 'datatype': attempt to access non-existing object member 'datatype'",
    ),
    "-1 items": (
        INFER,
        {"inputs": [ITEM | {"shape": [1, -1]}]},
        "Unable to parse 'shape': attempt to access JSON non-unsigned-integer as unsigned-integer",
    ),
    "2**64 items": (
        INFER,
        {"inputs": [ITEM | {"shape": [1, 2**64]}]},
        "Unable to parse 'shape': attempt to access JSON non-unsigned-integer as unsigned-integer",
    ),
    "a shape of text": (
        INFER,
        {"inputs": [ITEM | {"shape": "1, 1"}]},
        "Unable to parse 'shape': attempt to access JSON non-array as array",
    ),
    "a number as id": (
        INFER,
        {"inputs": [ITEM | {"data": [1095275]}]},
        "Unable to parse JSON bytes array: attempt to access JSON non-string as string",
    ),
    "parameters null": (
        INFER,
        {"inputs": [ITEM], "parameters": None},
        "failed to get request params.: attempt to get members for non-object",
    ),
    "generate: parameters null": (
        GENERATE,
        {"basket": ["a"], "parameters": None},
        "Expected JSON object for keyword: 'parameters': attempt to access JSON non-object as object",
    ),
    "generate: a key with a NUL": (
        GENERATE,
        {"basket": ["a"], "user\0id": "b"},
        "parameter key 'user' was not found in the JSON",
    ),
    "fewer numbers than said": (
        INFER,
        {"inputs": [tensor("basket", [], [1, 1], "INT32")]},
        "Unable to parse 'data': Shape does not match true shape of 'data' field",
    ),
    "generate: no JSON": (GENERATE, "hello", "failed to parse the request JSON buffer: Invalid value. at 0"),
    "generate: nothing": (
        GENERATE,
        "",
        "failed to parse the request JSON buffer: The document is empty. at 0",
    ),
    "generate: half a surrogate pair": (
        GENERATE,
        '{"basket": ["\\ud800"]}',
        "failed to parse the request JSON buffer: The surrogate pair in string is invalid. at 13",
    ),
    "generate: no object": (GENERATE, [], "attempt to get members for non-object"),
    "generate: a number as id": (
        GENERATE,
        {"basket": [1095275]},
        "Unable to parse JSON bytes array: attempt to access JSON non-string as string",
    ),
    "generate: null": (
        GENERATE,
        {"user_id": None},
        "Unable to parse JSON bytes array: attempt to access JSON non-string as string",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_triton_takes_malformed_json_for_its_own_failure(uncached: Live, case: str) -> None:
    """500 where 400 is meant: a client that tries again on 5xx, or an alarm on them, must know."""
    path, body, text = MALFORMED[case]

    assert send(uncached, path, body) == (500, text)


@pytest.mark.parametrize("path", [GENERATE, INFER])
def test_deeply_nested_json_does_not_overflow_the_stack(uncached: Live, path: str) -> None:
    status, _ = send(uncached, path, "[" * 300_000)
    assert isinstance(status, int)
    assert status >= 400


def test_triton_does_not_know_brotli(uncached: Live) -> None:
    assert send(uncached, INFER, "", {"Content-Encoding": "br"}) == (501, "Unsupported compression type")


def test_triton_cuts_batch_sizes_to_32_bits(uncached: Live) -> None:
    """The surplus is not noticed; nothing is allocated for it."""
    for queries in (2**32 + 1, 2**32, 0):
        items = [b"a"] if queries else []
        request = grpc_request(("basket", [queries, len(items)]), raw=[packed(*items)])
        assert send_grpc(uncached, request) == ("OK", "")


@pytest.mark.parametrize(
    ("body", "means"),
    [
        ({"basket": [["a"], ["b"]]}, {"basket": ["a", "b"]}),
        ({"basket": ["a"], "user": "900"}, {"basket": ["a"]}),
        ({"basket": "a"}, {"basket": ["a"]}),
    ],
)
def test_generate_guesses(uncached: Live, body: object, means: object) -> None:
    """Nested lists are flattened, a text is a list of one, and an unknown key with a text is passed over."""
    status, text = send(uncached, GENERATE, body)

    assert (status, text) == send(uncached, GENERATE, means)
    assert status == 200


def test_triton_s_cache_confuses_shapes_and_outputs(live: Live) -> None:
    """Its key is names and bytes of the inputs. On ids of this test only, since these entries stay spoilt."""

    def ask(ids: list[str], shape: list[int], **more: object) -> dict[str, list[int]]:
        status, text = send(live, INFER, {"inputs": [tensor("basket", ids, shape)], **more})
        assert status == 200
        return {output["name"]: output["shape"] for output in json.loads(text)["outputs"]}

    whole = {"item_ids": [1, 20], "scores": [1, 20], "reasons": [1, 20]}
    assert ask(["two", "apart"], [2, 1])["item_ids"] == [2, 20]
    assert ask(["two", "apart"], [1, 2])["item_ids"] == [2, 20]
    assert ask(["scores", "only"], [1, 2], outputs=[{"name": "scores"}]) == {"scores": [1, 20]}
    assert ask(["scores", "only"], [1, 2]) == {"scores": [1, 20]}
    assert ask(["never", "asked"], [1, 2]) == whole


# ---- what nobody thought of

ARBITRARY = settings(
    max_examples=150,
    derandomize=True,  # the same requests in every run
    database=None,
    deadline=None,  # TIMEOUT_S is the deadline
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
OWN_FAILURES = re.compile(  # the kinds of MALFORMED, and no others
    r"failed to parse the request JSON buffer: [^\n]* at \d+"
    r"|([^\n]*: )?attempt to (access JSON non-[a-z-]+ as [a-z-]+|get members for non-object"
    r"|access non-existing object member '[a-z_]+')"
    r"|parameter key '.*' was not found in the JSON"
    r"|Unable to parse 'data': Shape does not match true shape of 'data' field",
    re.DOTALL,
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=10), inner, max_size=5),
    max_leaves=12,
)
NAMES = st.sampled_from(["basket", "user_id", "exclude", "categories"]) | st.text(max_size=10)
TEXTS = st.lists(st.text(max_size=140), max_size=5)
SIZES = (
    st.integers(0, 3)
    | st.sampled_from([64, 65, 200, 2**31, 2**32, 2**32 + 1, 2**63 - 1])
    | st.integers(-5, 2**63 - 1)
)
SHAPES = st.lists(SIZES, max_size=4)
DATA = {"data": TEXTS | VALUES, "parameters": VALUES}
TENSORS = st.fixed_dictionaries(
    {}, optional={"name": NAMES, "shape": SHAPES | VALUES, "datatype": st.just("BYTES") | VALUES, **DATA}
) | st.fixed_dictionaries(
    {
        "name": NAMES,
        "shape": st.lists(st.integers(0, 9), max_size=4),  # small: a large one ends the server, see above
        "datatype": st.sampled_from(["INT32", "FP64", "BOOL", "UINT8"]),
    },
    optional=DATA,
)
INFER_BODIES = st.fixed_dictionaries(
    {"inputs": st.lists(TENSORS | VALUES, max_size=4)},
    optional={"outputs": VALUES, "id": VALUES, "parameters": VALUES},
)
GENERATE_BODIES = st.dictionaries(
    NAMES | st.sampled_from(["id", "parameters"]), TEXTS | st.text() | VALUES, max_size=5
)
BODIES = (VALUES | INFER_BODIES | GENERATE_BODIES).map(json.dumps) | st.binary(max_size=200)


def check_outcome(live: Live, status: object, text: str) -> None:
    """Answered, refused, or one of Triton's known 500s; then a good question is answered."""
    if status not in (200, 400, 404, "OK", "INVALID_ARGUMENT"):
        assert status == 500
        assert OWN_FAILURES.fullmatch(text), text
    if status not in (200, "OK"):
        check_text(live, text)
    good_answer(live)


@ARBITRARY
@given(path=st.sampled_from([INFER, GENERATE]), body=BODIES)
def test_arbitrary_bodies_are_survived(uncached: Live, path: str, body: str | bytes) -> None:
    check_outcome(uncached, *send(uncached, path, body))


@ARBITRARY
@given(
    wire=st.sampled_from(list(WIRES)),
    ids=st.dictionaries(
        st.sampled_from(["basket", "user_id", "exclude", "categories"]),
        st.lists(st.binary(max_size=140), max_size=8) | st.integers(0, 1100).map(numbers),
        min_size=1,
    ),
)
def test_arbitrary_bytes_as_ids_are_answered_or_refused(uncached: Live, wire: str, ids: Ids) -> None:
    check_outcome(uncached, *WIRES[wire](uncached, ids))


@ARBITRARY
@given(
    inputs=st.lists(st.tuples(NAMES, SHAPES | VALUES, SIZES | VALUES), max_size=4),
    data=st.lists(st.binary(max_size=20), max_size=6),
    head=st.none() | st.integers(-1, 400),
)
def test_arbitrary_binary_tensors_are_survived(
    uncached: Live, inputs: list[tuple[str, object, object]], data: list[bytes], head: int | None
) -> None:
    body, headers = binary(inputs, packed(*data))
    if head is not None:
        headers["Inference-Header-Content-Length"] = str(head)
    check_outcome(uncached, *send(uncached, INFER, body, headers))


@ARBITRARY
@given(
    inputs=st.lists(st.tuples(NAMES, SHAPES, st.sampled_from(["BYTES", "INT32", "", "x"])), max_size=4),
    raw=st.lists(
        st.lists(st.binary(max_size=20), max_size=4).map(lambda ids: packed(*ids)) | st.binary(), max_size=5
    ),
    version=st.sampled_from(["", "1", "0", "-1", "x", "9" * 30]),
)
def test_arbitrary_grpc_tensors_are_survived(
    uncached: Live, inputs: list[tuple[Any, ...]], raw: list[bytes], version: str
) -> None:
    code, text = send_grpc(uncached, grpc_request(*inputs, raw=raw, model_version=version))
    check_outcome(uncached, 404 if code == "NOT_FOUND" else code, text)


def test_the_largest_request_in_the_contract_is_answered(uncached: Live) -> None:
    """64 queries with every list full, of the longest ids: 11 MB of ids, all unknown."""
    lists = {"basket": 200, "exclude": 1000}
    ids = {name: np.array([b"%0128d" % n for n in range(64 * count)]) for name, count in lists.items()}
    inputs = [(name, [64, count]) for name, count in lists.items()]
    request = grpc_request(*inputs, raw=[packed(*values.tolist()) for values in ids.values()])

    assert send_grpc(uncached, request) == ("OK", "")
