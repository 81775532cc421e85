"""Open-loop load: requests are due at fixed moments, whatever the server does, and latency counts from then.

    python -m loadtests.open_loop 127.0.0.1:8000 requests.bin --rate 500 --seconds 10
    … --answers answers.json --until-closed    # keeps what was answered; ends when its input does

A closed loop (wrk, Locust) waits for an answer before it sends again: a server that stalls is asked less
meanwhile, and the stall counts once instead of for all who would have come. Here they come all the same.
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

CONNECTIONS = 256  # at most; one more is opened only when all are waiting for answers
TIMEOUT_S = 10.0
TURN_S = 0.01  # the loop comes round at least so often, and asks at most so often whether it is over
PIECE = 2**16  # bytes received at once; nearly every answer is shorter
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)


class Asked(NamedTuple):
    """One request, answered or not."""

    number: int  # it was due ``due[number]`` after the start
    latency_s: float  # from that moment to its answer's end
    failed: bool
    received: bytes = b""  # the answer as it came over the wire

    @property
    def body(self) -> str:
        """The answer without head and chunks; "" where it is not whole."""
        try:
            response = http.client.HTTPResponse(_Received(self.received))  # type: ignore[arg-type]
            response.begin()
            return response.read().decode()
        except (OSError, http.client.HTTPException):
            return ""


@dataclass
class Outcome:
    """What became of the requests, in order of arrival; failed ones too."""

    asked: list[Asked] = field(default_factory=list)
    begun: float = 0.0  # the first due moment, by time.perf_counter, which all processes of Linux share
    seconds: float = 0.0  # from then to the last answer

    @property
    def latencies(self) -> list[float]:
        return [one.latency_s for one in self.asked]

    @property
    def errors(self) -> int:
        return sum(one.failed for one in self.asked)


class _Received:
    """What http.client takes for a socket that these bytes came from."""

    def __init__(self, received: bytes) -> None:
        self._received = received

    def makefile(self, *_: object) -> io.BytesIO:
        return io.BytesIO(self._received)


class _Connection:
    """One kept HTTP connection with at most one request on its way."""

    def __init__(self, made: socket.socket) -> None:
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = made
        self.awaited = select.EPOLLIN
        self.number: int | None = None  # of the request on its way
        self.due = 0.0
        self.unsent = self.received = b""


class _Connections:
    """At most CONNECTIONS to one address; what they bring goes to `outcome`."""

    def __init__(self, address: str, outcome: Outcome) -> None:
        host, port = address.rsplit(":", 1)
        self._outcome = outcome
        self._open: dict[int, _Connection] = {}  # by file descriptor
        self._idle = deque[_Connection]()
        first = socket.create_connection((host, int(port)), TIMEOUT_S)
        self._family, self._peer = first.family, first.getpeername()
        self._epoll = select.epoll()
        self._idle.append(self._keep(first))

    @property
    def free(self) -> bool:
        """Whether one more request can be sent."""
        return bool(self._idle) or len(self._open) < CONNECTIONS

    def ask(self, number: int, request: bytes, due: float) -> None:
        """Send a request over an idle connection, else over another one."""
        connection = self._idle.popleft() if self._idle else self._connect()
        connection.number, connection.due, connection.received = number, due, b""
        connection.unsent += request
        self._send(connection)

    def wait(self, seconds: float) -> None:
        """Take what comes; return when something came, or after so long.

        By select, whose timeout is in microseconds: epoll's own is rounded up to milliseconds.
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
        connection.socket.connect_ex(self._peer)  # goes on by itself; sending tells whether it failed
        return connection

    def _keep(self, made: socket.socket) -> _Connection:
        connection = self._open[made.fileno()] = _Connection(made)
        self._epoll.register(made, connection.awaited)
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
        if not piece or connection.number is None:  # closed, or something that nobody asked for
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
        self._outcome.asked.append(Asked(connection.number, latency, failed, connection.received))
        connection.number = None


def _is_whole(received: bytes) -> bool:
    """Whether the answer has come to its end."""
    head = received.find(b"\r\n\r\n")
    if head < 0:
        return False
    if length := _LENGTH.search(received, 0, head):
        return len(received) >= head + 4 + int(length[1])
    return received.endswith(b"0\r\n\r\n", head + 4)  # chunked, as generate is; JSON itself holds no line end


def run(
    address: str,
    requests: Sequence[bytes],
    due: NDArray[np.float64],
    over: Callable[[], bool] = lambda: False,
    begin: Callable[[float], object] = lambda begun: None,
) -> Outcome:
    """Send request i at `due[i]` seconds from now (cycling through `requests`); wait for all answers.

    Nothing more is sent once it is `over`; `begin` is told the first due moment when it comes.
    """
    moments, outcome = due.tolist(), Outcome()
    with _garbage_kept(), closing(_Connections(address, outcome)) as connections:
        start = outcome.begun = time.perf_counter()
        begin(start)
        sent, look = 0, 0.0
        while len(outcome.asked) < len(moments):
            now = time.perf_counter() - start
            if sent < len(moments) and now >= look:
                look = now + TURN_S
                if over():
                    del moments[max(bisect_right(moments, now), 1) :]  # who is due is sent, if only later
            while sent < len(moments) and moments[sent] <= now and connections.free:
                connections.ask(sent, requests[sent % len(requests)], start + moments[sent])
                sent += 1
            if now > moments[-1] + TIMEOUT_S:
                late = set(range(len(moments))) - {one.number for one in outcome.asked}
                outcome.asked += [Asked(number, TIMEOUT_S, failed=True) for number in sorted(late)]
                break
            pause = TURN_S
            if sent < len(moments) and connections.free:
                pause = start + moments[sent] - time.perf_counter()
            connections.wait(max(min(pause, TURN_S), 0))
        outcome.seconds = time.perf_counter() - start
    return outcome


@contextmanager
def _garbage_kept() -> Iterator[None]:
    """Collecting it would stop the loop for a millisecond or two, and nothing here refers to itself."""
    collected = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collected:
            gc.enable()


def constant(rate: float, seconds: float) -> NDArray[np.float64]:
    """Due moments of a constant rate."""
    return np.arange(max(int(rate * seconds), 1)) / rate


def _say_begun(begun: float) -> None:
    print("BEGUN", begun, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Drive one address at a constant rate and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.open_loop", description=main.__doc__)
    parser.add_argument("address", help="host:port")
    parser.add_argument("requests", type=Path, help="a file of loadtests.wires.write_requests")
    parser.add_argument("--rate", type=float, required=True, help="requests a second")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--first", type=int, default=0, help="begin with this request of the file")
    parser.add_argument("--answers", type=Path, help="a file for what was answered, as JSON")
    parser.add_argument("--until-closed", action="store_true", help="end when the standard input is closed")
    given = parser.parse_args(arguments)
    requests = read_requests(given.requests)
    requests = requests[given.first % len(requests) :] + requests[: given.first % len(requests)]
    over = (lambda: bool(select.select([sys.stdin], [], [], 0)[0])) if given.until_closed else lambda: False
    outcome = run(given.address, requests, constant(given.rate, given.seconds), over, _say_begun)
    if given.answers:
        asked = [[one.number, one.latency_s, one.failed, one.body] for one in outcome.asked]
        given.answers.write_text(json.dumps({"begun": outcome.begun, "asked": asked}), encoding="utf-8")
    p50, p99 = np.percentile(outcome.latencies, [50, 99]) * 1000
    result = {"requests": len(outcome.latencies), "seconds": given.seconds, "p50_ms": p50, "p99_ms": p99}
    print("RESULT", json.dumps(result | {"errors": outcome.errors}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
