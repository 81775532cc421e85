"""Every refusal is JSON with a sentence and the request's id, also if nginx itself refuses."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from tritonclient.utils import InferenceServerException

from cesta_client import Query, Recommender, TimedOut, Unavailable
from operations.gateway.control import read_metrics
from tests.running.door import TIMEOUT_S, Door, OpenDoor, free_ports, release_of
from tests.running.fake_triton import FakeTriton
from tests.running.gateway_log import wait_for

pytestmark = pytest.mark.triton

JSON = {"Content-Type": "application/json"}


def test_without_a_valid_key_nobody_gets_in(door: Door) -> None:
    """There is no key, a wrong one, another scheme, or a malformed key."""
    for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": f"Basic {door.keys['shop']}"}):
        answer = door.ask("/v1/recommend", {}, key=None, headers=headers)
        assert answer.status == 401
        assert "Authorization: Bearer" in answer.error
        assert answer.headers["www-authenticate"] == "Bearer"
    assert door.ask("/v1/recommend", {}, key="cesta_" + "0" * 43).status == 401


def test_a_key_in_the_address_is_none(door: Door) -> None:
    assert door.ask(f"/v1/recommend?key={door.keys['shop']}", {}, key=None).status == 401


@pytest.mark.parametrize(
    ("path", "method", "allowed"),
    [
        ("/v1/recommend", "GET", "POST"),
        ("/v1/recommend/batch", "PUT", "POST"),
        ("/v1/items", "POST", "GET, HEAD"),
        ("/v1/status", "DELETE", "GET, HEAD"),
        ("/healthz", "POST", "GET, HEAD"),
        ("/admin/releases", "DELETE", "GET, POST"),
    ],
)
def test_another_method_is_405_with_those_allowed(door: Door, path: str, method: str, allowed: str) -> None:
    answer = door.ask(path, method=method, key="admin")

    assert (answer.status, answer.headers["allow"]) == (405, allowed)
    assert answer.error == "this path does not know the method"


def test_what_is_not_sent_as_json_is_415(door: Door) -> None:
    """curl -d alone sends application/x-www-form-urlencoded."""
    for kind in ("application/x-www-form-urlencoded", "text/plain", "application/jsonp", ""):
        answer = door.ask("/v1/recommend", {}, headers={"Content-Type": kind})
        assert (answer.status, "application/json" in answer.error) == (415, True)
    assert (
        door.ask("/v1/recommend", {}, headers={"Content-Type": "application/json; charset=utf-8"}).status
        == 200
    )


def test_a_body_over_64_kib_is_413(door: Door) -> None:
    """The refusal comes with and without a Content-Length."""
    answer = door.ask("/v1/recommend", {"basket": ["x" * 65536]})
    assert (answer.status, answer.error) == (413, "the body is over 64 KiB")

    head = _head(door, "Transfer-Encoding: chunked")
    assert door.send(head + b"2\r\n{}\r\n0\r\n\r\n").startswith(b"HTTP/1.1 200 ")
    chunks = b"1000\r\n" + b" " * 4096 + b"\r\n"
    assert door.send(head + chunks * 17 + b"0\r\n\r\n").startswith(b"HTTP/1.1 413 ")


def test_a_body_of_just_under_64_kib_is_read(door: Door) -> None:
    """200 ids fill a tenth of it."""
    assert door.ask("/v1/recommend", {"basket": [f"i{n}" + " " * 100 for n in range(600)][:1]}).status == 200
    assert door.ask("/v1/recommend", b" " * 65000 + b"{}").status == 200


@pytest.mark.parametrize(
    ("status", "head"),
    [
        (400, b"GET / HTTP/1.1\r\n\r\n"),  # no Host
        (400, b"G\x00T / HTTP/1.1\r\nHost: x\r\n\r\n"),
        (400, b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n"),
        (414, b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"),
        (431, b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 9000 + b"\r\n\r\n"),
        (400, b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n"),
        (400, b"GET / HTTP/3.0\r\nHost: x\r\n\r\n"),
    ],
)
def test_what_is_no_http_is_refused_in_json(door: Door, status: int, head: bytes) -> None:
    received = door.send(head)

    first, _, body = received.partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 %d " % status)
    assert b"Content-Type: application/problem+json\r\n" in first + b"\r\n"
    problem = json.loads(body)
    assert (problem["status"], problem["detail"]) == (status, problem["error"])
    assert problem["code"] == {414: "address_too_long", 431: "headers_too_large"}.get(
        status, "unreadable_request"
    )


def test_a_sane_request_id_is_kept_and_any_other_replaced(door: Door) -> None:
    for given in ("abc.DEF_1-2", "x" * 64):
        assert door.recommend("i1", headers={"X-Request-Id": given}).body["request_id"] == given
    for given in ("", "x" * 65, "a b", 'a"b', "ä".encode().decode("latin-1"), "<script>"):
        made = door.recommend("i1", headers={"X-Request-Id": given})
        assert made.body["request_id"] == made.headers["x-request-id"]
        assert len(made.body["request_id"]) == 32


def _head(door: Door, *headers: str) -> bytes:
    lines = (
        "POST /v1/recommend HTTP/1.1",
        "Host: shop",
        f"Authorization: Bearer {door.keys['shop']}",
        "Content-Type: application/json",
        *headers,
    )
    return "\r\n".join([*lines, "", ""]).encode()


# ---- when Triton fails


@pytest.fixture(scope="module")
def silent() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def test_a_server_that_answers_byte_by_byte_has_no_more_time(open_gateway: OpenDoor) -> None:
    """Single bytes do not count as signs of life: 504 after 2 s."""
    ending = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n":
                    connection.sendall(bytes([byte]))
                    if ending.wait(0.1):
                        return

        dripping = threading.Thread(target=drip)
        dripping.start()
        door = open_gateway(triton_http=f"127.0.0.1:{server.getsockname()[1]}", as_deployed=True)
        try:
            assert door.recommend("i1").status == 504
        finally:
            ending.set()
            dripping.join()


def test_no_server_is_502_and_a_silent_one_504(open_gateway: OpenDoor, silent: str) -> None:
    """The answer comes within the limits, with a sentence of the gateway, over HTTP and gRPC."""
    (closed,) = free_ports(1)
    gone = open_gateway(triton_http=f"127.0.0.1:{closed}", workers=1)
    answer = gone.recommend("i1")
    assert (answer.status, answer.error) == (502, "the recommender cannot be reached")

    hung = open_gateway(triton_http=silent, workers=1, as_deployed=True)
    began = time.monotonic()
    answer = hung.recommend("i1")
    assert (answer.status, answer.error) == (504, "the recommender took too long")
    assert time.monotonic() - began >= 1.9
    assert hung.ask("/v1/recommend/batch", {"queries": [{}, {}]}).status == 504

    for door, refusal, words in (
        (gone, Unavailable, "cannot be reached"),
        (hung, TimedOut, "too long|within"),
    ):
        client = Recommender(door.settings.grpc, api_key=door.keys["shop"], timeout_s=TIMEOUT_S, retries=0)
        with client as shop, pytest.raises(refusal, match=words):
            shop.recommend(["i1"])


def test_a_client_that_leaves_before_the_answer_is_logged(open_gateway: OpenDoor, fake: FakeTriton) -> None:
    """The log has nginx's 499, or 400 if the body is incomplete. Triton's answer is awaited all the same, and
    counted until then.
    """
    fake.may_answer.clear()
    hung = open_gateway(triton_http=fake.address, workers=1)
    with hung.connect() as connection:
        connection.sendall(_head(hung, "Content-Length: 2", "X-Request-Id: left") + b"{}")
        wait_for(lambda: "asked" if fake.asked else "")
    with hung.connect() as connection:  # and one that has only begun its body
        connection.sendall(_head(hung, "Content-Length: 100", "X-Request-Id: half") + b"{")
    with pytest.raises(InferenceServerException, match="Deadline"):  # cesta_client cancels no call, others do
        release_of(hung, "grpc", "anyone", timeout_s=0.2)
    wait_for(lambda: "both" if _at_triton(hung) >= 2 else "")
    fake.may_answer.set()
    wait_for(lambda: "none" if _at_triton(hung) == 0 else "")
    lines = wait_for(lambda: (text := hung.settings.access_log.read_text()) * (text.count('"shop"') >= 3))
    logged = [(line["route"], line["status"]) for line in map(json.loads, lines.splitlines())]
    assert sorted(logged) == [("grpc", 499), ("recommend", 400), ("recommend", 499)]
    assert 'status="200"' not in (read_metrics(hung.settings.folder) or "")


def _at_triton(door: Door) -> int:
    text = read_metrics(door.settings.folder) or ""
    return int(text.split("\ncesta_gateway_at_triton ")[1].split()[0])


def test_triton_s_own_words_never_come_through(open_gateway: OpenDoor, fake: FakeTriton) -> None:
    """One server answers with a path of its disk, another sends no JSON."""
    door = open_gateway(triton_http=fake.address, workers=1)
    for status, text in (
        (400, b'{"error": "/models/x.py failed"}'),
        (500, b"<html>"),
        (200, b"{}"),
        (200, b"x"),
        (404, b"{}"),
    ):
        fake.broken = status, text
        answer = door.recommend("i1")
        assert (answer.status, answer.error) == (502, "the recommender cannot be reached")
    fake.broken = 400, b'{"error": "in ensemble \'recommender\', unknown category \\"x\\""}'
    answer = door.recommend("i1")
    assert (answer.status, answer.error) == (400, 'unknown category "x"')


def test_an_answer_to_another_question_is_asked_for_once_more(
    open_gateway: OpenDoor, fake: FakeTriton
) -> None:
    """The second question has a nonce, which no cache has seen. It is counted; no caller notices.

    A second wrong answer is an error. Answers without a digest are of older releases.
    """
    door = open_gateway(triton_http=fake.address, workers=1)
    query = {"basket": ["i2", "i1", ""], "user_id": "900", "exclude": ["i3"], "categories": ["x"]}
    for ask in (lambda: door.ask("/v1/recommend", query).status, lambda: release_of(door, "grpc", "s")):
        assert ask() in (200, 1)
        fake.asked.clear()
        fake.wrong_digests = 1
        assert ask() in (200, 1)
        assert ["nonce" in asked.ids for asked in fake.asked] == [False, True]
    assert "\ncesta_gateway_cache_mismatches_total 2\n" in (read_metrics(door.settings.folder) or "")
    fake.wrong_digests = 2
    assert door.ask("/v1/recommend", query).status == 502
    fake.with_digest = False
    assert door.ask("/v1/recommend", query).status == 200


FURTHER = {
    "store_id": "7",
    "exclude_categories": ["wine"],
    "items": ["b", "a"],
    "history": ["b", "a", "b", ""],
    "history_ages": [1.5, 20, 1.5, 3],
}


def test_further_inputs_reach_triton_sorted_and_with_their_digest(
    open_gateway: OpenDoor, fake: FakeTriton
) -> None:
    """Over JSON and from the client; those that hold nothing are left out. Each pair is sent once."""
    door = open_gateway(triton_http=fake.address, workers=1)
    assert door.ask("/v1/recommend", FURTHER).status == 200
    options = {name: FURTHER[name] for name in ("store_id", "exclude_categories", "items")}
    history = [("b", 1.5), ("a", 20), ("b", 1.5)]
    for address, protocol in ((door.settings.grpc, "grpc"), (door.settings.http, "http")):
        with Recommender(address, protocol=protocol, api_key=door.keys["shop"], timeout_s=TIMEOUT_S) as shop:
            assert shop.recommend(**options, history=history)
    assert door.ask("/v1/recommend", {"items": [""], "history": [], "history_ages": None}).status == 200
    expected = {
        "store_id": [[b"7"]],
        "exclude_categories": [[b"wine"]],
        "items": [[b"a", b"b"]],
        "history": [[b"b", b"a"]],
        "history_ages": [[struct.pack("<f", 1.5), struct.pack("<f", 20)]],
    }
    empty = {"basket": [[b""]], "user_id": [[b""]]}
    assert [asked.ids for asked in fake.asked] == [empty | expected] * 3 + [empty]


def test_a_release_that_lacks_an_input_answers_without_it_or_refuses(
    open_gateway: OpenDoor, fake: FakeTriton
) -> None:
    """A store and a history are told in a warning. Without the others, the answer would be wrong."""
    door = open_gateway(triton_http=fake.address, workers=1)
    fake.lacks = tuple(FURTHER)
    answer = door.ask("/v1/recommend", {"store_id": "7", "history": ["a"], "history_ages": [1]})
    assert answer.status == 200
    assert [(told["code"], told["pointer"]) for told in answer.body["warnings"]] == [
        ("unsupported_input", "/store_id"),
        ("unsupported_input", "/history"),
        ("unsupported_input", "/history_ages"),
    ]
    assert set(fake.asked[-1].ids) == {"basket", "user_id"}
    for name in ("exclude_categories", "items"):
        refused = door.ask("/v1/recommend", {name: FURTHER[name]})
        assert (refused.status, refused.body["code"]) == (400, "unsupported_input")
        assert refused.body["pointer"] == f"/{name}"


def test_ages_in_tensors_are_as_many_as_ids(open_gateway: OpenDoor, fake: FakeTriton) -> None:
    """In a request of several queries, an age beside padding is padding and not part of the digest."""
    door = open_gateway(triton_http=fake.address, workers=1)
    with Recommender(door.settings.grpc, api_key=door.keys["shop"], timeout_s=TIMEOUT_S) as shop:
        queries = [Query(history=[("a", 0.0), ("b", 2.0)]), Query(history=[("c", 1.0)]), Query(["x"])]
        assert len(shop.recommend_many(queries)) == 3
    assert "\ncesta_gateway_cache_mismatches_total 0\n" in (read_metrics(door.settings.folder) or "")


def test_a_triton_that_cannot_now_says_when_to_come_back(open_gateway: OpenDoor, fake: FakeTriton) -> None:
    """The bounded queue is full: 503, also over gRPC, and not the error of an unreachable server."""
    fake.broken = 503, b'{"error": "Exceeds maximum queue size"}'
    door = open_gateway(triton_http=fake.address, workers=1)
    answer = door.recommend("i1")
    address, key = door.settings.grpc, door.keys["shop"]
    with (
        Recommender(address, api_key=key, timeout_s=TIMEOUT_S, retries=0) as shop,
        pytest.raises(Unavailable, match="full or not ready"),
    ):
        shop.recommend(["i1"])
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert answer.error == "the recommender is full or not ready; try again later"


def test_a_batch_ends_within_twice_the_time_of_a_query(open_gateway: OpenDoor, fake: FakeTriton) -> None:
    """It is asked in parts of eight queries. Two seconds after its arrival no further part is asked:
    its queries have the problem, and the others their answers.
    """
    door = open_gateway(triton_http=fake.address, workers=1)
    assert door.ask("/v1/recommend/batch", {"queries": [{}] * 16}).status == 200
    assert len(fake.asked) == 16
    fake.may_answer.clear()
    with ThreadPoolExecutor() as threads:
        late = threads.submit(door.ask, "/v1/recommend/batch", {"queries": [{}] * 16})
        wait_for(lambda: "held" if len(fake.asked) == 16 + 8 else "")
        threading.Event().wait(2.1)
        fake.may_answer.set()
        found = late.result().body["answers"]
    statuses = [each["problem"]["status"] if "problem" in each else 200 for each in found]
    assert statuses == [200] * 8 + [504] * 8
    assert len(fake.asked) == 16 + 8
