"""A kept HTTP connection with one deadline for all reads and writes of a request.

The standard library's timeout starts again with each packet, so a server that sends one byte at a time could
block its caller for ever. tritonclient's own HTTP client (gevent) has the same timeout and serves one thread.
"""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Mapping
from http.client import HTTPConnection
from ssl import SSLContext
from typing import Any, NamedTuple


class Response(NamedTuple):
    status: int
    headers: dict[str, str]  # with names in lower case
    body: bytes


class BoundedConnection(HTTPConnection):
    """One connection. It connects at the first request; one thread at a time may use it."""

    def __init__(self, host: str, port: int, tls: SSLContext | None) -> None:
        super().__init__(host, port)
        self._tls = tls
        self._deadline = 0.0

    def post(self, path: str, body: bytes, headers: Mapping[str, str], *, deadline: float) -> Response:
        """See `send_request`."""
        return self.send_request("POST", path, body, headers, deadline=deadline)

    def send_request(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str], *, deadline: float
    ) -> Response:
        """Send one request and return its answer before `deadline`, a moment of `time.monotonic()`.

        Raises:
            TimeoutError: there was no answer in time.
            OSError, HTTPException: the connection failed.
        """
        self._deadline = deadline
        if isinstance(self.sock, _BoundedSocket):
            self.sock.deadline = deadline
        self.request(method, path, body, dict(headers))
        with self.getresponse() as response:
            response_headers = {name.lower(): value for name, value in response.getheaders()}
            return Response(response.status, response_headers, response.read())

    def connect(self) -> None:
        plain = _connect(self.host, self.port, self._deadline)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.settimeout(_time_left(self._deadline))
            ready = self._tls.wrap_socket(plain, server_hostname=self.host) if self._tls else plain
        except BaseException:
            plain.close()
            raise
        self.sock: Any = _BoundedSocket(ready, self._deadline)


class _BoundedSocket:
    """The part of a socket that http.client uses."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self.deadline = deadline

    def sendall(self, data: bytes) -> None:
        self._sock.settimeout(_time_left(self.deadline))  # applies to all of the data
        self._sock.sendall(data)

    def recv_into(self, buffer: Any) -> int:
        self._sock.settimeout(_time_left(self.deadline))
        return self._sock.recv_into(buffer)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_ResponseReader(self))

    def close(self) -> None:
        self._sock.close()


class _ResponseReader(io.RawIOBase):
    """Reads one response. Closing it leaves the socket open for the next response."""

    def __init__(self, sock: _BoundedSocket) -> None:
        self._bounded = sock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._bounded.recv_into(buffer)


def _connect(host: str, port: int, deadline: float) -> socket.socket:
    """Connect to the first address of the host that accepts, with one deadline for all addresses."""
    failure: OSError = OSError(f"{host} has no address")
    for family, kind, proto, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, proto)
        try:
            sock.settimeout(_time_left(deadline))
            sock.connect(address)
        except OSError as error:
            sock.close()
            failure = error
        else:
            return sock
    raise failure


def _time_left(deadline: float) -> float:
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds
