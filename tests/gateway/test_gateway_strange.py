"""Requests that no shop should send: odd JSON, odd HTTP, garbled tensors. None of them gets a 5xx."""

from __future__ import annotations

import gzip
import http.client
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput

from tests.running.door import FUZZ, PROBLEM, TIMEOUT_S, Answer, Door
from tests.running.processes import children
from tests.running.worst_order import worst_order

pytestmark = pytest.mark.triton

MANY = json.dumps({"basket": ["i1"] * 10_000}, separators=(",", ":")).encode()
NO_JSON = "the body is not JSON: "

ANSWERED = {
    "NUL within an id": b'{"basket": ["i1\\u0000"]}',
    "half of a surrogate pair": b'{"basket": ["\\ud800"]}',
    "half a pair as a user": b'{"user_id": "\\ud800"}',
    "half a pair as a category": b'{"categories": ["\\udc00"]}',
    "a pair the wrong way round": b'{"basket": ["\\ude00\\ud83d"]}',
    "no characters": b'{"basket": ["\\uffff\\ufffe"]}',
    "line ends and quotes": b'{"basket": ["a\\r\\nb", "c\\"d", "e\\\\f", "\\u2028"]}',
    "a byte order mark": b'\xef\xbb\xbf{"basket": ["i1"]}',
    "k as a decimal": b'{"basket": ["i1"], "k": 10.0}',
    "k with an exponent": b'{"basket": ["i1"], "k": 1e1}',
    "a key twice, the last one good": b'{"basket": 5, "basket": ["i1"]}',
    "one item 10,000 times": MANY,
    "64 KiB": b" " * (65536 - 18) + b'{"basket": ["i1"]}',
}
REFUSED = {
    "NUL as it is": (b'{"basket": ["a\x00b"]}', NO_JSON),
    "a surrogate as UTF-8": (b'{"basket": ["\xed\xa0\x80"]}', "the body is not UTF-8"),
    "a letter in two bytes": (b'{"basket": ["\xc1\xa1"]}', "the body is not UTF-8"),
    "UTF-16": ('{"basket": ["i1"]}'.encode("utf-16"), "the body is not UTF-8"),
    "gzip without saying so": (gzip.compress(b"{}"), "the body is not UTF-8"),
    "half a pair as a key": (b'{"\\ud800": 1}', 'unknown key "'),
    "a line end as a key": (b'{"a\\nb": 1}', 'unknown key "a\nb"'),
    "a function's name": (b'{"toString": 1}', 'unknown key "toString"'),
    "k beyond all numbers": (b'{"k": 1e400}', "k is a whole number from 1 to 20; got Infinity"),
    "k of 5,000 digits": (b'{"k": ' + b"1" * 5000 + b"}", "k is a whole number from 1 to 20; got Infinity"),
    "k next to nothing": (b'{"k": 1e-400}', "k is a whole number from 1 to 20; got 0"),
    "k of null": (b'{"k": null}', "k is a whole number from 1 to 20; got null"),
    "k of true": (b'{"k": true}', "k is a whole number from 1 to 20; got true"),
    "NaN": (b'{"k": NaN}', NO_JSON),
    "an id beyond all numbers": (b'{"basket": [1e400]}', "basket holds a number; ids are strings"),
    "a key twice, the last one bad": (
        b'{"basket": ["i1"], "basket": 5}',
        "basket is a list of strings; got a",
    ),
    "nested 10,000 deep": (b'{"basket": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", NO_JSON),
    "a list that is an object": (
        b'{"basket": {"0": "i1", "length": 1}}',
        "basket is a list of strings; got an",
    ),
    "two documents": (b"{}{}", NO_JSON),
    "a comment": (b"{} // all", NO_JSON),
}


@pytest.mark.parametrize("case", ANSWERED)
def test_odd_but_sound_json_is_answered(door: Door, case: str) -> None:
    """Each is sent alone and as one query of a batch, except the two that fill the body."""
    answer = door.ask("/v1/recommend", ANSWERED[case])
    assert (answer.status, len(answer.body["items"])) == (200, 10)
    if len(ANSWERED[case]) < 1000 and not case.startswith("a byte"):
        batch = door.ask("/v1/recommend/batch", b'{"queries": [%b]}' % ANSWERED[case])
        assert batch.body["answers"][0]["items"] == answer.body["items"]


@pytest.mark.parametrize("case", REFUSED)
def test_broken_json_is_refused_in_a_sentence(door: Door, case: str) -> None:
    """Each is sent alone and within a batch, and the next request is answered."""
    body, sentence = REFUSED[case]
    answer = door.ask("/v1/recommend", body)
    assert (answer.status, answer.error.startswith(sentence)) == (400, True), answer

    batch = door.ask("/v1/recommend/batch", b'{"queries": [{"basket": ["i1"]}, %b]}' % body)
    if batch.status == 200:
        assert [*batch.body["answers"][1]] == ["problem"]
    else:
        assert (batch.status, bool(batch.error)) == (400, True)
    assert door.recommend("i1").status == 200


def test_one_byte_over_64_kib_is_too_much(door: Door) -> None:
    whole = ANSWERED["64 KiB"]
    assert len(whole) == 65536
    assert door.ask("/v1/recommend", whole).status == 200
    assert door.ask("/v1/recommend", b" " + whole).status == 413


@pytest.mark.parametrize("name", ["gzip", "br", "x"])
def test_a_compressed_body_is_415(door: Door, name: str) -> None:
    answer = door.ask("/v1/recommend", gzip.compress(b"{}"), headers={"Content-Encoding": name})
    assert (answer.status, "uncompressed" in answer.error) == (415, True)
    assert door.ask("/v1/recommend", b"{}", headers={"Content-Encoding": "identity"}).status == 200


# ---- HTTP as it may be, and as few write it


def request(
    door: Door, first: str = "POST /v1/recommend HTTP/1.1", *headers: str, body: bytes = b"{}"
) -> bytes:
    lines = [
        first,
        "Host: shop",
        f"Authorization: Bearer {door.keys['shop']}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def test_a_client_that_expects_100_continue_gets_it(door: Door) -> None:
    received = door.send(request(door, "POST /v1/recommend HTTP/1.1", "Expect: 100-continue"))
    assert received.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ")


def test_http_1_0_is_answered_and_closed(door: Door) -> None:
    received = door.send(request(door, "POST /v1/recommend HTTP/1.0"))
    assert received.startswith(b"HTTP/1.1 200 ")
    assert b"Connection: close\r\n" in received


def test_requests_one_behind_the_other_are_answered_in_order(door: Door) -> None:
    """A refused request stands between two good ones; each answer has its own id."""
    sent = b"".join(
        request(door, "POST /v1/recommend HTTP/1.1", f"X-Request-Id: place-{n}", body=body)
        for n, body in enumerate([b"{}", b"{", b"{}"])
    )
    last = request(door, "GET /v1/status HTTP/1.1", "Connection: close", body=b"")
    answers = door.send(sent + last).split(b"HTTP/1.1 ")[1:]
    assert [answer[:3] for answer in answers] == [b"200", b"400", b"200", b"200"]
    for n, answer in enumerate(answers[:3]):
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["request_id"] == f"place-{n}"


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "FOO"])
def test_methods_that_nobody_has_asked_for_are_405(door: Door, method: str) -> None:
    received = door.send(request(door, f"{method} /v1/recommend HTTP/1.1", "Connection: close", body=b""))
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 405 ")
    assert b"Allow: POST" in head
    assert (body == b"") if method == "HEAD" else (set(json.loads(body)) == PROBLEM)


