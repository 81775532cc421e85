"""No caller gets more than its share, and none can block the others."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import statistics
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from cesta_client import Query, Recommender, Throttled
from operations.gateway.control import announce, read_metrics
from operations.gateway.keys import add_key, revoke_key
from operations.server.process import Server
from tests.running.door import TIMEOUT_S, Door, OpenDoor
from tests.running.fake_triton import FakeTriton
from tests.running.gateway_log import wait_for
from tests.running.processes import children

pytestmark = [pytest.mark.triton, pytest.mark.alone, pytest.mark.timeout(120)]


def test_a_key_has_its_rate_and_as_much_in_a_burst(door: Door) -> None:
    """5 requests per second and a burst of 5; other keys are not affected. The refusal says when to try
    again.
    """
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda _: door.recommend("i1", key="slow-shop"), range(40)))

    assert Counter(answer.status for answer in answers).keys() == {200, 429}
    refused = next(answer for answer in answers if answer.status == 429)
    assert refused.headers["retry-after"] == "1"
    assert refused.error == "too many requests for this key; try again later"
    assert refused.body["code"] == "rate_exceeded"
    assert refused.headers["ratelimit-policy"] == '"single";q=5;w=1'
    assert refused.headers["ratelimit"].startswith('"single";r=0;t=')
    unhurried = door.recommend("i1")
    assert unhurried.status == 200
    assert "ratelimit" not in unhurried.headers  # more than half of the quota is left


def test_a_batch_is_limited_by_itself(open_gateway: OpenDoor, triton: Server) -> None:
    """A key of 5 requests per second may send 9 batches per minute, 4 of them at once."""
    door = open_gateway(triton_http=triton.http, workers=1)
    batch = {"queries": [{}]}
    answers = [door.ask("/v1/recommend/batch", batch, key="slow-shop") for _ in range(8)]

    assert [answer.status for answer in answers] == [200] * 5 + [429] * 3
    assert answers[-1].headers["ratelimit-policy"] == '"batch";q=4;w=26'
    assert 3 <= int(answers[-1].headers["retry-after"]) <= 7  # 6.4 s for each batch


def test_batches_and_single_questions_are_counted_apart(open_gateway: OpenDoor, triton: Server) -> None:
    """A tensor request of two queries counts as one of the key's batches, like one of 64. A single query does
    not.
    """
    door = open_gateway(triton_http=triton.http, workers=1)
    options = {"protocol": "http", "api_key": door.keys["slow-shop"], "timeout_s": 5}
    with Recommender(door.settings.http, **options) as shop:
        for queries in (2, 64, 2, 64, 2):
            assert len(shop.recommend_many([Query([f"i{n}"]) for n in range(queries)])) == queries
        with pytest.raises(Throttled):
            shop.recommend_many([Query(["i1"]), Query(["i2"])])
        assert [len(shop.recommend(["i1"])) for _ in range(5)] == [10] * 5


def test_a_path_that_does_not_exist_counts_like_any_other(door: Door) -> None:
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda _: door.ask("/nowhere", key="slow-admin"), range(40)))
    assert {answer.status for answer in answers} == {404, 429}


def test_requests_in_flight_are_bounded(open_gateway: OpenDoor, fake: FakeTriton) -> None:
    """One key may have 32; more get 429 at once. 64 of all keys are at Triton; more get 503, but each key has
    at least 8. Those in flight end with 504.
    """
    fake.may_answer.clear()
    door = open_gateway(triton_http=fake.address)
    for name in ("second", "third"):
        door.keys[name] = add_key(door.settings.folder, name, "shop", 1000)
    assert announce(door.settings.folder)

    def timed(key: str) -> tuple[int, float]:
        began = time.monotonic()
        return door.recommend("i1", key=key).status, time.monotonic() - began

    with ThreadPoolExecutor(120) as threads:
        requests = [threads.submit(timed, key) for key in ("shop", "second", "third") for _ in range(40)]
        answers = [request.result() for request in requests]

    counts = Counter(status for status, _ in answers)
    assert set(counts) == {429, 503, 504}
    assert 64 <= counts[504] <= 64 + 8
    assert max(took for status, took in answers if status in (429, 503)) < 1.9
    assert min(took for status, took in answers if status == 504) >= 1.9


def test_a_key_has_its_share_of_triton_however_much_another_asks(
    open_gateway: OpenDoor, fake: FakeTriton
) -> None:
    """Batches of one key take all 64 places. Another key still gets 8, and no more."""
    fake.may_answer.clear()
    door = open_gateway(triton_http=fake.address)
    with ThreadPoolExecutor(40) as threads:
        batch = {"queries": [{"basket": [f"i{n}"]} for n in range(8)]}
        greedy = [threads.submit(door.ask, "/v1/recommend/batch", batch) for _ in range(10)]
        wait_for(lambda: "full" if len(fake.asked) == 64 else "")
        modest = [threads.submit(door.recommend, "i1", key="admin") for _ in range(8)]
        wait_for(lambda: "shared" if len(fake.asked) == 64 + 8 else "")
        assert door.recommend("i1", key="admin").status == 503
        fake.may_answer.set()
        assert {request.result().status for request in greedy} == {200, 503}
        assert {request.result().status for request in modest} == {200}


def test_callers_who_left_are_not_in_flight(open_gateway: OpenDoor, fake: FakeTriton) -> None:
    """30 callers leave, and Triton still works for them. Then ten more are let in at once."""
    fake.may_answer.clear()
    door = open_gateway(triton_http=fake.address)

    def leave(n: int) -> bytes:
        with door.connect() as connection:
            connection.sendall(_head(door, "shop", 2) + b"{}")
            connection.settimeout(0.2)
            with contextlib.suppress(TimeoutError):
                return connection.recv(65536)[9:12]
        return b""

    with ThreadPoolExecutor(30) as threads:
        list(threads.map(leave, range(30)))
        wait_for(lambda: "asked" if len(fake.asked) == 30 else "")
        assert any(
            b"429" not in threads.map(leave, range(10)) for _ in range(4)
        )  # within the 2 s of a question
    fake.may_answer.set()
    wait_for(lambda: "yes" if door.recommend("i1").status == 200 else "")


def test_a_body_under_way_does_not_outlive_its_key(open_gateway: OpenDoor, fake: FakeTriton) -> None:
    """Revoked is revoked, also for a request that has begun."""
    door = open_gateway(triton_http=fake.address)
    key = door.keys["guest"] = add_key(door.settings.folder, "guest", "shop", 1000)
    assert announce(door.settings.folder)
    with door.connect() as connection:
        connection.sendall(_head(door, "guest", 2) + b"{")
        wait_for(lambda: "held" if door.recommend("i1", key=key).status == 200 else "")
        revoke_key(door.settings.folder, "guest")
        assert announce(door.settings.folder)
        connection.sendall(b"}")
        assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")


def test_an_admin_s_body_under_way_does_not_outlive_its_key(door: Door) -> None:
    """The supervisor must not see what a revoked key asks for, however slowly its body arrives."""
    key = door.keys["leaving-admin"] = add_key(door.settings.folder, "leaving-admin", "admin", 1000)
    assert announce(door.settings.folder)
    head = f"POST /admin/releases/1/promote HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
    with door.connect() as connection:
        connection.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{".encode())
        wait_for(lambda: "asked" if door.ask("/admin/releases", key=key).status == 200 else "")
        revoke_key(door.settings.folder, "leaving-admin")
        assert announce(door.settings.folder)
        connection.sendall(b"}")
        assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")


def test_a_worker_that_dies_gives_back_what_it_held(open_gateway: OpenDoor, fake: FakeTriton) -> None:
    """All workers are killed while they hold all that a key may have, four times. Each time the key has it
    again within 5 s, and the deaths are counted.
    """
    door = open_gateway(triton_http=fake.address)

    def ask() -> int:
        try:
            return door.recommend("i1").status
        except OSError:
            return 0

    def all_answered() -> str:
        fake.may_answer.clear()
        before = len(fake.asked)
        asked = [threads.submit(ask) for _ in range(32)]
        with contextlib.suppress(AssertionError):
            wait_for(lambda: "all" if len(fake.asked) - before == 32 or asked[0].done() else "")
        fake.may_answer.set()
        return "yes" if {request.result() for request in asked} == {200} else ""

    with ThreadPoolExecutor(64) as threads:
        for _ in range(4):
            fake.may_answer.clear()
            before = len(fake.asked)
            held = [threads.submit(ask) for _ in range(32)]
            wait_for(lambda: "held" if len(fake.asked) - before == 32 else "")  # noqa: B023
            for worker in children(door.gateway.pid):
                os.kill(worker, signal.SIGKILL)
            died_at = time.monotonic()
            assert {request.result() for request in held} == {0}
            wait_for(all_answered)
            assert time.monotonic() - died_at < 5
    assert "\ncesta_gateway_worker_deaths_total 8\n" in (read_metrics(door.settings.folder) or "")
    assert "\ncesta_gateway_at_triton 0\n" in (read_metrics(door.settings.folder) or "")


def test_a_worker_that_stood_still_dies_only_once(open_gateway: OpenDoor, fake: FakeTriton) -> None:
    """After 3 s it counts as silent, not as dead. Its end is counted once."""
    door = open_gateway(triton_http=fake.address)

    def metric(name: str) -> int:
        text = read_metrics(door.settings.folder) or ""
        return int(text.split(f"\ncesta_gateway_{name} ")[1].split()[0])

    wait_for(lambda: "both" if metric("workers") == 2 else "")
    worker = children(door.gateway.pid)[0]
    os.kill(worker, signal.SIGSTOP)
    try:
        wait_for(lambda: "silent" if metric("workers") == 1 else "")
        assert metric("worker_deaths_total") == 0
    finally:
        os.kill(worker, signal.SIGCONT)
    wait_for(lambda: "back" if metric("workers") == 2 else "")
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: "counted" if metric("worker_deaths_total") == 1 else "")
    assert metric("workers") == 2  # nginx has replaced it


def test_slow_clients_do_not_hold_the_door(door: Door) -> None:
    """200 connections send their headers byte by byte. Good requests are answered meanwhile, and the gateway
    cuts the slow ones off after five seconds.
    """
    with ExitStack() as stack:
        slow = [stack.enter_context(door.connect()) for _ in range(200)]
        for connection in slow:
            connection.sendall(b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        began = time.monotonic()
        times = []
        while time.monotonic() - began < 5.5:
            asked_at = time.monotonic()
            assert door.recommend("i1").status == 200
            times.append(time.monotonic() - asked_at)
            for connection in slow:
                _drip(connection)
        assert all(_closed(connection) for connection in slow)
    assert statistics.median(times) < 0.5


def test_silent_clients_do_not_hold_the_door(door: Door) -> None:
    """200 connections to each port send nothing, and 200 stop in the middle of a body. 32 of those may wait,
    as many as a key may have in flight; the others get 429. Another key is answered meanwhile, over HTTP
    and gRPC. After five seconds all are cut off.
    """
    began = time.monotonic()
    with ExitStack() as stack:

        def connect(address: str) -> socket.socket:
            host, _, port = address.rpartition(":")
            return stack.enter_context(socket.create_connection((host, int(port)), timeout=TIMEOUT_S))

        silent = [
            connect(address) for address in (door.settings.http, door.settings.grpc) for _ in range(200)
        ]
        halves = [connect(door.settings.http) for _ in range(200)]
        for connection in halves:
            connection.sendall(_head(door, "shop", 100) + b'{"basket":')
        refused = [connection for connection in halves if _says(connection, b"HTTP/1.1 429 ")]
        assert 0 <= len(refused) - (200 - 32) <= 2  # never more than 32; two workers may refuse one too many
        grpc = Recommender(door.settings.grpc, api_key=door.keys["admin"], timeout_s=TIMEOUT_S, retries=0)
        with grpc as shop:
            while time.monotonic() - began < 4:
                assert door.recommend("i1", key="admin").status == 200
                assert shop.recommend(["i1"])
        assert all(_closed(connection) for connection in silent)
        assert all(_closed(connection) for connection in halves if connection not in refused)
    assert time.monotonic() - began < 12
    assert door.recommend("i1").status == 200


def _head(door: Door, key: str, length: int) -> bytes:
    lines = (
        "POST /v1/recommend HTTP/1.1",
        "Host: shop",
        f"Authorization: Bearer {door.keys[key]}",
        "Content-Type: application/json",
        f"Content-Length: {length}",
    )
    return "\r\n".join([*lines, "", ""]).encode()


def _says(connection: socket.socket, start: bytes) -> bool:
    connection.settimeout(0.1)
    try:
        return connection.recv(65536).startswith(start)
    except TimeoutError:
        return False


def _drip(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # cut off: what this waits for
        connection.sendall(b"x")


def _closed(connection: socket.socket) -> bool:
    connection.settimeout(4)
    try:
        while connection.recv(4096):  # HTTP/2 greets first
            pass
        return True
    except ConnectionError:
        return True
    except TimeoutError:
        return False


def test_a_flood_is_turned_away_and_leaves_nothing_behind(door: Door) -> None:
    """For two seconds more clients ask than may be in flight. Accepted requests are answered in bounded time,
    others get 429 or 503. Then the gateway answers as before, in no more memory than before.
    """

    def memory() -> int:
        workers = Path(f"/proc/{door.gateway.pid}/task/{door.gateway.pid}/children").read_text().split()
        return sum(_resident_kib(int(worker)) for worker in workers)

    def ask(n: int) -> tuple[int, float]:
        began = time.monotonic()
        status = door.recommend(f"i{n % 199}", f"i{n * 7 % 199}", f"flood-{n}").status
        return status, time.monotonic() - began

    before = memory()
    ends = time.monotonic() + 2
    with ThreadPoolExecutor(150) as threads:
        runs = [threads.submit(_until, ends, ask, n) for n in range(150)]
        answers = [answer for run in runs for answer in run.result()]

    counts = Counter(status for status, _ in answers)
    assert set(counts) <= {200, 429, 503}
    assert counts[200] > 50
    accepted = sorted(took for status, took in answers if status == 200)
    assert accepted[int(0.99 * len(accepted))] < 2
    assert door.recommend("i1").status == 200
    assert memory() < before + 20_000


def _until(ends: float, ask, n: int) -> list[tuple[int, float]]:
    answers = []
    while time.monotonic() < ends:
        n += 1000
        answers.append(ask(n))
    return answers


def _resident_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
