"""A kept HTTP connection whose every read and write is bounded by one deadline.

The standard library's timeout starts anew with each packet, so that a server which answers a byte at a time
would hold its caller for ever. tritonclient's own client (gevent) times out likewise and serves one thread.
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
    headers: dict[str, str]  # names in lower case
    body: bytes


class BoundedConnection(HTTPConnection):
    """One connection, connected at the first request, used by one thread at a time."""

    def __init__(self, host: str, port: int, tls: SSLContext | None) -> None:
        super().__init__(host, port)
        self._tls = tls
        self._ends = 0.0

    def post(self, path: str, body: bytes, headers: Mapping[str, str], *, ends: float) -> Response:
        """One request, answered before the moment `ends` of `time.monotonic()`.

        Raises:
            TimeoutError: it was not.
            OSError, HTTPException: the connection failed.
        """
        self._ends = ends
        if isinstance(self.sock, _BoundedSocket):
            self.sock.ends = ends
        self.request("POST", path, body, dict(headers))
        with self.getresponse() as response:
            said = {name.lower(): value for name, value in response.getheaders()}
            return Response(response.status, said, response.read())

    def connect(self) -> None:
        plain = _connected(self.host, self.port, self._ends)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.settimeout(_left(self._ends))
            ready = self._tls.wrap_socket(plain, server_hostname=self.host) if self._tls else plain
        except BaseException:
            plain.close()
            raise
        self.sock: Any = _BoundedSocket(ready, self._ends)


class _BoundedSocket:
    """The part of a socket that http.client uses."""

    def __init__(self, sock: socket.socket, ends: float) -> None:
        self._sock = sock
        self.ends = ends

    def sendall(self, data: bytes) -> None:
        self._sock.settimeout(_left(self.ends))  # holds for all of the data
        self._sock.sendall(data)

    def recv_into(self, buffer: Any) -> int:
        self._sock.settimeout(_left(self.ends))
        return self._sock.recv_into(buffer)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reads(self))

    def close(self) -> None:
        self._sock.close()


class _Reads(io.RawIOBase):
    """One response's reads; closing it leaves the socket open for the next."""

    def __init__(self, sock: _BoundedSocket) -> None:
        self._bounded = sock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._bounded.recv_into(buffer)


def _connected(host: str, port: int, ends: float) -> socket.socket:
    """The first address of the host that accepts, all of them within the one deadline."""
    failure: OSError = OSError(f"{host} has no address")
    for family, kind, proto, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, proto)
        try:
            sock.settimeout(_left(ends))
            sock.connect(address)
        except OSError as error:
            sock.close()
            failure = error
        else:
            return sock
    raise failure


def _left(ends: float) -> float:
    left = ends - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
