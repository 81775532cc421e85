"""The features of candidates, worked out by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest

from ensemble.candidate_sampler import kernels
from ensemble.candidate_sampler.arrays import Retrieval
from ensemble.candidate_sampler.features import FEATURES
from ensemble.candidate_sampler.query import Query
from tests.building.sampled_shops import ARRAYS, QUERY
from tests.building.world import DAY, arrays_of, features_of, sampler_of, shop_of


def test_features_of_a_usual_purchase() -> None:
    """Item 1 was bought 60 and 30 days ago, the first time with the basket's item 2."""
    assert features_of(sampler_of(ARRAYS).sample([QUERY]), 1) == with_roots(
        user_count=math.log(3),
        user_share=2 / 2,
        recency_15=math.exp(-4) + math.exp(-2),
        recency_60=math.exp(-1) + math.exp(-0.5),
        last_purchase=math.exp(-1),
        due=30 / 30,
        overlap=math.sqrt(1 / 2) * math.exp(-1),
        overlap_best=math.sqrt(1 / 2),
        cosine_sum=1 / math.sqrt(2) / 2,  # halved: seen once, shrunk by 1
        cosine_max=1 / math.sqrt(2) / 2,
        probability_sum=1 / 1 / 2,
        probability_max=1 / 1 / 2,
        weight_sum=1 / (1 + 30),  # alone, so no other partner shares the credit
        weight_max=1 / (1 + 30),
        popularity=math.log(1 + 10_000 * 2 / 3),
        popularity_28=math.log(1 + 10_000 * 1 / 2),
        category_in_basket=1 / 1,
        category_share=3 / 4,
        category_recency=2 * math.exp(-4) + math.exp(-2),
        in_category=2 / 3,
        retrieval_user=3,
        retrieval_basket=2 * 4,
        history_size=math.log(3),
        basket_size=math.log(2),
        variety=2 / 4,
    )


def test_features_of_what_the_user_never_bought() -> None:
    """Item 4 sold once in three baskets, to user 2. The purchase at the query's moment is unseen.

    Kind b was bought with kind a, that of the basket, in one of two baskets: 0.5, shrunk by 1 to 0.25.
    """
    assert features_of(sampler_of(ARRAYS).sample([QUERY]), 4) == with_roots(
        popularity=math.log(1 + 10_000 / 3),
        popularity_28=math.log(1 + 10_000 / 2),
        category_share=1 / 4,
        category_recency=math.exp(-2),
        category_cosine=1 / 4,
        category_lift=1 / 4,
        in_category=1 / 3,
        retrieval_basket=18,
        history_size=math.log(3),
        basket_size=math.log(2),
        variety=2 / 4,
        new_to_user=1,
    )


def test_baskets_add_up_over_the_root_of_their_size() -> None:
    """Item 3 is with 1 (cosine 1/2, P 1/2) and with 4 (cosine 1/√2, P 1), all halved by the shrinkage.

    Its weight from 4 is alone, that from 1 is regressed on 2, too: (32 1; 1 31) w = (1; 0).
    """
    assert features_of(sampler_of(ARRAYS).sample([Query(basket=[1, 4])]), 3) == with_roots(
        cosine_sum=(1 / 4 + math.sqrt(1 / 2) / 2) / math.sqrt(2),
        cosine_max=math.sqrt(1 / 2) / 2,
        probability_sum=(1 / 4 + 1 / 2) / math.sqrt(2),
        probability_max=1 / 2,
        weight_sum=(31 / (32 * 31 - 1) + 1 / 31) / math.sqrt(2),
        weight_max=1 / 31,
        popularity=math.log(1 + 10_000 * 2 / 3),
        popularity_28=math.log(1 + 10_000),
        category_in_basket=1 / 2,
        category_cosine=1 / 4 / math.sqrt(2),
        category_lift=1 / 4 / math.sqrt(2),
        in_category=2 / 3,
        retrieval_basket=1 / math.sqrt(2),
        basket_size=math.log(3),  # and not new_to_user: nobody knows what an unknown user never bought
    )


def with_roots(**values: float) -> object:
    """All features, 0 unless named, with roots where the sampler takes them, to compare with."""
    roots = {name for name, root in zip(FEATURES, kernels.IS_ROOT, strict=True) if root}
    return pytest.approx(
        {n: math.sqrt(values.get(n, 0)) if n in roots else values.get(n, 0) for n in FEATURES}, rel=1e-6
    )


def test_due_is_capped_and_needs_two_purchases() -> None:
    """Bought on days 0 and 2, asked on day 30: 28 / 2 is 14, cut to 4, whose root is 2."""
    shop = shop_of([(1, 0, [1, 2]), (1, 2, [1])], items=2)
    candidates = sampler_of(arrays_of(shop)).sample([Query(user_row=1, now=30 * DAY)])
    assert [features_of(candidates, row)["due"] for row in (1, 2)] == [2, 0]


def test_columns_are_named_as_the_features() -> None:
    assert [getattr(kernels, name.upper()) for name in FEATURES] == list(range(len(FEATURES)))


def test_an_excluded_item_is_not_one_of_the_basket() -> None:
    """Item 3 was in a past basket with 1. Excluding it makes that basket no more similar to this one."""
    one, other = (sampler_of(ARRAYS).sample([q]) for q in (QUERY, replace(QUERY, exclude=[3])))
    a, b = (features_of(candidates, 1) for candidates in (one, other))
    assert (a["overlap"], a["overlap_best"]) == (b["overlap"], b["overlap_best"])


def test_the_prior_scores_what_is_written_down() -> None:
    """Candidates are chosen before features are written, by the same features of user, basket and item."""
    rng = np.random.default_rng(0)
    receipts = [(n % 3, n, rng.choice(60, 8, replace=False) + 1) for n in range(24)]
    shop = shop_of(
        receipts, items=60, categories={"kind": [f"kind {n % 7}" if n % 7 else "" for n in range(60)]}
    )
    tower = Retrieval(*(rng.normal(size=(n, 4)).astype(np.float32) for n in (3, 61, 61)))
    prior = dict(zip(FEATURES, rng.normal(size=len(FEATURES)), strict=True))
    arrays = arrays_of(shop, prior=prior, retrieval=tower)
    queries = [Query(user_row=1, basket=[3, 5, 9]), Query(user_row=2), Query(basket=[7]), Query()]
    every, some = (
        sampler_of(arrays, capacity=places, popular=60, similar=10).sample(queries) for places in (60, 12)
    )
    for i in range(len(queries)):
        scores = np.where(every.rows[i] > 0, every.features[i] @ arrays.prior.weights, -np.inf)
        assert set(some.rows[i]) == set(every.rows[i][np.argsort(-scores)[:12]])
