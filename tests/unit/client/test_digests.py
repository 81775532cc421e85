"""Answers with the digest of another question, as Triton's response cache can return them."""

import asyncio
import hashlib
import logging

import numpy as np
import pytest

from cesta_client import (
    AnswerWarning,
    AsyncRecommender,
    InvalidRequest,
    Query,
    Recommender,
    Reply,
    ServerError,
    TimedOut,
)
from cesta_client._digest import digests_of
from tests.running.scripted_shops import ask, every_client, every_protocol

MILK = (Query(["milk"]),)
OTHER = [[hashlib.sha256(b"another question").hexdigest().encode()]]


class Cache:
    """A transport whose answers carry these digests, one by one; then those of the question, or an error."""

    def __init__(self, *digests):
        self.digests = [*digests]
        self.seen = []

    def infer(self, tensors, *, timeout_s, request_id, headers):
        self.seen.append(tensors)
        batch = len(tensors["basket"])
        digest = self.digests.pop(0) if self.digests else digests_of(tensors)
        if isinstance(digest, Exception):
            raise digest
        outputs = {
            "item_ids": np.full((batch, 1), b"bread", object),
            "scores": np.ones((batch, 1), np.float32),
            "reasons": np.ones((batch, 1), np.int32),
            "digest": None if digest is None else np.array(digest, object),
        }
        return Reply(outputs, "7")

    async def ainfer(self, tensors, *, timeout_s, request_id, headers):
        return self.infer(tensors, timeout_s=timeout_s, request_id=request_id, headers=headers)

    def close(self):
        pass

    async def aclose(self):
        pass


def recommend_many(kind, cache, queries=MILK):
    if kind is Recommender:
        return Recommender(transport=cache).recommend_many(queries, request_id="checkout-17")

    async def ask_async():
        return await AsyncRecommender(transport=cache).recommend_many(queries, request_id="checkout-17")

    return asyncio.run(ask_async())


@every_client
@pytest.mark.parametrize("digest", [None, "own"])
def test_an_answer_with_its_own_digest_or_none_is_taken(kind, digest, caplog):
    cache = Cache() if digest == "own" else Cache(None)
    assert recommend_many(kind, cache)[0][0].item_id == "bread"
    assert len(cache.seen) == 1
    assert caplog.records == []


@every_client
@pytest.mark.parametrize("digest", [OTHER, [], [OTHER[0] * 2], OTHER * 2, OTHER[0], [[1.0]]])
def test_an_answer_to_another_question_is_logged_and_asked_again_with_a_nonce(kind, digest, caplog):
    """Digests of another shape belong to another question, too: the cache does not compare shapes."""
    cache = Cache(digest)
    with caplog.at_level(logging.WARNING, "cesta_client"):
        assert recommend_many(kind, cache)[0][0].item_id == "bread"
    first, second = cache.seen
    assert "nonce" not in first
    assert {name: second[name].tolist() for name in first} == {n: t.tolist() for n, t in first.items()}
    assert len(second["nonce"][0, 0]) == 32
    (record,) = caplog.records
    assert record.getMessage() == (
        "release 7 returned the answer to another question (request id 'checkout-17'); "
        "asking past the response cache"
    )


@every_client
def test_one_foreign_answer_in_a_batch_is_enough(kind, caplog):
    queries = [Query(["milk"]), Query(["tea"])]
    cache = Cache()
    recommend_many(kind, cache, queries)
    own = digests_of(cache.seen[0])
    again = Cache([own[1], own[0]])
    assert len(recommend_many(kind, again, queries)) == 2
    assert again.seen[1]["nonce"].shape == (2, 1)
    assert len(caplog.records) == 1


def test_every_nonce_is_another():
    caches = [Cache(OTHER), Cache(OTHER)]
    for cache in caches:
        recommend_many(Recommender, cache)
    assert len({cache.seen[1]["nonce"][0, 0] for cache in caches}) == 2


@every_client
def test_a_foreign_answer_from_past_the_cache_is_a_server_error(kind):
    cache = Cache(OTHER, OTHER)
    with pytest.raises(ServerError, match="release 7 returned the answer to another question, twice"):
        recommend_many(kind, cache)
    assert len(cache.seen) == 2


@every_client
def test_a_refused_nonce_is_the_caller_s_error(kind):
    """A gateway takes no nonce: it compares the digests itself."""
    with pytest.raises(InvalidRequest, match="nonce is not an input"):
        recommend_many(kind, Cache(OTHER, InvalidRequest("nonce is not an input")))


@every_client
def test_the_second_question_has_the_time_that_is_left(kind):
    with pytest.raises(TimedOut):
        recommend_many(kind, Cache(OTHER, TimedOut("no answer within 1 s")))


@every_client
@every_protocol
@pytest.mark.parametrize("digests", [[None], ["own"], ["other", "own"]])
def test_both_protocols_carry_digest_and_nonce(kind, protocol, digests, http_shop, grpc_shop):
    shop = {"http": http_shop, "grpc": grpc_shop}[protocol]
    values = {"own": digests_of({"basket": np.array([[b"milk"]], object)})[0], "other": OTHER[0], None: None}
    shop.digests = [values[digest] for digest in digests]
    assert ask(kind, shop.address, protocol=protocol)[0].item_id == "bread"
    assert len(shop.seen) == len(digests)
    if len(digests) == 2 and protocol == "grpc":
        assert [i.name for i in shop.seen[1][0].inputs] == ["basket", "user_id", "nonce"]


@every_client
def test_warnings_follow_the_digest_of_their_query(kind, caplog):
    """Codes of newer servers come through, and a query without warnings has none."""
    queries = [Query(["milk"]), Query(["tea"])]
    cache = Cache()
    recommend_many(kind, cache, queries)
    (first,), (second,) = digests_of(cache.seen[0])
    warned = Cache([[first, b"unknown_category:K\xc3\xa4se: alt", b"new_code:x"], [second, b"", b""]])
    answers = recommend_many(kind, warned, queries)
    assert len(warned.seen) == 1
    assert [answer.warnings for answer in answers] == [
        (AnswerWarning("unknown_category", "Käse: alt"), AnswerWarning("new_code", "x")),
        (),
    ]
    assert caplog.records == []