def test_a_wish_for_another_protocol_is_passed_over(door: Door) -> None:
    """An upgrade to WebSocket or HTTP/2 is not possible."""
    for wish in ("websocket", "h2c"):
        received = door.send(
            request(door, "POST /v1/recommend HTTP/1.1", "Connection: Upgrade", f"Upgrade: {wish}")
        )
        assert received.startswith(b"HTTP/1.1 200 ")


# ---- tensors


def tensors(**columns: list[list[bytes]]) -> tuple[bytes, int]:
    """A body as cesta_client writes it over HTTP, and the length of its JSON part."""
    inputs = [InferInput(name, [len(rows), len(rows[0])], "BYTES") for name, rows in columns.items()]
    for tensor, rows in zip(inputs, columns.values(), strict=True):
        tensor.set_data_from_numpy(np.array(rows, object))
    body, size = InferenceServerClient.generate_request_body(inputs)
    return body, size


def infer(door: Door, body: bytes, size: int) -> Answer:
    connection = http.client.HTTPConnection(door.settings.http, timeout=TIMEOUT_S)
    headers: dict[str, Any] = {
        "Authorization": f"Bearer {door.keys['shop']}",
        "Inference-Header-Content-Length": str(size),
    }
    try:
        connection.request("POST", "/v2/models/recommender/infer", body, headers)
        with connection.getresponse() as response:
            content = response.read()
    finally:
        connection.close()
    received = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, received, None if response.status == 200 else json.loads(content))


