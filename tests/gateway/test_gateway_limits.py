"""No caller gets more than its share, and none can block the others."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import statistics
import time
from collections import Counter
from collections.abc import Sequence
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

pytestmark = [pytest.mark.triton, pytest.mark.alone]


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


def test_a_batch_costs_as_much_as_its_queries(open_gateway: OpenDoor, triton: Server) -> None:
    """A key of one question per second that asks 30 at once waits for the 29 that are beyond its burst."""
    door = open_gateway(triton_http=triton.http, workers=1)
    door.keys["slowest"] = add_key(door.settings.folder, "slowest", "shop", 1)
    assert announce(door.settings.folder)
    batch = {"queries": [{}] * 30}
    first, second = (door.ask("/v1/recommend/batch", batch, key="slowest") for _ in range(2))
    assert (first.status, len(first.body["answers"])) == (200, 30)
    assert second.status == 429
    assert second.headers["ratelimit-policy"] == '"single";q=1;w=1'
    assert 1 <= int(second.headers["retry-after"]) <= 29


def test_a_batch_of_one_costs_no_more_than_its_query(open_gateway: OpenDoor, triton: Server) -> None:
    """The burst of 5 is the same, whatever the path."""
    door = open_gateway(triton_http=triton.http, workers=1)
    asked = [door.ask("/v1/recommend/batch", {"queries": [{}]}, key="slow-shop").status for _ in range(3)]
    assert asked == [200] * 3


def test_tensors_cost_as_much_as_their_queries(open_gateway: OpenDoor, triton: Server) -> None:
    door = open_gateway(triton_http=triton.http, workers=1)
    options = {"protocol": "http", "api_key": door.keys["slow-shop"], "timeout_s": 5, "retries": 0}
    with Recommender(door.settings.http, **options) as shop:
        assert len(shop.recommend_many([Query([f"i{n}"]) for n in range(64)])) == 64
        with pytest.raises(Throttled):
            shop.recommend(["i1"])


def test_a_path_that_does_not_exist_counts_like_any_other(door: Door) -> None:
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda _: door.ask("/nowhere", key="slow-admin"), range(40)))
    assert {answer.status for answer in answers} == {404, 429}


@pytest.fixture
def three_keys(open_gateway: OpenDoor, fake: FakeTriton) -> Door:
    """A gateway with the keys `shop`, `second` and `third`, before a server that holds its answers."""
    fake.may_answer.clear()
    door = open_gateway(triton_http=fake.address)
    for name in ("second", "third"):
        door.keys[name] = add_key(door.settings.folder, name, "shop", 1000)
    assert announce(door.settings.folder)
    return door


def test_requests_in_flight_are_bounded(three_keys: Door, fake: FakeTriton) -> None:
    """One key may have 32; one more gets 429. 64 of all keys are at Triton; one more gets 503, but each key
    has at least 8. Those in flight are answered.
    """
    door, held = three_keys, []
    with ThreadPoolExecutor(72) as threads:
        for key, places, refusal in (("shop", 32, 429), ("second", 32, 429), ("third", 8, 503)):
            held += [threads.submit(door.recommend, "i1", key=key) for _ in range(places)]
            wait_for(lambda: "held" if len(fake.asked) == len(held) else "")  # noqa: B023
            assert door.recommend("i1", key=key).status == refusal
        assert not any(request.done() for request in held)
        fake.may_answer.set()
        assert {request.result().status for request in held} == {200}
    assert len(fake.asked) == 72


def test_requests_that_come_at_the_same_moment_are_bounded(three_keys: Door, fake: FakeTriton) -> None:
    """120 of three keys. Whichever come first, all others are refused while those wait."""
    door = three_keys
    with ThreadPoolExecutor(120) as threads:
        requests = [
            threads.submit(door.recommend, "i1", key=key)
            for key in ("shop", "second", "third")
            for _ in range(40)
        ]

        def refused() -> list[int]:
            return [request.result().status for request in requests if request.done()]

        wait_for(lambda: "all" if len(refused()) + len(fake.asked) == 120 else "")
        assert set(refused()) <= {429, 503}
        assert 32 <= len(fake.asked) <= 64 + 8
        fake.may_answer.set()
        assert Counter(request.result().status for request in requests)[200] == len(fake.asked)


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
    """32 callers leave, and Triton still works for them. Then more are let in."""
    fake.may_answer.clear()
    door = open_gateway(triton_http=fake.address)
    with ExitStack() as callers:
        for _ in range(32):
            callers.enter_context(door.connect()).sendall(_head(door, "shop", 2) + b"{}")
        wait_for(lambda: "asked" if len(fake.asked) == 32 else "")
        assert door.recommend("i1").status == 429
    with ThreadPoolExecutor() as threads:

        def let_in() -> str:
            asked = threads.submit(door.recommend, "i1")
            wait_for(lambda: "yes" if asked.done() or len(fake.asked) > 32 else "")
            return "" if asked.done() else "yes"

        wait_for(let_in)
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
    """All workers are killed while they hold all that a key may have, four times. Each time the key soon has
    it again, and the deaths are counted.
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
        wait_for(
            lambda: "all" if len(fake.asked) - before + sum(request.done() for request in asked) == 32 else ""
        )
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
            assert {request.result() for request in held} == {0}
            wait_for(all_answered)
    for line in ("worker_deaths_total 8", "at_triton 0"):
        wait_for(
            lambda: "yes" if f"\ncesta_gateway_{line}\n" in (read_metrics(door.settings.folder) or "") else ""  # noqa: B023
        )


