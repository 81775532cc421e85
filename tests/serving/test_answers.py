"""Properties of every answer that a shop may rely on, asked through the client."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from statistics import median

import numpy as np
import pytest

from cesta_client import AsyncRecommender, Query, Reason, Recommendations, Recommender
from tests.running.live import Live

pytestmark = pytest.mark.triton

K = 20


@pytest.fixture(scope="module", params=["grpc", "http"])
def shop(live: Live, request: pytest.FixtureRequest) -> Iterator[Recommender]:
    address = live.grpc if request.param == "grpc" else live.http
    with Recommender(address, protocol=request.param, timeout_s=60) as shop:
        yield shop


@pytest.fixture(scope="module")
def queries(live: Live) -> list[Query]:
    """The last 100 real baskets with their households."""
    shop = live.built.shop
    numbers = range(shop.n_baskets - 100, shop.n_baskets)
    rows = [shop.basket(number) for number in numbers]
    baskets = [shop.catalog["item_id"].iloc[row].tolist()[:200] for row in rows]
    users = [shop.user_ids[shop.users[number]] for number in numbers]
    return [Query(basket, user, K) for basket, user in zip(baskets, users, strict=True)]


def ids(answer: Recommendations) -> list[str]:
    return [item.item_id for item in answer]


def sizes(live: Live) -> dict[str, int]:
    """Category → items in it."""
    counts = dict.fromkeys(live.categories, 0)
    for names in live.categories_of.values():
        for name in names & counts.keys():
            counts[name] += 1
    return counts


def test_basket_items_are_never_recommended(shop: Recommender, queries: list[Query]) -> None:
    for query, answer in zip(queries, shop.recommend_many(queries), strict=True):
        assert not set(ids(answer)) & set(query.basket)
        assert len(set(ids(answer))) == K


@pytest.mark.alone
def test_questions_with_and_without_a_customer_share_passes(uncached: Live, queries: list[Query]) -> None:
    """Every second shopper is unknown. Triton would not batch them if their requests had other inputs."""

    async def ask() -> None:
        async with AsyncRecommender(uncached.grpc, protocol="grpc", timeout_s=60) as shop:
            users = (query.user_id if place % 2 else "" for place, query in enumerate(queries))
            await asyncio.gather(
                *(
                    shop.recommend(query.basket, user_id=user)
                    for query, user in zip(queries, users, strict=True)
                )
            )

    def passes() -> int:
        before = uncached.counts("candidate_sampler")["execution"]
        asyncio.run(ask())
        return uncached.counts("candidate_sampler")["execution"] - before

    asyncio.run(ask())  # connections, and whatever else happens once
    # The median, because other work on the machine can spread the requests of one round.
    assert median(passes() for _ in range(9)) <= len(queries) / 3


def test_excluded_items_are_never_recommended_and_others_take_their_places(
    shop: Recommender, queries: list[Query]
) -> None:
    """The first answer is excluded: none of it comes back, and the second list is as long."""
    first = shop.recommend_many(queries)
    excluding = [
        Query(query.basket, query.user_id, K, exclude=ids(answer))
        for query, answer in zip(queries, first, strict=True)
    ]
    for query, answer in zip(excluding, shop.recommend_many(excluding), strict=True):
        assert not set(ids(answer)) & {*query.exclude, *query.basket}
        assert len(set(ids(answer))) == K


def test_the_thousand_best_sellers_may_be_excluded(live: Live, shop: Recommender) -> None:
    """Even an unknown shopper with an empty basket, who gets best sellers only, gets a full list."""
    answer = shop.recommend(k=K, exclude=live.item_ids[:1000])
    assert len(set(ids(answer)) - set(live.item_ids[:1000])) == K


def test_only_wanted_categories_come_and_fill_the_list(
    live: Live, shop: Recommender, queries: list[Query]
) -> None:
    """Each category with enough items gives K items of that category, beside a real basket."""
    count = sizes(live)
    large = [name for name in live.categories if count[name] >= K + max(len(q.basket) for q in queries)]
    assert len(large) > 50
    questions = [
        Query(queries[i % 100].basket, queries[i % 100].user_id, K, categories=[c])
        for i, c in enumerate(large)
    ]
    for category, answer in zip(large, shop.recommend_many(questions), strict=True):
        assert len(set(ids(answer))) == K
        assert all(category in live.categories_of[item] for item in ids(answer))


def test_a_small_category_is_recommended_whole_and_no_further(live: Live, shop: Recommender) -> None:
    """A category with n < K items gives all items outside the basket; the answer is that much shorter."""
    count = sizes(live)
    small = [name for name in live.categories if 1 < count[name] < K][:50]
    for category in small:
        first, *others = [item for item, names in live.categories_of.items() if category in names]
        answer = shop.recommend(basket=[first], k=K, categories=[category])
        assert sorted(ids(answer)) == sorted(others)


def test_several_categories_are_one_shelf(live: Live, shop: Recommender) -> None:
    """Items of any of them may come; excludes apply to them, too."""
    rng, count = np.random.default_rng(7), sizes(live)
    large = [name for name in live.categories if count[name] > 3 * K]
    for _ in range(20):
        wanted = rng.choice(large, 3, replace=False).tolist()
        first = shop.recommend(k=K, categories=wanted)
        second = shop.recommend(k=K, categories=wanted, exclude=ids(first))
        assert len({*ids(first), *ids(second)}) == 2 * K
        assert all(live.categories_of[item] & set(wanted) for item in [*ids(first), *ids(second)])


@pytest.mark.parametrize(
    "question",
    [
        {},
        {"basket": []},
        {"basket": [""]},
        {"user_id": ""},
        {"user_id": "nobody"},
        {"basket": ["no such item", "käse", "0"]},
        {"basket": ["no such item"], "user_id": "nobody", "exclude": ["nor this"]},
    ],
)
def test_an_unknown_customer_gets_the_best_sellers(
    live: Live, shop: Recommender, question: dict[str, object]
) -> None:
    """With an unknown customer and basket only sales are left: every answer is the same."""
    answer = shop.recommend(k=K, **question)
    assert ids(answer) == ids(shop.recommend(k=K))
    assert len(answer) == K
    assert set(ids(answer)) <= set(live.item_ids[:300])  # [sampler] fill
    assert {item.reasons for item in answer} == {(Reason.POPULAR,)}


def test_a_known_customer_with_an_empty_basket_gets_the_usual(
    live: Live, shop: Recommender, queries: list[Query]
) -> None:
    """Most of the first ten are items that the household buys anyway: the shop is a grocer."""
    users = sorted({query.user_id for query in queries})[:20]
    answers = shop.recommend_many([Query(user_id=user) for user in users])
    usual = [Reason.USUAL in item.reasons for answer in answers for item in answer]
    assert np.mean(usual) > 0.5


def test_unknown_items_change_nothing_beside_known_ones(shop: Recommender, queries: list[Query]) -> None:
    query = queries[-1]
    answer = shop.recommend([*query.basket, "no such item"], user_id=query.user_id, k=K)
    assert answer == shop.recommend(query.basket, user_id=query.user_id, k=K)


def test_scores_fall_ranks_rise_and_every_item_has_its_reasons(
    shop: Recommender, queries: list[Query]
) -> None:
    seen = set()
    for answer in shop.recommend_many(queries):
        scores = [item.score for item in answer]
        assert scores == sorted(scores, reverse=True)
        assert np.isfinite(scores).all()
        assert [item.rank for item in answer] == list(range(1, K + 1))
        assert all(item.reasons for item in answer)
        seen |= {reason for item in answer for reason in item.reasons}
    assert seen == set(Reason)


def test_every_k_is_the_head_of_the_longest_answer(live: Live, shop: Recommender) -> None:
    basket = live.item_ids[3:6]
    whole = shop.recommend(basket, k=K)
    assert [len(shop.recommend(basket, k=k)) for k in range(1, K + 1)] == list(range(1, K + 1))
    assert all(shop.recommend(basket, k=k) == whole[:k] for k in range(1, K + 1))


def test_the_order_of_the_basket_does_not_matter(shop: Recommender, queries: list[Query]) -> None:
    longest = max(queries, key=lambda query: len(query.basket))
    answers = [
        shop.recommend(basket) for basket in (longest.basket, longest.basket[::-1], longest.basket * 2)
    ]
    assert answers[1:] == answers[:1] * 2


@pytest.mark.parametrize("first", ["apart", "together"])
def test_a_basket_is_not_answered_with_what_its_items_were_answered_apart(
    live: Live, shop: Recommender, first: str, request: pytest.FixtureRequest
) -> None:
    """Baskets of one item each have the bytes of one basket of all items; Triton's cache compares bytes."""
    items = [f"only here, {request.node.callspec.id}", *live.item_ids[20:22]]

    def apart() -> int:
        return len(shop.recommend_many([Query([item]) for item in sorted(items)]))

    def together() -> int:
        return len(shop.recommend(items))

    if first == "apart":
        assert (apart(), together()) == (3, 10)
    else:
        assert (together(), apart()) == (10, 3)


def test_a_query_is_answered_alike_whatever_travels_beside_it(
    shop: Recommender, queries: list[Query]
) -> None:
    together = shop.recommend_many(queries)
    for query, answer in list(zip(queries, together, strict=True))[::10]:
        single = shop.recommend(query.basket, user_id=query.user_id, k=K)
        assert ids(single) == ids(answer)
        assert np.allclose([i.score for i in single], [i.score for i in answer], rtol=0, atol=1e-4)
