"""Events through the gateway to a real supervisor: who may send them, in which forms, what comes back."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cesta_client import AsyncRecommender, Recommender
from operations.events.event import Event, read_event
from operations.events.sqlite_store import SqliteStore
from operations.events.store import Offset, Outcome, StoreFault
from operations.gateway.control import announce
from operations.gateway.keys import add_key
from operations.gateway.link import admin_token
from tests.running.door import Answer, Door, OpenDoor
from tests.running.event_desk import Desk, open_desk

MOST_QUEUED = 2000
WAIT_S = 60


class SwitchedStore(SqliteStore):
    """Waits while ``open`` is clear, and fails while ``broken`` is set."""

    open, broken = threading.Event(), threading.Event()

    def append(
        self, events: Sequence[Event], received_ms: int, offsets: Sequence[Offset] = ()
    ) -> list[Outcome]:
        assert self.open.wait(WAIT_S)
        if self.broken.is_set():
            raise StoreFault("events cannot be kept: the disk is full; free some space")
        return super().append(events, received_ms, offsets)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("events")


@pytest.fixture(scope="module")
def desk(folder: Path) -> Iterator[Desk]:
    SwitchedStore.open.set()
    with open_desk(
        folder / "repository", lambda: SwitchedStore(folder / "log"), "a-token", MOST_QUEUED
    ) as desk:
        yield desk


@pytest.fixture(scope="module")
def shop(open_gateway: OpenDoor, desk: Desk) -> Door:
    door = open_gateway(supervisor=desk.address, triton_http=desk.address)
    state = door.settings.folder
    assert admin_token(state)
    (state / "admin_token").write_text("a-token")
    door.keys["till"] = add_key(state, "till", "events", 100_000)
    assert announce(state)
    return door


def event(event_id: str, **about: Any) -> dict[str, Any]:
    return {"event_id": event_id, "basket_id": f"b-{event_id}", "item_ids": ["milk"], **about}


def send(shop: Door, body: Any, key: str | None = "till", kind: str = "application/json") -> Answer:
    return shop.ask("/v1/events", body, key=key, headers={"Content-Type": kind})


def kept(desk: Desk, folder: Path) -> dict[str, Event]:
    store = SqliteStore(folder / "log")
    events = [read_event(logged.content) for logged in store.read(0, 100_000)]
    store.close()
    assert len({each.event_id for each in events}) == len(events)
    return {each.event_id: each for each in events}


def test_an_event_is_in_the_log_when_it_is_acknowledged(shop: Door, desk: Desk, folder: Path) -> None:
    answer = send(shop, event("one", user_id="u7", request_id="r1"))
    assert answer.status == 200
    assert (answer.body["accepted"], answer.body["known"], answer.body["refused"]) == (1, 0, [])
    assert answer.body["request_id"] == answer.headers["x-request-id"]
    assert kept(desk, folder)["one"] == Event(
        "purchase", "one", "b-one", ("milk",), user_id="u7", request_id="r1"
    )
    status = shop.ask("/v1/events", key="till").body
    assert (status["position"], status["writable"]) == (answer.body["position"], True)


def test_a_repeated_event_is_acknowledged_at_its_first_position(shop: Door) -> None:
    first = send(shop, event("again")).body
    second = send(shop, event("again")).body
    assert (second["accepted"], second["known"], second["position"]) == (0, 1, first["position"])


def test_another_event_with_the_same_id_is_a_conflict(shop: Door) -> None:
    send(shop, event("twice"))
    answer = send(shop, event("twice", item_ids=["beer"]))
    assert (answer.status, answer.body["code"], answer.body["pointer"]) == (409, "event_changed", "/event_id")
    assert "a new event needs a new id" in answer.error


def test_a_list_keeps_what_is_right_and_names_what_is_not(shop: Door, desk: Desk, folder: Path) -> None:
    send(shop, event("known"))
    listed = [event("l1"), event("l2", at="2031-01-01T00:00:00Z"), event("known"), event("l1", user_id="x")]
    answer = send(shop, {"events": [*listed, event("l3", item_ids=["beer", "milk"])]})
    assert (answer.status, answer.body["accepted"], answer.body["known"]) == (200, 2, 1)
    assert [(each["index"], each["event_id"], each["code"]) for each in answer.body["refused"]] == [
        (1, "l2", "event_in_future"),
        (3, "l1", "event_changed"),
    ]
    assert answer.body["unknown_items"] == 1
    assert {"l1", "l3"} <= kept(desk, folder).keys()
    assert "l2" not in kept(desk, folder)


def test_lines_of_json_are_events(shop: Door) -> None:
    lines = "".join(json.dumps(event(f"line-{n}")) + "\n" for n in range(3)).encode()
    answer = send(shop, lines + b"{\n", kind="application/x-ndjson; charset=utf-8")
    assert (answer.status, answer.body["accepted"]) == (200, 3)
    assert [each["code"] for each in answer.body["refused"]] == ["not_json"]


def test_a_thousand_events_fit_and_one_more_does_not(shop: Door) -> None:
    events = [
        event(f"many-{n}", user_id="u" * 64, item_ids=[f"{n}-{m}" for m in range(40)]) for n in range(1001)
    ]
    answer = send(shop, {"events": events})
    assert (answer.status, answer.body["code"]) == (400, "out_of_range")
    assert send(shop, {"events": events[:1000]}).body["accepted"] == 1000
    answer = send(shop, {"events": [event("large", user_id=" " * 1_050_000)]})
    assert (answer.status, answer.error) == (413, "the body is over 1 MiB")
    assert shop.ask("/v1/recommend", b" " * 70_000).error == "the body is over 64 KiB"


@pytest.mark.parametrize(
    ("about", "status", "code", "pointer"),
    [
        ({"item_ids": [str(n) for n in range(201)]}, 400, "too_many_ids", "/item_ids"),
        ({"user_id": "u" * 129}, 400, "id_too_long", "/user_id"),
        ({"at": (datetime.now(UTC) + timedelta(days=1)).isoformat()}, 400, "event_in_future", "/at"),
        ({"at": "2025-12-31T23:59:59Z"}, 400, "event_before_receipts", "/at"),
        ({"basket_id": None}, 400, "wrong_form", "/basket_id"),
        ({"price": 3}, 400, "unknown_field", ""),
    ],
)
def test_one_wrong_event_is_an_error(
    about: dict[str, Any], status: int, code: str, pointer: str, shop: Door, desk: Desk, folder: Path
) -> None:
    answer = send(shop, event("wrong", **about))
    assert answer.error
    assert (answer.status, answer.body["code"], answer.body["pointer"]) == (status, code, pointer)
    assert "wrong" not in kept(desk, folder)


def test_a_return_is_kept_also_without_its_purchase(shop: Door, desk: Desk, folder: Path) -> None:
    assert send(shop, event("back", type="returned", basket_id="never seen")).body["accepted"] == 1
    assert kept(desk, folder)["back"].kind == "returned"


def test_only_keys_of_the_roles_events_and_admin_report(shop: Door, desk: Desk, folder: Path) -> None:
    assert send(shop, event("from-admin"), key="admin").status == 200
    assert send(shop, event("from-shop"), key="shop").status == 403
    assert send(shop, event("from-nobody"), key=None).status == 401
    assert "from-shop" not in kept(desk, folder)
    assert shop.recommend("milk", key="till").status == 403
    assert shop.ask("/admin/releases", key="till").status == 403


def test_the_supervisor_takes_events_from_the_gateway_only(desk: Desk, shop: Door) -> None:
    import http.client

    connection = http.client.HTTPConnection(desk.address)
    connection.request("POST", "/v1/events", json.dumps(event("direct")))
    assert connection.getresponse().status == 403
    connection.close()


def test_text_and_compressed_bodies_are_refused(shop: Door) -> None:
    answer = send(shop, event("text"), kind="text/plain")
    assert (answer.status, answer.body["code"]) == (415, "wrong_content_type")
    assert "application/x-ndjson" in answer.error


def test_callers_get_429_while_the_disk_is_slow_and_the_log_takes_no_more_memory(
    shop: Door, desk: Desk
) -> None:
    SwitchedStore.open.clear()
    try:
        with ThreadPoolExecutor(3) as threads:
            bodies = [{"events": [event(f"slow-{n}-{m}") for m in range(1000)]} for n in range(3)]
            waiting = [threads.submit(send, shop, body) for body in bodies]
            answers = [first_refused(waiting)]
            assert desk.log.queued <= MOST_QUEUED
            SwitchedStore.open.set()
            answers += [each.result(WAIT_S) for each in waiting]
    finally:
        SwitchedStore.open.set()
    refused = answers[0]
    assert (refused.status, refused.body["code"], refused.headers["retry-after"]) == (
        429,
        "events_queue_full",
        "1",
    )
    assert sorted(answer.status for answer in answers[1:]) == [200, 200, 429]
    assert 'cesta_events_refused_total{code="events_queue_full"} 1000.0' in desk.metrics()


def first_refused(waiting: Sequence[Any]) -> Answer:
    """The first answer that comes while the disk stands still."""
    from concurrent.futures import FIRST_COMPLETED, wait

    done, _ = wait(waiting, WAIT_S, FIRST_COMPLETED)
    (first,) = done
    answer: Answer = first.result()
    return answer


def test_a_full_disk_acknowledges_nothing(shop: Door, desk: Desk, folder: Path) -> None:
    SwitchedStore.broken.set()
    try:
        answer = send(shop, event("full"))
        status = shop.ask("/v1/events", key="till").body
        metrics = desk.metrics()
    finally:
        SwitchedStore.broken.clear()
    assert (answer.status, answer.body["code"]) == (503, "events_not_kept")
    assert "free some space" in answer.error
    assert (status["writable"], "free some space" in status["fault"]) == (False, True)
    assert "cesta_events_writable 0.0" in metrics
    assert "full" not in kept(desk, folder)
    assert send(shop, event("full")).body["accepted"] == 1
    assert "cesta_events_writable 1.0" in desk.metrics()


def test_the_client_reports_through_the_gateway(shop: Door, desk: Desk, folder: Path) -> None:
    options = {"events": shop.settings.http, "events_key": shop.keys["till"]}
    with Recommender(shop.settings.grpc, api_key=shop.keys["shop"], **options) as recommender:
        recommender.purchased("b", ["milk"], user_id="u7", event_id="from-the-client")
    assert kept(desk, folder)["from-the-client"].user_id == "u7"

    async def report() -> None:
        async with AsyncRecommender(shop.settings.grpc, **options) as recommender:
            await recommender.purchased("b", ["milk"], event_id="from-the-task")

    asyncio.run(report())
    assert "from-the-task" in kept(desk, folder)


def test_a_client_with_a_wrong_key_keeps_its_events_and_says_why(shop: Door) -> None:
    with Recommender(
        shop.settings.grpc, events=shop.settings.http, events_key=shop.keys["shop"]
    ) as recommender:
        recommender.purchased("b", ["milk"])
        deadline = time.monotonic() + WAIT_S
        while not recommender.events_status().failure:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        status = recommender.events_status()
    assert (status.buffered, status.acknowledged) == (1, 0)
    assert "HTTP 403" in status.failure
