"""The client against a real tritonserver that serves a real release, over both protocols."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from cesta_client import (
    AnswerWarning,
    AsyncRecommender,
    InvalidRequest,
    Query,
    Recommender,
    TimedOut,
    Unavailable,
    _check,
    _wire,
)

pytestmark = pytest.mark.triton


def address(live, protocol):
    return live.grpc if protocol == "grpc" else live.http


@pytest.fixture(params=["grpc", "http"])
def protocol(request):
    return request.param


@pytest.fixture
def shop(live, protocol):
    with Recommender(address(live, protocol), protocol=protocol, timeout_s=30) as shop:
        yield shop


def ids(answer):
    return [item.item_id for item in answer]


def test_a_basket_gets_known_items_best_first_with_reasons(live, shop):
    answer = shop.recommend(basket=live.item_ids[:3], user_id=live.user_ids[0], k=20)
    assert answer.release == live.release
    assert 0 < len(answer) <= 20
    assert set(ids(answer)) <= set(live.item_ids) - set(live.item_ids[:3])
    assert len(set(ids(answer))) == len(answer)
    assert [item.rank for item in answer] == list(range(1, len(answer) + 1))
    assert [item.score for item in answer] == sorted((item.score for item in answer), reverse=True)
    assert all(item.reasons for item in answer)


def test_a_smaller_k_is_the_head_of_the_larger(live, shop):
    basket = live.item_ids[:2]
    assert shop.recommend(basket=basket, k=3) == shop.recommend(basket=basket, k=20)[:3]


@pytest.mark.parametrize(
    "question", [{}, {"basket": []}, {"user_id": "nobody"}, {"basket": ["no such item", "käse", "0"]}]
)
def test_strangers_and_unknown_items_get_an_answer(shop, question):
    assert shop.recommend(**question)


def test_the_order_of_a_basket_does_not_count(live, shop):
    basket = live.item_ids[:4]
    assert shop.recommend(basket=basket) == shop.recommend(basket=[*reversed(basket), basket[0], ""])


def test_excluded_items_do_not_come_back(live, shop):
    first = ids(shop.recommend(basket=live.item_ids[:1], k=5))
    second = ids(shop.recommend(basket=live.item_ids[:1], k=20, exclude=first[:2]))
    assert not set(first[:2]) & set(second)


def test_a_known_category_is_accepted(live, shop):
    assert shop.recommend(categories=live.categories[:1]).release == live.release


def test_an_unknown_category_matches_nothing_and_is_named(live, shop):
    """Beside a known one the answer is that of the known one; in a batch each query has its own warnings."""
    warning = AnswerWarning("unknown_category", "no such shelf")
    known = live.categories[0]
    queries = [
        Query(categories=["no such shelf"]),
        Query(categories=[known]),
        Query(categories=[known, "no such shelf"]),
    ]
    none, alone, both = shop.recommend_many(queries)
    assert (list(none), none.warnings) == ([], (warning,))
    assert alone.warnings == ()
    assert (ids(both), both.warnings) == (ids(alone), (warning,))


def test_many_queries_get_the_answers_they_get_alone(live, shop):
    queries = [
        Query(),
        Query(live.item_ids[:5], user_id=live.user_ids[0]),
        Query(live.item_ids[:1], exclude=live.item_ids[1:9], k=20),
        Query(["unknown"], user_id="nobody", k=1),
        Query(categories=live.categories[:1]),
    ]
    together = shop.recommend_many(queries)
    single_answers = [shop.recommend_many([query])[0] for query in queries]
    assert [ids(answer) for answer in together] == [ids(answer) for answer in single_answers]


def test_more_than_one_batch_is_answered(live, shop):
    queries = [Query([item], k=1) for item in (live.item_ids * 130)[:130]]
    answers = shop.recommend_many(queries)
    assert len(answers) == 130
    assert {answer.release for answer in answers} == {live.release}


def test_a_request_as_large_as_the_limits_allow_is_answered(live, shop):
    full = Query(
        basket=[f"{n:0128d}" for n in range(200)],
        exclude=[f"{n:0128d}" for n in range(1000)],
        user_id="ü" * 64,
        categories=live.categories[:1],
    )
    assert len(shop.recommend_many([full] * 64)) == 64


@pytest.mark.parametrize(
    "question",
    [
        {"basket": [f"{n}" for n in range(201)]},
        {"exclude": [f"{n}" for n in range(1001)]},
        {"categories": [f"{n}" for n in range(101)]},
        {"basket": ["x" * 129]},
        {"user_id": "x" * 129},
    ],
)
def test_the_server_refuses_what_the_client_refuses(shop, question, monkeypatch):
    """Both sides have the same limits: here the client's checks are off, so the server refuses."""
    monkeypatch.setattr(_check, "ids", lambda name, kind, values, most: tuple(values or ()))
    monkeypatch.setattr(_check, "optional_id", lambda name, value: value or "")
    with pytest.raises(InvalidRequest, match=r"at most \d+ are allowed"):
        shop.recommend(**question)


def test_ready_after_an_inference_no_cache_can_answer(shop):
    assert shop.is_ready()


def test_a_model_that_is_not_there_is_unavailable(live, protocol, monkeypatch):
    for module in ("grpc_calls", "v2_http"):
        monkeypatch.setattr(f"cesta_client._transports.{module}.MODEL", "not_loaded")
    with Recommender(address(live, protocol), protocol=protocol, timeout_s=30, retries=0) as shop:
        assert not shop.is_ready()
        with pytest.raises(Unavailable, match="unknown model"):
            shop.recommend()


def test_an_answer_that_comes_too_late_is_timed_out(shop):
    with pytest.raises(TimedOut):
        shop.recommend(basket=["never asked before"], timeout_s=1e-5)
    assert shop.recommend()  # and the connection still serves


def test_threads_share_one_recommender_without_mixing_answers(live, shop):
    baskets = [[item] for item in live.item_ids[:8]] * 10
    expected = {basket[0]: shop.recommend(basket=basket) for basket in baskets[:8]}
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda basket: (basket[0], shop.recommend(basket=basket)), baskets))
    assert all(answer == expected[item] for item, answer in answers)


def test_asyncio_gets_the_same_answers_and_errors(live, shop, protocol, monkeypatch):
    """The client's own check is off, so the server refuses."""
    monkeypatch.setattr(_check, "ids", lambda name, kind, values, most: tuple(values or ()))

    async def ask():
        async with AsyncRecommender(address(live, protocol), protocol=protocol, timeout_s=30) as aside:
            assert await aside.is_ready()
            with pytest.raises(InvalidRequest, match="at most 200 are allowed"):
                await aside.recommend(basket=[f"{n}" for n in range(201)])
            return await asyncio.gather(*(aside.recommend(basket=[item]) for item in live.item_ids[:20]))

    answers = asyncio.run(ask())
    assert answers == [shop.recommend(basket=[item]) for item in live.item_ids[:20]]
    assert {answer.release for answer in answers} == {live.release}


def test_equal_baskets_share_one_entry_of_the_response_cache(live, shop):
    """Triton itself counts the hits."""
    import tritonclient.grpc as triton

    def hits():
        with triton.InferenceServerClient(live.grpc) as client:
            [stats] = client.get_inference_statistics(_wire.MODEL).model_stats
            return stats.inference_stats.cache_hit.count

    basket = [*live.item_ids[:3], f"only in this test, {live.release}"]
    shop.recommend(basket=basket)
    before = hits()
    shop.recommend(basket=[*reversed(basket), "", basket[0]])
    assert hits() == before + 1
