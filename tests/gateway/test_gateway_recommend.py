"""A shop's JSON requests and the answers to them."""

from __future__ import annotations

import json
from typing import Any
from urllib.request import Request, urlopen

import pytest
import tritonclient.grpc

from tests.running.door import Door

pytestmark = pytest.mark.triton

REASONS = {"usual", "together", "similar", "popular", "category"}


def hits(triton: Any) -> int:
    """Number of answers from Triton's cache."""
    with tritonclient.grpc.InferenceServerClient(triton.grpc) as client:
        (stats,) = client.get_inference_statistics("recommender").model_stats
    return int(stats.inference_stats.cache_hit.count)


def test_the_best_items_come_first_with_scores_and_reasons(door: Door) -> None:
    """Ten items without k, no padding and no tensors; release and request id stand beside them."""
    answer = door.recommend("i1", "i2")

    assert answer.status == 200
    assert set(answer.body) == {"release", "items", "request_id"}
    assert answer.body["release"] == 2
    items = answer.body["items"]
    assert len(items) == len({item["item_id"] for item in items}) == 10
    assert [item["score"] for item in items] == sorted((item["score"] for item in items), reverse=True)
    assert all(set(item["reasons"]) <= REASONS for item in items)


def test_everything_may_be_left_out(door: Door) -> None:
    empty = ({}, {"basket": None, "user_id": None}, {"basket": [""], "categories": []})
    for body in (*empty, {"user_id": "900"}, {"exclude": ["i1"]}, {"categories": ["x"]}):
        assert len(door.ask("/v1/recommend", body).body["items"]) == 10


def test_k_cuts_the_list(door: Door) -> None:
    bodies = [door.ask("/v1/recommend", {"basket": ["i1"], "k": k}).body["items"] for k in (20, 1)]

    assert [len(items) for items in bodies] == [20, 1]
    assert bodies[0][:1] == bodies[1]


def test_equal_baskets_share_an_entry_of_the_cache(door: Door, triton: Any) -> None:
    """Order and repetitions do not matter: the gateway sorts the items."""
    first = door.recommend("i31", "i32", "i33")
    before = hits(triton)
    again = door.recommend("i33", "i31", "", "i32", "i31")

    assert again.body["items"] == first.body["items"]
    assert hits(triton) == before + 1


def test_basket_and_user_are_always_sent(door: Door, triton: Any) -> None:
    """Triton batches only requests with the same inputs. A direct request with both fills the cache, and the
    gateway finds the entry for a shop that leaves one out.
    """
    for n, straight in enumerate([{"basket": ["i51"], "user_id": ""}, {"basket": [""], "user_id": "951"}]):
        body = json.dumps(straight).encode()
        request = Request(f"http://{triton.http}/v2/models/recommender/generate", body)
        with urlopen(request, timeout=10) as answer:
            assert answer.status == 200
        before = hits(triton)
        assert door.ask("/v1/recommend", [{"basket": ["i51"]}, {"user_id": "951"}][n]).status == 200
        assert hits(triton) == before + 1


def test_a_batch_answers_each_query_in_order(door: Door) -> None:
    """The batch has as many queries as are allowed, and the answers are those of single requests."""
    queries = [{"basket": [f"i{n}"], "k": 3} for n in range(1, 33)]
    answer = door.ask("/v1/recommend/batch", {"queries": queries})

    assert answer.status == 200
    single_answers = [door.ask("/v1/recommend", query).body["items"] for query in queries]
    assert [each["items"] for each in answer.body["answers"]] == single_answers


