"""How far the sources were from an item that none of them proposes."""

import numpy as np

from ensemble.candidate_sampler.query import Query
from ensemble.explanation.misses import Miss, misses
from tests.building.sampled_shops import ARRAYS, RANDOM_ARRAYS, random_queries
from tests.building.world import DAY, LIMITS, sampler_of

SMALL = LIMITS | {"similar": 1, "popular": 1, "per_category": 1}
RANDOM = LIMITS | {"capacity": 301, "similar": 12, "popular": 9, "per_category": 2, "fill": 20}


def test_an_item_that_is_not_proposed_is_behind_what_is() -> None:
    """On random questions, for each item that no source proposes."""
    queries, missed = random_queries(np.random.default_rng(12), 25), 0
    found = sampler_of(RANDOM_ARRAYS, **RANDOM).sample(queries)
    for i, query in enumerate(queries):
        possible = set(range(1, 301)) - set(query.basket) - set(query.exclude)
        if query.wanted:
            of_item = RANDOM_ARRAYS.categories.of_item
            possible = {row for row in possible if set(of_item[row].tolist()) & set(query.wanted)}
        for row in possible - set(found.rows[i].tolist()):
            for miss in misses(RANDOM_ARRAYS, RANDOM, query, row).values():
                assert miss.place is None or miss.proposed is None or miss.place > miss.proposed
                missed += miss.place is not None
    assert missed > 1000


def test_each_source_says_what_it_lacked() -> None:
    """Item 2 was bought by user 1 only, with item 1, and is of another kind than item 3."""
    found = misses(ARRAYS, SMALL, Query(user_row=2, basket=[3], now=60 * DAY), 2)
    assert found["usual"] == Miss("the customer never bought it")
    assert found["together"] == Miss("no item of the basket has it among its strongest partners")
    assert found["category"] == Miss("no item of the basket is in its category")
    order = ARRAYS.popularity.order.tolist()
    assert found["popular"] == Miss(
        f"it is number {order.index(2) + 1} of the best sellers; the first 1 are proposed",
        order.index(2) + 1,
        1,
    )


def test_an_item_that_hardly_sold_is_in_no_list() -> None:
    """Item 5 was never sold and has no kind; nobody and nothing is known."""
    found = misses(ARRAYS, SMALL, Query(now=60 * DAY), 5)
    assert found["usual"] == Miss("the customer is not known")
    assert found["together"] == Miss("the release knows no item of the basket, or it is empty")
    assert found["popular"] == Miss("it sold too rarely to be counted")
    assert found["category"] == Miss("it has no category")


def test_without_customer_and_basket_nothing_is_near() -> None:
    found = misses(ARRAYS, SMALL, Query(now=60 * DAY), 4)
    assert found["similar"].sentence.startswith("neither the customer nor an item of the basket is known")
    found = misses(ARRAYS, SMALL | {"similar": 0}, Query(basket=[1], now=60 * DAY), 4)
    assert "only items that hardly sold" in found["similar"].sentence


def test_categories_of_the_basket_beyond_the_limit_are_named() -> None:
    """The basket has the kinds a and b, of which one is used."""
    limits = SMALL | {"basket_categories": 1}
    found = misses(ARRAYS, limits, Query(basket=[1, 3], now=60 * DAY), 4)
    assert found["category"] == Miss("categories of the basket that are used: 1; its own comes later")
    assert misses(ARRAYS, SMALL, Query(basket=[1, 3], now=60 * DAY), 4)["category"].place == 2
