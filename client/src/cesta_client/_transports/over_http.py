"""The HTTP transport: one kept connection for each thread that asks at the same time."""

from __future__ import annotations

import time
from collections import deque
from http.client import HTTPException

from .._errors import TimedOut, Unavailable
from . import json_http, v2_http
from .bounded_http import BoundedConnection, Response
from .endpoint import Endpoint
from .interface import Headers, JsonObject, Reply, Tensors


class HttpTransport:
    """Triton's HTTP service."""

    def __init__(self, to: Endpoint) -> None:
        self._to = to
        self._path = v2_http.path_of(to)
        self._tls = to.ssl_context()
        self._idle: deque[BoundedConnection] = deque()  # append and pop are atomic
        self._closed = False

    def infer(self, tensors: Tensors, *, timeout_s: float, request_id: str, headers: Headers) -> Reply:
        body, sent = v2_http.request(tensors, self._to, request_id, headers)
        response = self._send("POST", self._path, body, sent, timeout_s)
        return v2_http.reply(response.status, response.headers, response.body, self._to)

    def ask_json(
        self, path: str, asked: JsonObject, *, timeout_s: float, request_id: str, method: str = "POST"
    ) -> JsonObject:
        body, sent = json_http.request(asked, self._to, request_id)
        response = self._send(method, f"{self._to.path}{path}", body, sent, timeout_s)
        return json_http.reply(response.status, response.headers, response.body, self._to)

    def _send(
        self, method: str, path: str, body: bytes, headers: dict[str, str], timeout_s: float
    ) -> Response:
        try:
            return self._send_in_time(method, path, body, headers, time.monotonic() + timeout_s)
        except TimeoutError as error:
            raise TimedOut(f"no answer from {self._to.address} within {timeout_s:.2g} s") from error
        except OSError as error:
            raise Unavailable(f"{self._to.address}: {error or type(error).__name__}") from error
        except HTTPException as error:  # the error's own text would be the bytes received
            raise Unavailable(f"{self._to.address} does not speak HTTP ({type(error).__name__})") from error

    def close(self) -> None:
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def _send_in_time(
        self, method: str, path: str, body: bytes, headers: dict[str, str], deadline: float
    ) -> Response:
        while self._idle:
            try:
                return self._send_on(self._idle.pop(), method, path, body, headers, deadline)
            except TimeoutError:
                raise
            except (IndexError, OSError, HTTPException):
                pass  # another thread took it, or the server closed it while idle; a new one decides
        fresh = BoundedConnection(self._to.host, self._to.port, self._tls)
        return self._send_on(fresh, method, path, body, headers, deadline)

    def _send_on(
        self,
        connection: BoundedConnection,
        method: str,
        path: str,
        body: bytes,
        headers: dict[str, str],
        deadline: float,
    ) -> Response:
        try:
            response = connection.send_request(method, path, body, headers, deadline=deadline)
        except BaseException:
            connection.close()  # the rest of an answer may still come
            raise
        if self._closed:
            connection.close()
        else:
            self._idle.append(connection)
        return response