def test_a_worker_that_stood_still_dies_only_once(open_gateway: OpenDoor, fake: FakeTriton) -> None:
    """After 3 s it counts as silent, not as dead. Its end is counted once."""
    door = open_gateway(triton_http=fake.address)

    def metric(name: str) -> int:
        text = read_metrics(door.settings.folder)  # none if the worker that stands still was asked
        return int(text.split(f"\ncesta_gateway_{name} ")[1].split()[0]) if text else -1

    wait_for(lambda: "both" if metric("workers") == 2 else "")
    worker = children(door.gateway.pid)[0]
    os.kill(worker, signal.SIGSTOP)
    try:
        wait_for(lambda: "silent" if metric("workers") == 1 else "")
        wait_for(lambda: "none" if metric("worker_deaths_total") == 0 else "")
    finally:
        os.kill(worker, signal.SIGCONT)
    wait_for(lambda: "back" if metric("workers") == 2 else "")
    os.kill(worker, signal.SIGKILL)
    wait_for(
        lambda: "counted and replaced" if metric("worker_deaths_total") and metric("workers") == 2 else ""
    )
    assert metric("worker_deaths_total") == 1


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
    assert statistics.median(times) < 2  # a door that waits for them is held for five


def test_silent_clients_do_not_hold_the_door(door: Door) -> None:
    """200 connections to each port send nothing, and 200 stop in the middle of a body. 32 of those may wait,
    as many as a key may have in flight; the others get 429. Another key is answered meanwhile, over HTTP
    and gRPC. Soon all are cut off, each after five seconds.
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
        wait_for(lambda: "refused" if len(_answered(halves)) >= 200 - 32 else "")
        refused = [connection for connection in _answered(halves) if connection.recv(13) == b"HTTP/1.1 429 "]
        assert 0 <= len(refused) - (200 - 32) <= 2  # never more than 32; two workers may refuse one too many
        grpc = Recommender(door.settings.grpc, api_key=door.keys["admin"], timeout_s=TIMEOUT_S, retries=0)
        with grpc as shop:
            while time.monotonic() - began < 4:
                assert door.recommend("i1", key="admin").status == 200
                assert shop.recommend(["i1"])
        assert all(_closed(connection) for connection in silent)
        assert all(_closed(connection) for connection in halves if connection not in refused)
    assert time.monotonic() - began < 40  # idle connections of callers who have been answered stay for 65 s
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


def _answered(connections: Sequence[socket.socket]) -> list[socket.socket]:
    """Return the connections on which the gateway has sent something, or which it has closed."""
    poll, by_number = select.poll(), {connection.fileno(): connection for connection in connections}
    for number in by_number:
        poll.register(number, select.POLLIN)
    return [by_number[number] for number, _ in poll.poll(0)]


def _drip(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # cut off: what this waits for
        connection.sendall(b"x")


def _closed(connection: socket.socket) -> bool:
    connection.settimeout(TIMEOUT_S)
    try:
        while connection.recv(4096):  # HTTP/2 greets first
            pass
        return True
    except ConnectionError:
        return True
    except TimeoutError:
        return False


def test_a_flood_is_turned_away_and_leaves_nothing_behind(door: Door) -> None:
    """For two seconds or more, more clients ask than may be in flight. Accepted requests are answered in
    bounded time, others get 429 or 503. Then the gateway answers as before, in no more memory than before.
    """

    def memory() -> int:
        workers = Path(f"/proc/{door.gateway.pid}/task/{door.gateway.pid}/children").read_text().split()
        return sum(_resident_kib(int(worker)) for worker in workers)

    before, ends = memory(), time.monotonic() + 2
    refused, accepted = set[int](), list[float]()  # the seconds of each

    def flood(n: int) -> None:
        while time.monotonic() < ends or len(accepted) <= 50:
            n += 1000
            began = time.monotonic()
            status = door.recommend(f"i{n % 199}", f"i{n * 7 % 199}", f"flood-{n}").status
            if status == 200:
                accepted.append(time.monotonic() - began)
            else:
                refused.add(status)

    with ThreadPoolExecutor(150) as threads:
        list(threads.map(flood, range(150)))
    assert refused <= {429, 503}
    assert sorted(accepted)[int(0.99 * len(accepted))] < 10
    assert door.recommend("i1").status == 200
    assert memory() < before + 20_000


def _resident_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
