"""Takes requests with events in: reads them, has them kept, and says what became of each."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from operations.events.event import BadEvent, Event
from operations.events.figures import Figures
from operations.events.intake import Intake, Refusal, take_in
from operations.events.log import EventLog, QueueFull
from operations.events.release_facts import ReleaseFacts
from operations.events.store import Outcome, State, StoreFault

MOST_S: Final = 8.0  # less than the gateway waits


@dataclass(frozen=True)
class Taken:
    """Results of the events of one request, in the request's order. ``single``: it was one event."""

    outcomes: Sequence[Outcome]
    refused: Sequence[Refusal]
    unknown_items: int
    single: bool

    def describe(self) -> dict[str, Any]:
        """Return the answer to the request."""
        states = [outcome.state for outcome in self.outcomes]
        return {
            "accepted": states.count(State.ACCEPTED),
            "known": states.count(State.KNOWN),
            "refused": [
                {
                    "index": refusal.index,
                    "event_id": refusal.event_id,
                    "code": refusal.code,
                    "detail": refusal.sentence,
                    "pointer": refusal.pointer,
                }
                for refusal in self.refused
            ],
            "position": max((outcome.position for outcome in self.outcomes), default=0),
            "unknown_items": self.unknown_items,
        }


class EventDesk:
    """Joins a log with what is known of the active release, and counts."""

    def __init__(self, log: EventLog, figures: Figures, facts: ReleaseFacts) -> None:
        self._log, self._figures, self._facts = log, figures, facts

    async def take(self, body: bytes, ndjson: bool) -> Taken:
        """Keep the events of a request; they are durable when this returns.

        Raises BadEvent for a body that cannot be read, QueueFull if too many events wait, and StoreFault if
        nothing could be kept, or if nobody knows after MOST_S.
        """
        intake = await asyncio.to_thread(self._read, body, ndjson)
        if not intake.events:
            return Taken([], intake.refused, 0, intake.single)
        try:
            waiting = asyncio.wrap_future(self._log.offer(intake.events))
            outcomes = await asyncio.wait_for(asyncio.shield(waiting), MOST_S)
        except QueueFull:
            self._figures.refuse("events_queue_full", len(intake.events))
            raise
        except StoreFault:
            self._figures.refuse("events_not_kept", len(intake.events))
            raise
        except TimeoutError:
            waiting.add_done_callback(lambda done: done.exception())  # nobody else looks at it
            raise StoreFault(
                f"the disk took over {MOST_S:g} s; the events may be kept later, so send them again"
            ) from None
        for outcome in outcomes:
            self._figures.count(outcome)
        return self._told(intake, outcomes)

    def describe(self) -> Mapping[str, Any]:
        """Return the state of the log."""
        log = self._log
        return {
            "log_id": log.log_id,
            "position": log.position,
            "bytes": log.size_bytes,
            "queued": log.queued,
            "writable": log.fault is None,
            "fault": log.fault,
        }

    def _read(self, body: bytes, ndjson: bool) -> Intake:
        try:
            intake = take_in(body, ndjson, self._log.now_ms(), self._facts.first_ms())
        except BadEvent as error:
            self._figures.refuse(error.code)
            raise
        for refusal in intake.refused:
            self._figures.refuse(refusal.code)
        return intake

    def _told(self, intake: Intake, outcomes: Sequence[Outcome]) -> Taken:
        of_each = list(zip(intake.places, intake.events, outcomes, strict=True))
        new = [event for _, event, outcome in of_each if outcome.state is State.ACCEPTED]
        unknown = self._facts.count_unknown(item for event in new for item in event.item_ids)
        self._figures.count_unknown(unknown)
        changed = [_changed(*each) for each in of_each if each[2].state is State.CHANGED]
        refused = sorted([*intake.refused, *changed], key=lambda refusal: refusal.index)
        return Taken(outcomes, refused, unknown, intake.single)


def _changed(place: int, event: Event, outcome: Outcome) -> Refusal:
    return Refusal(
        place,
        event.event_id,
        "event_changed",
        "/event_id",
        f'another event with the event_id "{event.event_id[:40]}" is at position {outcome.position}; '
        "a new event needs a new id",
    )
