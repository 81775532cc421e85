"""Open-loop load: each request is due at a fixed moment, and its latency counts from that moment.

    python -m loadtests.open_loop 127.0.0.1:8000 requests.bin --rate 500 --seconds 10
    … --answers answers.json --until-closed    # writes the answers; ends when the standard input is closed

A closed loop (wrk, Locust) waits for an answer before it sends again. When the server stalls, a closed loop
sends less, and the stall counts for one request only. An open loop keeps sending, so the stall counts for
every request that comes meanwhile.
"""

import argparse
import gc
import http.client
import io
import json
import re
import select
import socket
import sys
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from loadtests.wires import read_requests
from operations.address import split_address

CONNECTIONS = 256  # at most; a connection is opened only while all others wait for answers
TIMEOUT_S = 10.0
TURN_S = 0.01  # longest turn of the loop, and shortest time between two calls of `is_over`
PIECE = 2**16  # bytes per receive; nearly every answer is shorter
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)


class Result(NamedTuple):
    """The result of one request, answered or not."""

    number: int  # the request was due ``due[number]`` seconds after the start
    latency_s: float  # from that moment to the end of its answer
    failed: bool
    received: bytes = b""  # the raw answer

    @property
    def body(self) -> str:
        """The answer without head and chunks; "" if it is incomplete."""
        try:
            response = http.client.HTTPResponse(_Received(self.received))  # type: ignore[arg-type]  # http.client only calls makefile()
            response.begin()
            return response.read().decode()
        except (OSError, http.client.HTTPException):
            return ""


@dataclass
class Outcome:
    """The results of all requests, failed ones included, in order of arrival."""

    results: list[Result] = field(default_factory=list)
    started_at: float = (
        0.0  # the first due moment, of time.perf_counter, a clock that all processes on Linux share
    )
    seconds: float = 0.0  # from started_at to the last answer

    @property
    def latencies(self) -> list[float]:
        return [result.latency_s for result in self.results]

    @property
    def errors(self) -> int:
        return sum(result.failed for result in self.results)


class _Received:
    """The part of a socket that http.client needs to read these bytes."""

    def __init__(self, received: bytes) -> None:
        self._received = received

    def makefile(self, *_: object) -> io.BytesIO:
        return io.BytesIO(self._received)