def test_garbled_tensors_are_the_caller_s_fault(door: Door) -> None:
    """The bytes behind the JSON are changed, removed and inserted, FUZZ times: lengths are wrong, ids are cut
    off.
    """
    body, size = tensors(basket=[[b"i1", b"i2"]], user_id=[[b"u"]])
    assert infer(door, body, size).status == 200
    rng, refused = random.Random(0), 0
    for _ in range(FUZZ):
        garbled = bytearray(body)
        at = rng.randrange(size, len(body))
        garbled[at : at + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
        answer = infer(door, bytes(garbled), size)
        assert answer.status in (200, 400), (answer, bytes(garbled))
        if answer.status == 400:
            assert answer.error
            refused += 1
    assert refused > FUZZ / 10
    assert infer(door, body, size).status == 200


SIZES = [-6, 1e300, 2**64 - 8, 2**31, 6.5, "6", None, True, [6], {}, 0, 5, 7]
HEADS: dict[str, dict[str, Any]] = {
    **{f"binary_data_size {size!r}": {"parameters": {"binary_data_size": size}} for size in SIZES},
    **{f"datatype {kind!r}": {"datatype": kind} for kind in (["BYTES"], {}, 5, None, "INT32", "", "bytes")},
    **{
        f"shape {shape!r}": {"shape": shape}
        for shape in (
            [1],
            [1, 2],
            [-1, 1],
            [1, -1],
            [1e300, 1],
            ["1", 1],
            [1.5, 1],
            1,
            None,
            {},
            [[1], 1],
            [0, 0],
        )
    },
    **{
        f"name {name!r}": {"name": name} for name in (None, 5, [], {}, "", "nonce", "basket\u0000", "x" * 999)
    },
    **{
        f"parameters {value!r}": {"parameters": value}
        for value in (None, [], 5, "x", {"shared_memory_region": "x"})
    },
    "data": {"data": [1]},
}


def bent_head(**bent: Any) -> bytes:
    good = {"name": "basket", "shape": [1, 1], "datatype": "BYTES", "parameters": {"binary_data_size": 6}}
    return json.dumps({"inputs": [good | bent]}).encode()


@pytest.mark.parametrize("case", HEADS)
def test_a_head_that_does_not_fit_is_the_caller_s_fault(door: Door, case: str) -> None:
    """400 with a sentence, whatever a number or a type is."""
    head = bent_head(**HEADS[case])
    answer = infer(door, head + b"\x02\0\0\0i1", len(head))
    assert answer.status == 400, answer
    assert answer.error


RAW_HEADS = [
    b"",
    b"[]",
    b"5",
    b"null",
    b'{"inputs": 5}',
    b'{"inputs": {}}',
    b'{"inputs": [5]}',
    b'{"inputs": [null]}',
    b'{"inputs": [[]]}',
    b'{"id": {}, "inputs": []}',
    b'{"inputs": [{"name": "basket", "parameters": {"binary_data_size": NaN}}]}',
    b'{"inputs": [{"name": "basket", "parameters": {"binary_data_size": Infinity}}]}',
    b'{"inputs": [{"name": "basket", "parameters": {"binary_data_size": 1e999}}]}',
    b'{"inputs": [{"name": "basket", "parameters": {"binary_data_size": 0x6}}]}',
    b'{"inputs": [' + b"[" * 5000 + b"]" * 5000 + b"]}",
    b'{"inputs": {"1": {"name": "basket"}}}',
    b'\xff\xfe{"inputs": []}',
    b'{"inputs": [{"name": "\xa0", "parameters": {"binary_data_size": 6}}]}',
]


@pytest.mark.parametrize("head", RAW_HEADS)
def test_a_head_that_cannot_be_read_is_the_caller_s_fault(door: Door, head: bytes) -> None:
    answer = infer(door, head + b"\x02\0\0\0i1", len(head))
    assert (answer.status, bool(answer.error)) == (400, True)


def test_a_garbled_head_is_the_caller_s_fault(door: Door) -> None:
    """The JSON is changed, cut and lengthened, FUZZ times, and so is its stated length."""
    body, size = tensors(basket=[[b"i1", b"i2"]], user_id=[[b"u"]])
    rng = random.Random(1)
    for _ in range(FUZZ):
        garbled = bytearray(body)
        at = rng.randrange(size)
        part = rng.choice([b"", b"-", b"9" * 20, b"1e300", b"null", b"[", b'"', b"{}", rng.randbytes(2)])
        garbled[at : at + rng.randrange(4)] = part
        stated = len(garbled) - len(body) + size + rng.choice([0, 0, 0, 1, -1])
        answer = infer(door, bytes(garbled), stated)
        assert answer.status in (200, 400), (answer, bytes(garbled))
    for stated in (-1, 0, 1, 10**9, 2**64):
        assert infer(door, body, stated).status == 400
    assert infer(door, body, size).status == 200


def test_no_order_of_ids_keeps_a_worker_busy(door: Door) -> None:
    """A body of 64 KiB has ten thousand ids, and a quicksort would take seconds for a chosen order."""
    ids = [f"{number:04}" for number in worst_order(2500)]
    shuffled = random.Random(0).sample(ids, len(ids))
    usual, chosen = (min(_busy_s(door, order) for _ in range(5)) for order in (shuffled, ids))
    assert chosen < 4 * usual


def _busy_s(door: Door, ids: list[str]) -> float:
    """The processor time of all workers for one question."""
    before = _worked_s(door)
    assert door.recommend(*ids).status == 200  # the toy sampler has no limit
    return _worked_s(door) - before


def _worked_s(door: Door) -> float:
    times = (Path(f"/proc/{worker}/schedstat").read_text() for worker in children(door.gateway.pid))
    return sum(int(text.split()[0]) for text in times) / 1e9


def test_many_empty_queries_in_a_long_body_keep_no_worker_busy(door: Door) -> None:
    """What tells an empty list from an empty object reads the body once, not for each query."""
    times = {}
    for count in (1, 32):
        body = json.dumps({"queries": [{}] * count}).encode().ljust(65536)
        for _ in range(2):
            before = _worked_s(door)
            assert door.ask("/v1/recommend/batch", body).status == 200
            times[count] = min(times.get(count, 1.0), _worked_s(door) - before)
    assert times[32] - times[1] < 0.02