REFUSED: dict[str, tuple[Any, str, str | None, str]] = {  # body, code, JSON pointer, sentence
    "cut off": (b'{"basket": ["i1"', "not_json", None, "the body is not JSON: "),
    "nothing": (b"", "not_json", None, "the body is not JSON: "),
    "not UTF-8": (b'{"basket": ["k\xe4se"]}', "not_utf8", None, "the body is not UTF-8"),
    "nested deeply": (b"[" * 60_000, "not_json", None, "the body is not JSON: "),
    "a list": ([], "wrong_type", "", 'an object such as {"basket": [...]} is wanted; got a list'),
    "null": (b"null", "wrong_type", "", 'an object such as {"basket": [...]} is wanted; got null'),
    "another key": (
        {"user": "900"},
        "unknown_field",
        "/user",
        'unknown key "user"; known are basket, exclude, categories, user_id, k, store_id, '
        "exclude_categories, items, history, history_ages",
    ),
    "the request id": ({"id": "x"}, "unknown_field", "/id", 'unknown key "id"'),
    "an odd key": ({"a/b~": 1}, "unknown_field", "/a~1b~0", 'unknown key "a/b~"'),
    "a long key": ({"x" * 41: 1}, "unknown_field", "", 'unknown key "xxx'),
    "a prototype": (b'{"__proto__": {}}', "unknown_field", "/__proto__", 'unknown key "__proto__"'),
    "text for a list": ({"basket": "i1"}, "wrong_type", "/basket", "basket is a list of strings; got a"),
    "numbers": ({"basket": ["i1", 5]}, "wrong_type", "/basket/1", "basket holds a number; ids are strings"),
    "a list in a list": ({"exclude": [["i1"]]}, "wrong_type", "/exclude/0", "exclude holds a list; ids are"),
    "null in a list": ({"categories": [None]}, "wrong_type", "/categories/0", "categories holds null; ids"),
    "a list of users": ({"user_id": ["1", "2"]}, "wrong_type", "/user_id", "user_id is a string; got a list"),
    "a number for a store": (
        {"store_id": 7},
        "wrong_type",
        "/store_id",
        "store_id is a string; got a number",
    ),
    "text for ages": (
        {"history": ["a"], "history_ages": ["1"]},
        "wrong_type",
        "/history_ages/0",
        "history_ages holds a string; ages are numbers",
    ),
    "too few ages": (
        {"history": ["a", "b"], "history_ages": [1]},
        "out_of_range",
        "/history_ages",
        "history_ages has 1 ages; history has 2 ids",
    ),
    "k 0": ({"k": 0}, "out_of_range", "/k", "k is a whole number from 1 to 20; got 0"),
    "k 21": ({"k": 21}, "out_of_range", "/k", "k is a whole number from 1 to 20; got 21"),
    "k 1.5": ({"k": 1.5}, "out_of_range", "/k", "k is a whole number from 1 to 20; got 1.5"),
    "k text": ({"k": "5"}, "wrong_type", "/k", 'k is a whole number from 1 to 20; got "5"'),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_understood_is_refused_in_a_sentence(door: Door, case: str) -> None:
    """A program finds the kind of fault and its place in code and pointer."""
    body, code, pointer, sentence = REFUSED[case]
    answer = door.ask("/v1/recommend", body)

    assert answer.status == 400
    assert answer.error.startswith(sentence)
    assert (answer.body["code"], answer.body.get("pointer")) == (code, pointer)


REFUSED_BATCHES: dict[str, tuple[Any, str, str]] = {  # body, JSON pointer, sentence
    "no list": ({"queries": {}}, "/queries", "queries is a list of queries; got an object"),
    "none": ({"queries": []}, "/queries", "queries has 0 entries; 1 to 32 are allowed"),
    "too many": ({"queries": [{}] * 33}, "/queries", "queries has 33 entries; 1 to 32 are allowed"),
    "a query alone": ({"basket": []}, "/basket", 'unknown key "basket"; known are queries'),
}


@pytest.mark.parametrize("case", REFUSED_BATCHES)
def test_a_batch_that_cannot_be_understood_is_refused_whole(door: Door, case: str) -> None:
    body, pointer, sentence = REFUSED_BATCHES[case]
    answer = door.ask("/v1/recommend/batch", body)

    assert answer.status == 400
    assert answer.error.startswith(sentence)
    assert answer.body["pointer"] == pointer


BAD_QUERIES: dict[str, tuple[Any, str, str]] = {  # query, JSON pointer, sentence
    "k": ({"k": 0}, "/queries/1/k", "queries[1]: k is a whole number"),
    "null": (None, "/queries/1", "queries[1]: an object such as"),
    "a list": ([], "/queries/1", "queries[1]: an object such as"),
}


@pytest.mark.parametrize("case", BAD_QUERIES)
def test_a_bad_query_does_not_refuse_the_others_of_its_batch(door: Door, case: str) -> None:
    query, pointer, sentence = BAD_QUERIES[case]
    answer = door.ask("/v1/recommend/batch", {"queries": [{"basket": ["i1"]}, query, {"k": 10}]})
    assert answer.status == 200
    good, bad, empty = answer.body["answers"]
    assert good["items"] == door.recommend("i1").body["items"]
    assert len(empty["items"]) == 10
    assert bad.keys() == {"problem"}
    assert bad["problem"]["detail"].startswith(sentence)
    assert (bad["problem"]["status"], bad["problem"]["pointer"]) == (400, pointer)


def test_a_list_is_ranked(door: Door) -> None:
    """The items are those of the question, and as many as there may be, unless k says less."""
    items = [item["item_id"] for item in door.ask("/v1/recommend", {"k": 3}).body["items"]]
    refused = door.ask("/v1/rank", {"basket": ["i1"]})
    assert (refused.status, refused.body["pointer"]) == (400, "/items")
    answer = door.ask("/v1/rank", {"items": items})
    assert answer.status == 200
    assert len(answer.body["items"]) == 20  # the toy knows no "items"
