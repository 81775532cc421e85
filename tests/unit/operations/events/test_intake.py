"""The body of a request with events: its forms, and what is refused of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from operations.events.event import BadEvent
from operations.events.intake import Intake, take_in

NOW_MS = 1_772_366_400_000  # 2026-03-01T12:00:00Z
FIRST_MS = NOW_MS - 86_400_000 * 365


def event(n: int, **about: Any) -> dict[str, Any]:
    return {"event_id": f"e{n}", "basket_id": f"b{n}", "item_ids": ["milk"], **about}


def take(body: object, ndjson: bool = False) -> Intake:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return take_in(raw, ndjson, NOW_MS, FIRST_MS)


def test_one_event_is_the_body_itself() -> None:
    intake = take(event(1))
    assert ([each.event_id for each in intake.events], intake.single) == (["e1"], True)


def test_a_list_keeps_its_order_and_tells_places() -> None:
    intake = take({"events": [event(1), event(2, item_ids=[]), event(3)]})
    assert [each.event_id for each in intake.events] == ["e1", "e3"]
    assert (intake.places, intake.single) == ([0, 2], False)
    (refusal,) = intake.refused
    assert (refusal.index, refusal.event_id, refusal.code, refusal.pointer) == (
        1,
        "e2",
        "wrong_form",
        "/item_ids",
    )


def test_a_line_of_ndjson_that_is_no_json_does_not_refuse_the_others() -> None:
    lines = [json.dumps(event(1)), "{", "", json.dumps(event(3))]
    intake = take("\n".join(lines).encode(), ndjson=True)
    assert [each.event_id for each in intake.events] == ["e1", "e3"]
    assert [(each.index, each.event_id, each.code) for each in intake.refused] == [(1, "", "not_json")]


def test_a_time_may_be_five_minutes_ahead() -> None:
    assert take(event(1, at="2026-03-01T12:05:00Z")).refused == []
    (refusal,) = take(event(1, at="2026-03-01T12:05:00.001Z")).refused
    assert (refusal.code, refusal.pointer) == ("event_in_future", "/at")
    (far,) = take(event(1, at="9999-12-31T23:59:59Z")).refused
    assert far.code == "event_in_future"


def test_a_time_before_the_first_receipt_is_refused() -> None:
    assert take(event(1, at="2025-03-01T12:00:00Z")).refused == []
    (refusal,) = take(event(1, at="2025-03-01T11:59:59Z")).refused
    assert refusal.code == "event_before_receipts"
    assert "2025-03-01T12:00:00+00:00" in refusal.sentence
    without_release = take_in(json.dumps(event(1, at="1970-01-01T00:00:00Z")).encode(), False, NOW_MS, None)
    assert without_release.refused == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "not_json"),
        (b"[" * 100_000, "not_json"),
        (b'{"event_id": "\xff"}', "not_utf8"),
        ({"events": []}, "out_of_range"),
        ({"events": [event(n) for n in range(1001)]}, "out_of_range"),
        ({"events": event(1)}, "wrong_type"),
        ({"events": [event(1)], "user_id": "u"}, "unknown_field"),
    ],
    ids=["cut", "deep", "latin", "none", "too many", "no list", "beside"],
)
def test_a_body_of_another_form_is_refused_whole(body: object, code: str) -> None:
    with pytest.raises(BadEvent) as caught:
        take(body)
    assert caught.value.code == code


def test_what_is_no_object_is_refused_as_an_event() -> None:
    assert [refusal.code for refusal in take([event(1)]).refused] == ["wrong_type"]
    assert [refusal.code for refusal in take({"events": [7]}).refused] == ["wrong_type"]
