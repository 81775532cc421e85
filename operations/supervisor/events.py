"""The event log over HTTP, for the gateway and its keys of the roles events and admin."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, Request

from operations.events.desk import EventDesk
from operations.events.event import BadEvent
from operations.events.log import QueueFull
from operations.events.store import StoreFault
from operations.supervisor.problems import Problem

NDJSON: Final = "application/x-ndjson"
STATUS: Final = {"event_changed": 409}  # others: 400


@dataclass(frozen=True)
class Events:
    """The desk that takes events in, for callers that know ``token``."""

    desk: EventDesk
    token: str


def make_event_routes(events: Events) -> APIRouter:
    """Return the routes of /v1/events."""

    def authenticate(x_cesta_admin: Annotated[str, Header()] = "") -> None:
        if not secrets.compare_digest(x_cesta_admin.encode(), events.token.encode()):
            raise Problem(403, "ask the gateway, with a key of the role events", "not_allowed")

    router = APIRouter(dependencies=[Depends(authenticate)])

    @router.post("/v1/events")
    async def take(request: Request) -> Mapping[str, Any]:
        """Keep events; they are durable when the answer comes."""
        body = await request.body()
        ndjson = request.headers.get("content-type", "").partition(";")[0].strip() == NDJSON
        try:
            taken = await events.desk.take(body, ndjson)
        except BadEvent as error:
            raise Problem(400, str(error), error.code, pointer=error.pointer) from None
        except QueueFull as error:
            raise Problem(429, str(error), "events_queue_full", retry_s=1) from None
        except StoreFault as error:
            raise Problem(503, str(error), "events_not_kept") from None
        if taken.single and taken.refused:
            (refusal,) = taken.refused
            status = STATUS.get(refusal.code, 400)
            raise Problem(status, refusal.sentence, refusal.code, pointer=refusal.pointer)
        return {**taken.describe(), "request_id": request.state.request_id}

    @router.get("/v1/events")
    async def describe(request: Request) -> Mapping[str, Any]:
        """Return the last position, the size, and whether events can be kept."""
        return {**events.desk.describe(), "request_id": request.state.request_id}

    return router
