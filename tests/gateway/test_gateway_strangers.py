"""Callers without a key: health for all of them, little else, and no harm to those with one."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from cesta_client import CestaError, Recommender, Throttled, Unauthorized
from operations.gateway.control import read_metrics
from tests.running.door import TIMEOUT_S, Door, OpenDoor, Supervisor, free_ports
from tests.running.fake_triton import FakeTriton
from tests.running.gateway_log import wait_for

pytestmark = pytest.mark.triton

SENTENCE = "too many requests without a valid key from this address; try again later"


def unlogged(door: Door) -> int:
    text = read_metrics(door.settings.folder) or ""
    return int((text.split("\ncesta_gateway_unlogged_total ")[1:] or ["0"])[0].split()[0])


def test_strangers_are_limited_by_address(open_gateway: OpenDoor, fake: FakeTriton) -> None:
    """Some 20 at once and 10 per second are told what is missing; the others get 429, and few log lines.

    A key is not limited by what others at its address do, and other addresses are not either.
    """
    door = open_gateway(triton_http=fake.address)
    flooding, answers, good = threading.Event(), Counter[int](), []

    def flood(key: str | None) -> None:
        while not flooding.is_set():
            answer = door.ask("/v1/recommend", {}, key=key, source="127.0.0.1")
            answers[answer.status] += 1
            if answer.status == 429:
                assert (answer.error, answer.headers["retry-after"]) == (SENTENCE, "1")

    began = time.monotonic()
    with ThreadPoolExecutor(8) as threads:
        floods = [threads.submit(flood, key) for key in (None, "wrong", "x" * 43, None)]
        while time.monotonic() - began < 2 or answers[429] < 40:
            good.append(door.ask("/v1/recommend", {}, source="127.0.0.1").status)
            assert door.ask("/v1/recommend", {}, key=None).status == 401  # from other addresses
        took = time.monotonic() - began
        flooding.set()
        for each in floods:
            each.result()
    assert set(good) == {200}
    assert answers.keys() == {401, 429}
    assert 20 <= answers[401] <= 25 + 10 * (took + 0.5)

    def logged(status: int) -> int:
        return door.settings.access_log.read_text().count(f'"status":{status}')

    wait_for(lambda: "all" if logged(200) == len(good) else "")
    wait_for(lambda: "all" if unlogged(door) + logged(429) == answers[429] else "")
    assert 1 <= logged(429) <= took + 3


def test_a_stranger_is_limited_on_every_path_and_over_grpc(open_gateway: OpenDoor, fake: FakeTriton) -> None:
    door = open_gateway(triton_http=fake.address)
    paths = ("/nowhere", "/v1/status", "/admin/releases", "/v2/models/recommender/infer")
    statuses = [door.ask(path, key=None, source="127.0.1.1").status for path in paths * 15]
    assert set(statuses) == {401, 404, 429}
    with Recommender(door.settings.grpc, timeout_s=TIMEOUT_S, retries=0) as shop:
        refusals = [refusal_of(shop) for _ in range(80)]
    assert {type(refusal) for refusal in refusals} == {Unauthorized, Throttled}
    assert all(SENTENCE in str(refusal) for refusal in refusals if isinstance(refusal, Throttled))


def refusal_of(shop: Recommender) -> CestaError:
    with pytest.raises(CestaError) as refused:
        shop.recommend(["i1"])
    return refused.value


@pytest.mark.parametrize("trusted", [(), ("127.0.0.0/8", "10.1.2.3")])
def test_a_trusted_proxy_names_the_address(
    open_gateway: OpenDoor, fake: FakeTriton, trusted: tuple[str, ...]
) -> None:
    """Behind it each caller has a rate of its own. Nobody else is believed. Of several addresses the last one
    that is not a proxy's counts, since callers can write the others.
    """
    door = open_gateway(triton_http=fake.address, trusted_proxies=trusted)

    def ask(forwarded: str) -> int:
        headers = {"X-Forwarded-For": forwarded}
        return door.ask("/nowhere", key=None, headers=headers, source="127.0.0.1").status

    def is_soon_refused(forwarded: str, within: int) -> bool:
        """The rate allows one more request in a tenth of a second, which a slow machine may take for each."""
        return any(ask(forwarded) == 429 for _ in range(within))

    assert is_soon_refused("192.0.2.1", within=400)
    assert is_soon_refused("192.0.2.2", within=15) == (not trusted)
    assert is_soon_refused(f"192.0.2.3, 192.0.2.1, {trusted[-1] if trusted else '10.1.2.3'}", within=15)


def test_the_owner_of_an_ipv6_network_is_one_stranger(open_gateway: OpenDoor, fake: FakeTriton) -> None:
    door = open_gateway(triton_http=fake.address, trusted_proxies=("127.0.0.0/8",))

    def ask(forwarded: str) -> int:
        return door.ask("/nowhere", key=None, headers={"X-Forwarded-For": forwarded}).status

    assert any(ask(f"2001:db8::{n}") == 429 for n in range(400))
    assert ask("2001:db8:0:1::1") == 404


# ---- health


def test_no_flood_takes_health_away(open_gateway: OpenDoor, fake: FakeTriton) -> None:
    """Health is answered without limit, whatever else the address sends, and HEAD is as good as GET."""
    door = open_gateway(triton_http=fake.address)
    for _ in range(60):
        door.ask("/v1/recommend", {}, key=None, source="127.0.0.1")
    for path in ("/healthz", "/readyz"):
        for method in ("GET", "HEAD"):
            for _ in range(100):
                answer = door.ask(path, key=None, method=method, source="127.0.0.1")
                assert (answer.status, answer.body is None) == (200, method == "HEAD")
                assert int(answer.headers["content-length"]) > 0


def test_each_header_comes_once(open_gateway: OpenDoor, fake: FakeTriton) -> None:
    door = open_gateway(triton_http=fake.address)
    for method, path, key in (
        ("GET", "/v1/status", "shop"),
        ("HEAD", "/v1/status", "shop"),
        ("POST", "/v1/status", "shop"),
        ("POST", "/healthz", "shop"),
        ("HEAD", "/readyz", "shop"),
        ("TRACE", "/v1/recommend", "shop"),
        ("GET", "/admin/releases", "admin"),
        ("GET", "/v1/recommend", "shop"),
        ("GET", "/v1/recommend", "nobody"),
    ):
        received = door.send(
            f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            f"Authorization: Bearer {door.keys.get(key, key)}\r\nContent-Length: 0\r\n\r\n".encode()
        )
        head = received.partition(b"\r\n\r\n")[0].decode().splitlines()[1:]
        names = Counter(line.partition(":")[0].lower() for line in head)
        assert set(names.values()) == {1}, (method, path, head)
        assert {"x-request-id", "cache-control", "content-type"} <= names.keys()


@pytest.fixture
def own_supervisor() -> Iterator[Supervisor]:
    with Supervisor() as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.alone
def test_health_is_at_most_a_second_old(
    open_gateway: OpenDoor, fake: FakeTriton, own_supervisor: Supervisor
) -> None:
    """Many callers cost the supervisor two requests a second and path. Its end is told within a second.

    A refusal has the id of its own request, not of the gateway's.
    """
    door = open_gateway(triton_http=fake.address, supervisor=own_supervisor.address)
    began = time.monotonic()
    for _ in range(200):
        assert door.ask("/readyz", key=None).status == 200
    assert own_supervisor.asked <= 2 * 2 * (time.monotonic() - began + 1) + 4

    own_supervisor.is_unready = True
    wait_for(lambda: "told" if door.ask("/readyz", key=None).status == 503 else "")
    assert door.ask("/readyz", key=None).error == "Triton has ended"

    own_supervisor.is_down = True
    ended = time.monotonic()
    wait_for(lambda: "told" if door.ask("/readyz", key=None).status == 502 else "")
    assert time.monotonic() - ended < 5
    assert door.ask("/healthz", key=None).status == 502


def test_health_without_a_supervisor_is_502(open_gateway: OpenDoor, fake: FakeTriton) -> None:
    door = open_gateway(triton_http=fake.address, supervisor=f"127.0.0.1:{free_ports(1)[0]}")
    for path in ("/healthz", "/readyz"):
        answer = door.ask(path, key=None)
        assert (answer.status, answer.error) == (502, "what answers this cannot be reached")


def test_a_key_s_oversized_bodies_are_not_a_stranger_s(own_door: Door) -> None:
    """They are 413, which clients do not try again, until the key's own rate ends."""
    answers = Counter(
        own_door.ask("/v1/recommend", b"x" * 65537, source="127.0.0.1").status for _ in range(60)
    )
    assert answers == {413: 60}
    slow = (own_door.ask("/v1/recommend", b"x" * 65537, key="slow-shop") for _ in range(400))
    refused = next(answer for answer in slow if answer.status == 429)
    assert refused.error == "too many requests for this key; try again later"


def test_oversized_bodies_of_strangers_leave_few_lines_in_the_logs(own_door: Door) -> None:
    """nginx would write a line of its own for each."""
    before = own_door.settings.error_log.stat().st_size
    statuses = [
        own_door.ask("/v1/recommend", b"x" * 65537, key=None, source="127.0.0.9").status for _ in range(60)
    ]
    assert set(statuses) == {413, 429}
    assert own_door.settings.error_log.stat().st_size == before
