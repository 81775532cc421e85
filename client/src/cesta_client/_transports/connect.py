"""Chooses the transport for the protocol of an endpoint."""

from __future__ import annotations

from .endpoint import Endpoint
from .interface import AsyncEventTransport, AsyncTransport, EventTransport, Transport


def connect(to: Endpoint) -> Transport:
    if to.protocol == "grpc":
        from .over_grpc import (
            GrpcTransport,
        )  # each import takes 0.2 s, so only the protocol in use is imported

        return GrpcTransport(to)
    from .over_http import HttpTransport

    return HttpTransport(to)


def connect_async(to: Endpoint) -> AsyncTransport:
    if to.protocol == "grpc":
        from .over_grpc import AsyncGrpcTransport

        return AsyncGrpcTransport(to)
    from .over_http_async import AsyncHttpTransport

    return AsyncHttpTransport(to)


def connect_events(to: Endpoint) -> EventTransport:
    from .events_http import EventsOverHttp

    return EventsOverHttp(to)


def connect_events_async(to: Endpoint) -> AsyncEventTransport:
    from .events_http_async import AsyncEventsOverHttp  # it imports aiohttp, as above

    return AsyncEventsOverHttp(to)
