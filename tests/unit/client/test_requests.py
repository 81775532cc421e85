"""Queries that the client refuses before it sends anything, and the sentences of the refusals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cesta_client import AsyncRecommender, InvalidRequest, Query, Recommender
from cesta_client.testing import FakeShop


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        ({"basket": [1095275]}, "item ids are strings; got 1095275 (int)"),
        ({"basket": ["1", None]}, "item ids are strings; got None (NoneType)"),
        ({"basket": "1095275"}, "basket is a list of item ids; got '1095275' (str); put it in [ ]"),
        ({"basket": b"1095275"}, "basket is a list of item ids; got b'1095275' (bytes); put it in [ ]"),
        ({"basket": 1095275}, "basket is a list of item ids; got 1095275 (int)"),
        ({"categories": "dairy"}, "categories is a list of categories; got 'dairy' (str); put it in [ ]"),
        ({"categories": [3]}, "categories are strings; got 3 (int)"),
        ({"exclude": "7"}, "exclude is a list of item ids; got '7' (str); put it in [ ]"),
        ({"user_id": 900}, "user_id is a string; got 900 (int)"),
        ({"basket": [str(n) for n in range(201)]}, "basket has 201 item ids; at most 200 are allowed"),
        ({"exclude": [str(n) for n in range(1001)]}, "exclude has 1001 item ids; at most 1000 are allowed"),
        ({"categories": map(str, range(101))}, "categories has 101 categories; at most 100 are allowed"),
        ({"basket": ["x" * 129]}, "item id 'xxxxxxxxxxxxxxxxxxxx'… has 129 bytes; at most 128 are allowed"),
        ({"user_id": "ä" * 65}, "user_id 'ääääääääääääääääääää'… has 130 bytes; at most 128 are allowed"),
        ({"basket": ["\ud800"]}, r"item id '\ud800' has no UTF-8 form; it holds half a surrogate pair"),
        ({"user_id": "\udfff"}, r"user_id '\udfff' has no UTF-8 form; it holds half a surrogate pair"),
        ({"k": 0}, "k is a whole number from 1 to 20; got 0 (int)"),
        ({"k": 21}, "k is a whole number from 1 to 20; got 21 (int)"),
        ({"k": 2.5}, "k is a whole number from 1 to 20; got 2.5 (float)"),
        ({"k": True}, "k is a whole number from 1 to 20; got True (bool)"),
        ({"timeout_s": 0}, "timeout_s is a number of seconds above 0; got 0 (int)"),
        ({"timeout_s": -1.5}, "timeout_s is a number of seconds above 0; got -1.5 (float)"),
        ({"timeout_s": float("nan")}, "timeout_s is a number of seconds above 0; got nan (float)"),
        ({"timeout_s": "1"}, "timeout_s is a number of seconds above 0; got '1' (str)"),
        ({"request_id": 5}, "request_id is a string; got 5 (int)"),
    ],
)
def test_a_wrong_question_is_refused_in_one_sentence_and_never_sent(question, sentence):
    shop = FakeShop()
    with pytest.raises(InvalidRequest) as refused:
        Recommender(transport=shop).recommend(**question)
    assert str(refused.value) == sentence
    assert shop.requests == []


def test_the_limits_themselves_are_allowed():
    shop = FakeShop()
    Recommender(transport=shop).recommend(
        basket=[str(n) for n in range(200)] * 2,  # repetitions do not count
        exclude=[str(n) for n in range(1000)],
        categories=[str(n) for n in range(100)],
        user_id="ä" * 64,
        k=20,
    )
    assert len(shop.requests) == 1


def test_a_long_value_is_not_repeated_in_the_sentence():
    with pytest.raises(InvalidRequest, match=r"^item ids are strings; got a long list$"):
        Query(basket=[["1"] * 100])


def test_recommend_many_takes_queries_only():
    shop = FakeShop()
    with pytest.raises(InvalidRequest, match=r"queries\[1\] is a list; write Query\(basket=…\)"):
        Recommender(transport=shop).recommend_many([Query(["a"]), ["b"]])
    assert shop.requests == []


@pytest.mark.parametrize("kind", [Recommender, AsyncRecommender])
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "either an address or a transport"),
        ({"address": "localhost:8001", "transport": FakeShop()}, "either an address or a transport"),
        ({"address": "localhost"}, 'address is "host:port", such as "localhost:8001"; got \'localhost\''),
        ({"address": "localhost:http"}, "host:port"),
        ({"address": "localhost:99999"}, "host:port"),
        ({"address": ":8001"}, "host:port"),
        ({"address": "localhost:8001/base"}, "host:port"),
        ({"address": "localhost:8000/a\r\nb", "protocol": "http"}, "host:port"),
        ({"address": "http://localhost:8000"}, 'use protocol="http" and ssl=True instead of a scheme'),
        ({"address": "localhost:8000", "protocol": "https"}, 'protocol is "grpc" or "http"; got \'https\''),
        ({"address": "localhost:8001", "timeout_s": 0}, "timeout_s is a number of seconds above 0; got 0"),
        ({"address": "localhost:8001", "retries": -1}, "retries is a whole number, 0 or more; got -1"),
        ({"address": "localhost:8001", "headers": {"a b": "c"}}, "'a b' is not a header name"),
        ({"address": "localhost:8001", "root_certificates": "ca.pem"}, "add ssl=True"),
        ({"address": "localhost:8001", "ssl": True, "root_certificates": "no.pem"}, "no file .* at 'no.pem'"),
    ],
)
def test_an_option_that_cannot_work_is_refused_at_once(kind, options, sentence):
    with pytest.raises(InvalidRequest, match=sentence.replace("[", r"\[")):
        kind(**options)


def test_a_key_that_would_smuggle_a_header_is_refused_without_being_shown():
    with pytest.raises(InvalidRequest) as refused:
        Recommender("localhost:8001", api_key="s3cret\r\nx-admin: yes")
    assert str(refused.value) == "the value of header 'authorization' must be printable ASCII"


def test_a_closed_recommender_says_so():
    recommender = Recommender(transport=FakeShop())
    recommender.close()
    recommender.close()
    with pytest.raises(InvalidRequest, match="closed; make a new one"):
        recommender.recommend()


@given(st.lists(st.text(max_size=32), max_size=200), st.one_of(st.none(), st.text(max_size=32)))
def test_whatever_is_accepted_arrives_as_it_was_asked(basket, user_id):
    shop = FakeShop()
    try:
        Recommender(transport=shop).recommend(basket=basket, user_id=user_id)
    except InvalidRequest as refused:
        assert "surrogate" in str(refused)  # noqa: PT017  a refusal is one of two right outcomes
        return
    assert shop.queries == [Query(basket, user_id, k=20)]
    assert set(shop.queries[0].basket) == {item for item in basket if item}
