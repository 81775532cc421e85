"""The requests that the client sends again, how often, and for how long."""

import asyncio
import time

import pytest

from cesta_client import (
    AsyncRecommender,
    InvalidRequest,
    Query,
    Recommender,
    ServerError,
    Throttled,
    TimedOut,
    Unauthorized,
    Unavailable,
)
from cesta_client.testing import FakeShop


def ask(kind, transport, **options):
    if kind is Recommender:
        return Recommender(transport=transport, **options).recommend(basket=["milk"])
    return asyncio.run(AsyncRecommender(transport=transport, **options).recommend(basket=["milk"]))


both = pytest.mark.parametrize("kind", [Recommender, AsyncRecommender])


@both
def test_an_unavailable_server_is_asked_again(kind):
    shop = FakeShop({"milk": ["bread"]})
    shop.fail(Unavailable("full"), times=2)
    assert [item.item_id for item in ask(kind, shop, retries=2, timeout_s=10)] == ["bread"]
    assert len(shop.requests) == 3


@both
def test_the_last_failure_comes_through_when_no_retry_is_left(kind):
    shop = FakeShop()
    shop.fail(Unavailable("full"), times=5)
    with pytest.raises(Unavailable, match="full"):
        ask(kind, shop, retries=1, timeout_s=10)
    assert len(shop.requests) == 2


@both
@pytest.mark.parametrize("error", [InvalidRequest, Unauthorized, Throttled, TimedOut, ServerError])
def test_nothing_else_is_asked_again(kind, error):
    shop = FakeShop()
    shop.fail(error("no"))
    with pytest.raises(error, match="no"):
        ask(kind, shop, retries=5)
    assert len(shop.requests) == 1


@both
def test_all_attempts_share_one_deadline(kind):
    shop = FakeShop()
    shop.fail(Unavailable("full"), times=10_000)
    started = time.monotonic()
    with pytest.raises(Unavailable, match="full"):
        ask(kind, shop, retries=10_000, timeout_s=0.6)
    assert time.monotonic() - started < 10
    given_s = [request.timeout_s for request in shop.requests]
    assert given_s == sorted(given_s, reverse=True)
    # Pauses double from 10 ms at the least, so that 0.6 s hold six: 10 + 20 + 40 + 80 + 160 + 320 = 630.
    assert 2 <= len(given_s) <= 7


def test_the_requests_of_a_long_list_share_one_deadline():
    class Slow(FakeShop):
        def infer(self, tensors, *, timeout_s, request_id, headers):
            time.sleep(0.3)
            return super().infer(tensors, timeout_s=timeout_s, request_id=request_id, headers=headers)

    shop = Slow()
    with pytest.raises(TimedOut, match=r"no answer within 0.5 s"):
        Recommender(transport=shop, timeout_s=0.5).recommend_many([Query()] * 640)
    assert 1 <= len(shop.requests) <= 2  # of ten


def test_a_call_may_have_a_deadline_of_its_own():
    shop = FakeShop()
    Recommender(transport=shop, timeout_s=0.001).recommend(timeout_s=60)
    assert 59 < shop.requests[0].timeout_s <= 60
