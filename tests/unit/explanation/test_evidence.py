"""Who adds most to a feature; the terms of each sum add up to the feature that the kernel computes."""

from collections.abc import Callable

import numpy as np
import pytest

from ensemble.candidate_sampler.features import FEATURES
from ensemble.candidate_sampler.query import Query
from ensemble.candidate_sampler.sources import CATEGORY, POPULAR, SIMILAR, TOGETHER, USUAL
from ensemble.explanation.evidence import TERMS, Contributor, Evidence
from tests.building.sampled_shops import (
    ARRAYS,
    QUERY,
    RANDOM_ARRAYS,
    random_queries,
    random_sampler,
)
from tests.building.world import DAY

Sizes = tuple[int, int, int]  # of the basket; baskets of the user; purchases of the user
Amounts = np.ndarray


# What a feature makes of its terms; "last_purchase" and "due" are made of one receipt and of others' ages.
FINISHED: dict[str, Callable[[Amounts, Sizes], float]] = {
    "user_count": lambda a, n: float(np.log1p(a.sum())),
    "user_share": lambda a, n: float(np.sqrt(a.sum() / max(n[1], 1))),
    "recency_15": lambda a, n: float(np.sqrt(a.sum())),
    "recency_60": lambda a, n: float(np.sqrt(a.sum())),
    "overlap": lambda a, n: float(np.sqrt(a.sum())),
    "overlap_best": lambda a, n: float(np.sqrt(a.max(initial=0))),
    "cosine_sum": lambda a, n: float(np.sqrt(a.sum() / np.sqrt(max(n[0], 1)))),
    "cosine_max": lambda a, n: float(np.sqrt(a.max(initial=0))),
    "probability_sum": lambda a, n: float(np.sqrt(a.sum() / np.sqrt(max(n[0], 1)))),
    "probability_max": lambda a, n: float(np.sqrt(a.max(initial=0))),
    "weight_sum": lambda a, n: float(np.sqrt(max(a.sum() / np.sqrt(max(n[0], 1)), 0))),
    "weight_max": lambda a, n: float(np.sqrt(a.max(initial=0))),
    "category_in_basket": lambda a, n: float(np.sqrt(a.sum() / max(n[0], 1))),
    "category_share": lambda a, n: float(np.sqrt(a.sum() / max(n[2], 1))),
    "category_recency": lambda a, n: float(np.sqrt(a.sum())),
    "category_cosine": lambda a, n: float(np.sqrt(a.sum() / np.sqrt(max(n[0], 1)))),
    "category_lift": lambda a, n: float(np.sqrt(a.sum() / np.sqrt(max(n[0], 1)))),
    "retrieval_basket": lambda a, n: float(a.sum()),
}


def test_the_terms_add_up_to_the_kernels_features() -> None:
    """Twelve random questions, with and without users, moments, filters and excluded items."""
    queries, checked = random_queries(np.random.default_rng(8), 12), 0
    found = random_sampler().sample(queries)
    for i, query in enumerate(queries):
        evidence = Evidence(RANDOM_ARRAYS, query, str)
        purchases = sum(len(receipt.items) for receipt in evidence.receipts)
        sizes = len(query.basket), len(evidence.receipts), purchases
        for row, features in list(zip(found.rows[i].tolist(), found.features[i], strict=True))[::6]:
            for feature, finish in FINISHED.items():
                amounts = TERMS[feature](evidence, row).amounts
                value = features[FEATURES.index(feature)] if row else 0
                if row:
                    assert finish(amounts, sizes) == pytest.approx(value, abs=1e-4), (feature, row, query)
                    checked += bool(value)
    assert checked > 500
    assert {*FINISHED, "last_purchase", "due"} == set(TERMS)


def test_the_latest_receipt_with_the_item_adds_most() -> None:
    """User 1 bought item 1 on the days 0 and 30, and asks on day 60; exp(-1) and exp(-0.5) are its terms."""
    evidence = Evidence(ARRAYS, QUERY, str)
    share = np.exp(-0.5) / (np.exp(-0.5) + np.exp(-1.0))
    assert evidence.largest("recency_60", 1) == Contributor(
        "receipt", "1970-01-31 00:00:00", pytest.approx(share), 30
    )
    assert evidence.largest("last_purchase", 1) == Contributor("receipt", "1970-01-31 00:00:00", 1.0, 30)


def test_a_receipt_at_the_moment_of_the_question_is_not_seen() -> None:
    assert Evidence(ARRAYS, QUERY, str).largest("user_count", 4) is None
    later = Query(user_row=1, basket=[2], now=61 * DAY)
    found = Evidence(ARRAYS, later, str).largest("user_count", 4)
    assert found == Contributor("receipt", "1970-03-02 00:00:00", 1.0, 1)


def test_the_basket_item_that_is_bought_with_it_most_often() -> None:
    """Item 1 was bought once with 2 and once with 3; n_2 = 1 and n_3 = 2, so 2 has √2 of 1 + √2."""
    query = Query(basket=[2, 3], now=60 * DAY)
    found = Evidence(ARRAYS, query, lambda row: f"i{row}").largest("cosine_sum", 1)
    assert found == Contributor("basket_item", "i2", pytest.approx(2**0.5 / (1 + 2**0.5)))


def test_each_source_names_who_has_proposed_the_item() -> None:
    """Item 1: bought by the user, bought with 2, near by 2's vector, first best seller, of 2's category."""
    found = Evidence(ARRAYS, QUERY, str).proposers(1, USUAL | TOGETHER | SIMILAR | POPULAR | CATEGORY)
    assert {bit: (who.kind, who.name) for bit, who in found.items()} == {
        USUAL: ("receipt", "1970-01-31 00:00:00"),
        TOGETHER: ("basket_item", "2"),
        SIMILAR: ("basket_item", "2"),
        POPULAR: ("best_seller", "1"),
        CATEGORY: ("basket_item", "2"),
    }


def test_a_category_that_was_asked_for_names_itself() -> None:
    names = [name.decode() for name in ARRAYS.category_names.unpack()]
    query = Query(wanted=[names.index("b")], now=60 * DAY)
    assert Evidence(ARRAYS, query, str).proposers(3, CATEGORY)[CATEGORY] == Contributor("category", "b")


def test_receipts_without_times_have_numbers() -> None:
    """A clock whose day is not 86,400 s counts baskets."""
    arrays = ARRAYS._replace(clock=ARRAYS.clock._replace(day=np.array(DAY / 2, np.float32)))
    found = Evidence(arrays, QUERY, str).largest("user_count", 1)
    assert found is not None
    assert (found.name, found.days_ago) == ("2 of 2", 60)
