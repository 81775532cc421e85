"""Posts events to a gateway over HTTP."""

from __future__ import annotations

import time
from http.client import HTTPException

from .._errors import TimedOut, Unavailable
from .._version import USER_AGENT
from .bounded_http import BoundedConnection
from .endpoint import Endpoint
from .status import error_of_http

PATH = "/v1/events"


def headers_of(to: Endpoint) -> dict[str, str]:
    return {"user-agent": USER_AGENT, **to.headers, "content-type": "application/json"}


def timed_out(to: Endpoint, timeout_s: float) -> TimedOut:
    return TimedOut(f"no answer from {to.address} within {timeout_s:.2g} s")


class EventsOverHttp:
    """One kept connection, for one thread."""

    def __init__(self, to: Endpoint) -> None:
        self._to, self._headers = to, headers_of(to)
        self._connection = BoundedConnection(to.host, to.port, to.ssl_context())

    def report(self, body: bytes, *, timeout_s: float) -> bytes:
        path, deadline = f"{self._to.path}{PATH}", time.monotonic() + timeout_s
        try:
            answer = self._connection.post(path, body, self._headers, deadline=deadline)
        except TimeoutError as error:
            self._connection.close()
            raise timed_out(self._to, timeout_s) from error
        except (OSError, HTTPException) as error:  # the gateway has closed it while idle, or is away
            self._connection.close()
            raise Unavailable(f"{self._to.address}: {type(error).__name__}") from error
        if answer.status != 200:
            raise error_of_http(answer.status, answer.headers, answer.body, self._to.address)
        return answer.body

    def close(self) -> None:
        self._connection.close()
