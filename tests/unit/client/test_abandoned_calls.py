"""Calls over gRPC whose callers gave up: they run out, are bounded, and never cancelled."""

import asyncio
import contextlib
import queue
import threading
import time

import pytest

from cesta_client import AsyncRecommender, Recommender, TimedOut, Unavailable
from cesta_client._transports import grpc_calls
from tests.running.scripted_shops import ask, every_client


class Slow:
    """A step of a `GrpcShop` that waits for `release`, and tells afterwards whether its call still lives."""

    def __init__(self):
        self.arrived, self.alive = queue.Queue(), queue.Queue()
        self._released = threading.Event()

    def __call__(self, context):
        self.arrived.put(context.time_remaining())
        assert self._released.wait(20)
        self.alive.put(context.is_active())

    def release(self):
        self._released.set()


@pytest.fixture
def slow(grpc_shop):
    step = Slow()
    grpc_shop.script = [step] * 3
    yield step
    step.release()


@every_client
def test_a_call_is_not_cancelled_when_its_caller_s_time_is_over(kind, grpc_shop, slow):
    """Neither by the client, nor by a deadline on the wire, nor when client and event loop end."""
    with pytest.raises(TimedOut, match=f"no answer from {grpc_shop.address} within 0.2 s"):
        ask(kind, grpc_shop.address, timeout_s=0.2)
    assert slow.arrived.get(timeout=60) > grpc_calls.RUN_OUT_S / 2
    slow.release()
    assert slow.alive.get(timeout=60)


def test_a_cancelled_task_does_not_cancel_its_call(grpc_shop, slow):
    async def cancel():
        async with AsyncRecommender(grpc_shop.address, timeout_s=60) as shop:
            task = asyncio.create_task(shop.recommend())
            await asyncio.to_thread(slow.arrived.get, timeout=60)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(cancel())
    slow.release()
    assert slow.alive.get(timeout=60)


def test_a_call_of_another_thread_is_answered_after_close(grpc_shop, slow):
    shop = Recommender(grpc_shop.address, timeout_s=20)
    answers = queue.Queue()
    thread = threading.Thread(target=lambda: answers.put(shop.recommend()))
    thread.start()
    slow.arrived.get(timeout=60)
    shop.close()
    slow.release()
    assert answers.get(timeout=60)[0].item_id == "bread"
    thread.join()


def test_the_last_call_closes_the_channel(grpc_shop, slow, monkeypatch):
    closed = threading.Event()
    shop = Recommender(grpc_shop.address)
    channel = shop._transport._calls._channel
    monkeypatch.setattr(channel, "close", closed.set)
    with pytest.raises(TimedOut):
        shop.recommend(timeout_s=0.05)
    begun = time.monotonic()
    shop.close()
    assert grpc_calls.CLOSE_S <= time.monotonic() - begun < grpc_calls.CLOSE_S + 10
    assert not closed.is_set()
    slow.release()
    assert closed.wait(60)


@every_client
def test_a_server_that_owes_too_many_answers_is_asked_no_more(kind, grpc_shop, slow, monkeypatch):
    """The refusal comes at once. When the answers have arrived, the server is asked again."""
    monkeypatch.setattr(grpc_calls, "MAX_ABANDONED", 3)

    async def questions(shop):
        for _ in range(3):
            with pytest.raises(TimedOut):
                await shop(timeout_s=0.5)
        with pytest.raises(Unavailable, match="still owes 3 answers that were not awaited"):
            await shop(timeout_s=10)
        assert len(grpc_shop.seen) == 3
        slow.release()
        for _ in range(3):
            assert slow.alive.get(timeout=60)
        answer, deadline = None, time.monotonic() + 60
        while not answer and time.monotonic() < deadline:
            with contextlib.suppress(Unavailable):  # while the server's answers are on their way
                answer = await shop(timeout_s=10)
        return answer[0].item_id

    async def ask_async():
        async with AsyncRecommender(grpc_shop.address, retries=0) as recommender:
            return await questions(recommender.recommend)

    async def ask_sync():
        async def recommend(timeout_s):
            return recommender.recommend(timeout_s=timeout_s)

        with Recommender(grpc_shop.address, retries=0) as recommender:
            return await questions(recommend)

    assert asyncio.run(ask_sync() if kind is Recommender else ask_async()) == "bread"


def test_a_call_that_could_not_start_leaves_nothing_behind(grpc_shop):
    shop = Recommender(grpc_shop.address, retries=0)
    calls = shop._transport._calls
    calls._channel.close()
    with pytest.raises(Unavailable, match="Channel closed"):
        shop.recommend()
    assert (calls._running, calls._abandoned) == (set(), set())
    shop.close()
