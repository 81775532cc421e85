"""Purchases reported in the background: batched, repeated with the same ids, bounded, flushed at the end."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from cesta_client import AsyncRecommender, InvalidRequest, Recommender, ServerError, Throttled, Unavailable
from cesta_client._events import MOST_BUFFERED, MOST_SENT, EventBuffer, encode_event
from cesta_client.testing import FakeShop
from operations.events.event import check_event

WAIT_S = 60


def await_(condition: Any) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def encoded(event_id: str = "e1", **about: Any) -> bytes:
    given = {"store_id": None, "at": None, "request_id": None, "event_id": event_id} | about
    return encode_event("purchase", "b1", ["milk"], None, **given)


class Gate(FakeShop):
    """A shop that answers about events only while `open` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.tries: list[list[str]] = []

    def report(self, body: bytes, *, timeout_s: float) -> bytes:
        self.tries.append([event["event_id"] for event in json.loads(body)["events"]])
        assert self.open.wait(WAIT_S)
        return super().report(body, timeout_s=timeout_s)


def test_a_purchase_reaches_the_server_in_the_servers_form() -> None:
    server = FakeShop()
    at = datetime(2026, 3, 1, 12, tzinfo=UTC)
    with Recommender(transport=server) as shop:
        assert shop.purchased(
            "b1", ["milk", "bread", "milk"], user_id="u7", at=at, request_id="r1", event_id="e1"
        )
        assert shop.returned("b1", ["milk"], store_id="s1")
        await_(lambda: shop.events_status().acknowledged == 2)
    purchase, back = map(check_event, server.events)
    assert purchase.item_ids == ("bread", "milk")
    assert (purchase.user_id, purchase.request_id, purchase.at_ms) == ("u7", "r1", 1_772_366_400_000)
    assert (back.kind, back.store_id, len(back.event_id)) == ("returned", "s1", 32)


def test_the_time_of_a_purchase_is_that_of_the_call() -> None:
    before = datetime.now(UTC)
    at = datetime.fromisoformat(json.loads(encoded())["at"])
    assert before <= at <= datetime.now(UTC)


def test_events_share_requests_and_keep_their_order() -> None:
    server = Gate()
    with Recommender(transport=server) as shop:
        shop.purchased("b", ["milk"], event_id="first")
        await_(lambda: server.tries)
        for n in range(MOST_SENT + 1):
            shop.purchased("b", ["milk"], event_id=f"e{n}")
        server.open.set()
        await_(lambda: shop.events_status().acknowledged == MOST_SENT + 2)
    assert [len(sent) for sent in server.tries] == [1, MOST_SENT, 1]
    assert server.tries[1][:2] == ["e0", "e1"]


@pytest.mark.parametrize(
    "error", [Unavailable("away"), Throttled("full", retry_after_s=0.01), ServerError("?")]
)
def test_a_failed_request_is_repeated_with_the_same_ids(error: Exception) -> None:
    server = FakeShop()
    server.fail(error, times=2)
    with Recommender(transport=server) as shop:
        shop.purchased("b", ["milk"], event_id="e1")
        await_(lambda: shop.events_status().acknowledged == 1)
        assert shop.events_status().failure == ""
    assert [event["event_id"] for event in server.events] == ["e1"]


def test_pauses_grow_to_half_a_minute_and_begin_anew_after_a_success() -> None:
    buffer = EventBuffer()
    buffer.add(encoded())
    pauses = [buffer.fail(Unavailable("away")) for _ in range(20)]
    assert 0.05 <= pauses[0] <= 0.15
    assert 15 <= pauses[-1] <= 45
    assert buffer.fail(Throttled("full", retry_after_s=70)) == 70
    buffer.settle(buffer.batch(), b'{"accepted": 1, "known": 0, "refused": []}')
    assert buffer.fail(Unavailable("away")) <= 0.15


def test_a_full_buffer_drops_the_newest_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    buffer = EventBuffer(most=2)
    with caplog.at_level(logging.ERROR, "cesta_client"):
        assert [buffer.add(encoded(f"e{n}")) for n in range(4)] == [True, True, False, False]
    assert len(caplog.records) == 1
    assert [json.loads(event)["event_id"] for event in buffer.batch()] == ["e0", "e1"]
    assert (buffer.status().buffered, buffer.status().dropped) == (2, 2)


def test_a_caller_never_waits_for_a_server_that_stands_still() -> None:
    server = Gate()
    with Recommender(transport=server) as shop:
        taken = [shop.purchased("b", ["milk"]) for _ in range(MOST_BUFFERED + 5)]
        assert taken.count(False) == 5
        assert shop.events_status().dropped == 5
        server.open.set()


def test_what_the_server_refuses_is_counted_and_not_repeated() -> None:
    buffer = EventBuffer()
    for event_id in ("e1", "e2", "e3"):
        buffer.add(encoded(event_id))
    refused = [
        {"index": 1, "event_id": "e2", "code": "event_in_future", "detail": "too early", "pointer": "/at"}
    ]
    buffer.settle(buffer.batch(), json.dumps({"accepted": 1, "known": 1, "refused": refused}).encode())
    status = buffer.status()
    assert (status.buffered, status.acknowledged, status.refused, status.refusal) == (0, 2, 1, "too early")


def test_an_unreadable_answer_keeps_the_events() -> None:
    buffer = EventBuffer()
    buffer.add(encoded())
    with pytest.raises(ServerError, match="cannot be read"):
        buffer.settle(buffer.batch(), b"<html>")
    assert buffer.status().buffered == 1


def test_closing_reports_what_waits() -> None:
    server = FakeShop()
    with Recommender(transport=server) as shop:
        for n in range(1200):
            shop.purchased("b", ["milk"], event_id=f"e{n}")
    assert len(server.events) == 1200
    with pytest.raises(InvalidRequest, match="closed"):
        shop.purchased("b", ["milk"])


def test_closing_gives_up_on_a_server_that_is_away(caplog: pytest.LogCaptureFixture) -> None:
    server = FakeShop()
    server.fail(Unavailable("away"), times=10_000)
    shop = Recommender(transport=server)
    shop.purchased("b", ["milk"])
    with caplog.at_level(logging.ERROR, "cesta_client"):
        shop.close()
    assert "1 events were not reported before the end (away)" in caplog.text


def test_wrong_values_are_refused_at_once() -> None:
    with Recommender(transport=FakeShop()) as shop:
        for wrong in (
            {"item_ids": []},
            {"item_ids": "milk"},
            {"basket_id": ""},
            {"at": datetime(2026, 3, 1)},
            {"user_id": "u" * 129},
        ):
            with pytest.raises(InvalidRequest):
                shop.purchased(**({"basket_id": "b", "item_ids": ["milk"]} | wrong))
        assert shop.events_status().buffered == 0


def test_without_an_address_for_events_none_is_taken() -> None:
    with Recommender("127.0.0.1:1") as shop, pytest.raises(InvalidRequest, match='events="host:port"'):
        shop.purchased("b", ["milk"])


def test_asyncio_reports_in_a_task() -> None:
    server = FakeShop()
    server.fail(Unavailable("away"))

    async def sell() -> None:
        async with AsyncRecommender(transport=server) as shop:
            assert await shop.purchased("b", ["milk"], event_id="e1")
            async with asyncio.timeout(WAIT_S):
                while shop.events_status().acknowledged == 0:
                    await asyncio.sleep(0.005)
            await shop.returned("b", ["milk"], event_id="e2")  # closing reports it

    asyncio.run(sell())
    assert [event["event_id"] for event in server.events] == ["e1", "e2"]
