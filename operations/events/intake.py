"""The body of a request with events → checked events, and a reason for each that is refused."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from operations.events.event import BadEvent, Event, check_event

MAX_EVENTS: Final = 1000  # of one request
TOLERANCE_MS: Final = 300_000  # a shop's clock may be as far ahead


@dataclass(frozen=True)
class Refusal:
    """An event that is not kept: its place in the request, and why. ``event_id`` is "" if it has none."""

    index: int
    event_id: str
    code: str
    pointer: str  # within the event
    sentence: str


@dataclass(frozen=True)
class Intake:
    """The events of one request. ``places`` are those of the events in the request."""

    events: Sequence[Event]
    places: Sequence[int]
    refused: Sequence[Refusal]
    single: bool  # the body was one event, not a list


def take_in(body: bytes, ndjson: bool, now_ms: int, first_ms: int | None) -> Intake:
    """Read the body of a request. ``first_ms`` is the beginning of the active release's receipts, if known.

    JSON is one event, or {"events": [...]}; ndjson has one event in each line. Raises BadEvent for a body of
    another form, and for too many events.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise BadEvent("not_utf8", "", f"the body is not UTF-8 at byte {error.start}") from None
    single, readers = _split(text, ndjson)
    if not 1 <= len(readers) <= MAX_EVENTS:
        raise BadEvent(
            "out_of_range",
            "" if ndjson else "/events",
            f"a request has 1 to {MAX_EVENTS} events; got {len(readers)}",
        )
    events: list[Event] = []
    places: list[int] = []
    refused: list[Refusal] = []
    for index, read in enumerate(readers):
        given: object = None
        try:
            given = read()
            event = check_event(given)
            check_time(event, now_ms, first_ms)
        except BadEvent as error:
            refused.append(Refusal(index, _id_of(given), error.code, error.pointer, str(error)))
            continue
        events.append(event)
        places.append(index)
    return Intake(events, places, refused, single)


def _split(text: str, ndjson: bool) -> tuple[bool, Sequence[Callable[[], object]]]:
    """Return whether the body is one event, and for each event what returns its JSON."""
    if ndjson:
        lines = [line for line in text.split("\n") if line.strip()]
        return False, [lambda line=line: _parse(line) for line in lines]
    given = _parse(text)
    if isinstance(given, dict) and "events" in given:
        listed = given["events"]
        if len(given) > 1:
            others = ", ".join(sorted(given.keys() - {"events"}))
            raise BadEvent("unknown_field", "", f"beside events there is no field; got {others[:40]}")
        if not isinstance(listed, list):
            raise BadEvent("wrong_type", "/events", "events is a list of events")
        return False, [lambda each=each: each for each in listed]
    return True, [lambda: given]


def _parse(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = (
            error.msg if isinstance(error, json.JSONDecodeError) else "a number or a nesting is too large"
        )
        raise BadEvent("not_json", "", f"this is not JSON: {reason}") from None


def _id_of(given: object) -> str:
    """Return the event id of an event that is refused, as far as it can be shown."""
    value = given.get("event_id") if isinstance(given, dict) else None
    return value[:128].encode(errors="replace").decode() if isinstance(value, str) else ""


def check_time(event: Event, now_ms: int, first_ms: int | None) -> None:
    if event.at_ms is None:
        return
    if event.at_ms > now_ms + TOLERANCE_MS:
        raise BadEvent(
            "event_in_future",
            "/at",
            f"at is {_utc(event.at_ms)}, and now it is {_utc(now_ms)}; "
            f"at most {TOLERANCE_MS // 1000} s ahead are allowed",
        )
    if first_ms is not None and event.at_ms < first_ms:
        raise BadEvent(
            "event_before_receipts",
            "/at",
            f"at is {_utc(event.at_ms)}, before the first receipt of the active release, {_utc(first_ms)}; "
            "older purchases belong into the receipts of cesta etl",
        )


def _utc(moment_ms: int) -> str:
    try:
        return datetime.fromtimestamp(moment_ms / 1000, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError):
        return f"{moment_ms} ms"