class _Connection:
    """One kept HTTP connection with at most one pending request."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = sock
        self.awaited = select.EPOLLIN
        self.number: int | None = None  # of the pending request
        self.due = 0.0
        self.unsent = self.received = b""


class _Connections:
    """At most CONNECTIONS connections to one address. Their results go to `outcome`."""

    def __init__(self, address: str, outcome: Outcome) -> None:
        self._outcome = outcome
        self._open: dict[int, _Connection] = {}  # by file descriptor
        self._idle = deque[_Connection]()
        first = socket.create_connection(split_address(address), TIMEOUT_S)
        self._family, self._peer = first.family, first.getpeername()
        self._epoll = select.epoll()
        self._idle.append(self._keep(first))

    @property
    def free(self) -> bool:
        """Tell whether one more request can be sent."""
        return bool(self._idle) or len(self._open) < CONNECTIONS

    def ask(self, number: int, request: bytes, due: float) -> None:
        """Send a request over an idle connection, or over a new one."""
        connection = self._idle.popleft() if self._idle else self._connect()
        connection.number, connection.due, connection.received = number, due, b""
        connection.unsent += request
        self._send(connection)

    def wait(self, seconds: float) -> None:
        """Process the next events. Return when there was one, or after so many seconds.

        It waits with select, whose timeout has microseconds. epoll rounds its timeout up to milliseconds.
        """
        if select.select((self._epoll,), (), (), seconds)[0]:
            for descriptor, event in self._epoll.poll(0):
                connection = self._open[descriptor]
                if event & select.EPOLLOUT:
                    self._send(connection)
                else:
                    self._receive(connection)

    def close(self) -> None:
        for connection in self._open.values():
            connection.socket.close()
        self._epoll.close()

    def _connect(self) -> _Connection:
        connection = self._keep(socket.socket(self._family, socket.SOCK_STREAM))
        connection.socket.connect_ex(self._peer)  # connects in the background; a failure shows when sending
        return connection

    def _keep(self, sock: socket.socket) -> _Connection:
        connection = self._open[sock.fileno()] = _Connection(sock)
        self._epoll.register(sock, connection.awaited)
        return connection

    def _send(self, connection: _Connection) -> None:
        try:
            sent = connection.socket.send(connection.unsent)
        except BlockingIOError:  # not connected yet
            sent = 0
        except OSError:
            self._drop(connection)
            return
        connection.unsent = connection.unsent[sent:]
        awaited = select.EPOLLIN | select.EPOLLOUT if connection.unsent else select.EPOLLIN
        if awaited != connection.awaited:
            connection.awaited = awaited
            self._epoll.modify(connection.socket, awaited)

    def _receive(self, connection: _Connection) -> None:
        try:
            piece = connection.socket.recv(PIECE)
        except OSError:
            piece = b""
        connection.received += piece
        if not piece or connection.number is None:  # closed, or bytes without a request
            self._drop(connection)
        elif _is_whole(connection.received):
            self._finish(connection, failed=connection.received[9:12] != b"200")
            self._idle.append(connection)

    def _drop(self, connection: _Connection) -> None:
        if connection.number is None:
            self._idle.remove(connection)
        else:
            self._finish(connection, failed=True)
        del self._open[connection.socket.fileno()]
        connection.socket.close()

    def _finish(self, connection: _Connection, failed: bool) -> None:
        assert connection.number is not None
        latency = time.perf_counter() - connection.due
        self._outcome.results.append(Result(connection.number, latency, failed, connection.received))
        connection.number = None


def _is_whole(received: bytes) -> bool:
    """Tell whether the answer is complete."""
    head = received.find(b"\r\n\r\n")
    if head < 0:
        return False
    if length := _LENGTH.search(received, 0, head):
        return len(received) >= head + 4 + int(length[1])
    return received.endswith(
        b"0\r\n\r\n", head + 4
    )  # chunked, as the answers of generate; their JSON has no line end


def run(
    address: str,
    requests: Sequence[bytes],
    due: NDArray[np.float64],
    is_over: Callable[[], bool] = lambda: False,
    on_start: Callable[[float], object] = lambda started_at: None,
) -> Outcome:
    """Send request i at `due[i]` seconds from now, cycling through `requests`, and wait for all answers.

    It sends nothing more once `is_over` returns True. It calls `on_start` with the first due moment.
    """
    moments, outcome = due.tolist(), Outcome()
    with _pause_garbage_collection(), closing(_Connections(address, outcome)) as connections:
        start = outcome.started_at = time.perf_counter()
        on_start(start)
        sent, next_check = 0, 0.0
        while len(outcome.results) < len(moments):
            now = time.perf_counter() - start
            if sent < len(moments) and now >= next_check:
                next_check = now + TURN_S
                if is_over():
                    del moments[
                        max(bisect_right(moments, now), 1) :
                    ]  # due requests are still sent, late or not
            while sent < len(moments) and moments[sent] <= now and connections.free:
                connections.ask(sent, requests[sent % len(requests)], start + moments[sent])
                sent += 1
            if now > moments[-1] + TIMEOUT_S:
                unanswered = set(range(len(moments))) - {result.number for result in outcome.results}
                outcome.results += [Result(number, TIMEOUT_S, failed=True) for number in sorted(unanswered)]
                break
            pause = TURN_S
            if sent < len(moments) and connections.free:
                pause = start + moments[sent] - time.perf_counter()
            connections.wait(max(min(pause, TURN_S), 0))
        outcome.seconds = time.perf_counter() - start
    return outcome


@contextmanager
def _pause_garbage_collection() -> Iterator[None]:
    """A collection would stop the loop for a millisecond or two, and the loop makes no reference cycles."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def constant_schedule(rate: float, seconds: float) -> NDArray[np.float64]:
    """The due moments of a constant rate."""
    return np.arange(max(int(rate * seconds), 1)) / rate


def _print_begin(started_at: float) -> None:
    print("BEGUN", started_at, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Send requests to one address at a constant rate and print the result."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.open_loop", description=main.__doc__)
    parser.add_argument("address", help="host:port")
    parser.add_argument("requests", type=Path, help="a file of loadtests.wires.write_requests")
    parser.add_argument("--rate", type=float, required=True, help="requests per second")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--first", type=int, default=0, help="start with this request of the file")
    parser.add_argument("--answers", type=Path, help="a file for the answers, as JSON")
    parser.add_argument("--until-closed", action="store_true", help="end when the standard input is closed")
    given = parser.parse_args(arguments)
    requests = read_requests(given.requests)
    requests = requests[given.first % len(requests) :] + requests[: given.first % len(requests)]
    is_over = (
        (lambda: bool(select.select([sys.stdin], [], [], 0)[0])) if given.until_closed else lambda: False
    )
    outcome = run(
        given.address, requests, constant_schedule(given.rate, given.seconds), is_over, _print_begin
    )
    if given.answers:
        results = [
            [result.number, result.latency_s, result.failed, result.body] for result in outcome.results
        ]
        written = {"begun": outcome.started_at, "asked": results}
        given.answers.write_text(json.dumps(written), encoding="utf-8")
    p50, p99 = np.percentile(outcome.latencies, [50, 99]) * 1000
    summary = {"requests": len(outcome.latencies), "seconds": given.seconds, "p50_ms": p50, "p99_ms": p99}
    print("RESULT", json.dumps(summary | {"errors": outcome.errors}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
