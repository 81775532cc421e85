"""The checks of one event: each limit, and what is made of what is allowed."""

from __future__ import annotations

from typing import Any

import pytest

from ensemble.candidate_sampler.query import MAX_BASKET
from ensemble.candidate_sampler.query import MAX_ID_BYTES as SAMPLERS_MAX_ID_BYTES
from operations.events.event import MAX_ID_BYTES, MAX_ITEMS, BadEvent, Event, check_event, read_event

SMALLEST = {"event_id": "e1", "basket_id": "b1", "item_ids": ["milk"]}


def refused(**given: Any) -> tuple[str, str]:
    with pytest.raises(BadEvent) as caught:
        check_event(SMALLEST | given)
    return caught.value.code, caught.value.pointer


def test_the_limits_are_the_samplers() -> None:
    assert (MAX_ITEMS, MAX_ID_BYTES) == (MAX_BASKET, SAMPLERS_MAX_ID_BYTES)


def test_an_event_without_a_type_is_a_purchase() -> None:
    assert check_event(SMALLEST) == Event("purchase", "e1", "b1", ("milk",))


def test_items_are_a_set_and_ids_lose_the_blanks_around_them() -> None:
    event = check_event(SMALLEST | {"item_ids": ["milk", " bread\t", "milk", ""], "user_id": " u7 "})
    assert (event.item_ids, event.user_id) == (("bread", "milk"), "u7")


def test_the_order_of_fields_and_items_makes_no_other_event() -> None:
    one = check_event({"event_id": "e", "basket_id": "b", "item_ids": ["x", "y"], "user_id": None})
    other = check_event({"item_ids": ["y", "x", "x"], "basket_id": "b", "event_id": "e", "type": "purchase"})
    assert one.content() == other.content()


def test_content_holds_the_whole_event() -> None:
    event = check_event(
        SMALLEST
        | {
            "type": "returned",
            "user_id": "ü",
            "store_id": "s",
            "at": "2026-03-01T12:00:00.5Z",
            "request_id": "r",
        }
    )
    assert event.at_ms == 1_772_366_400_500
    assert read_event(event.content()) == event


def test_a_time_has_an_offset() -> None:
    hour_later = check_event(SMALLEST | {"at": "2026-03-01T13:00:00+01:00"})
    assert hour_later == check_event(SMALLEST | {"at": "2026-03-01T12:00:00Z"})
    assert refused(at="2026-03-01T12:00:00") == ("wrong_form", "/at")
    assert refused(at="yesterday") == ("wrong_form", "/at")
    assert refused(at=1_772_366_400) == ("wrong_type", "/at")


@pytest.mark.parametrize("name", ["event_id", "basket_id", "item_ids"])
def test_a_missing_field_is_named(name: str) -> None:
    with pytest.raises(BadEvent, match=f"needs {name}") as caught:
        check_event({key: value for key, value in SMALLEST.items() if key != name})
    assert (caught.value.code, caught.value.pointer) == ("missing_field", f"/{name}")


def test_ids_have_limits() -> None:
    assert refused(event_id="e" * 129) == ("id_too_long", "/event_id")
    assert refused(user_id="é" * 65) == ("id_too_long", "/user_id")
    assert refused(basket_id=" ") == ("wrong_form", "/basket_id")
    assert refused(store_id=7) == ("wrong_type", "/store_id")
    assert refused(request_id="\ud800") == ("not_utf8", "/request_id")
    assert check_event(SMALLEST | {"event_id": "e" * 128}).event_id == "e" * 128


def test_items_have_limits() -> None:
    assert refused(item_ids=[str(n) for n in range(201)]) == ("too_many_ids", "/item_ids")
    assert refused(item_ids=["milk"] * 1001) == ("too_many_ids", "/item_ids")
    assert refused(item_ids=[]) == ("wrong_form", "/item_ids")
    assert refused(item_ids="milk") == ("wrong_type", "/item_ids")
    assert refused(item_ids=["milk", None]) == ("wrong_type", "/item_ids/1")
    assert len(check_event(SMALLEST | {"item_ids": [str(n) for n in range(200)]}).item_ids) == 200


def test_what_is_no_event_is_refused_with_its_value() -> None:
    assert refused(item_id="milk") == ("unknown_field", "")
    assert refused(type="sale") == ("wrong_form", "/type")
    with pytest.raises(BadEvent, match=r"an event is an object; got \[1\]"):
        check_event([1])
