"""Open-loop load: requests are due at fixed moments, whatever the server does, and latency counts from then.

    python -m loadtests.open_loop 127.0.0.1:8000 requests.bin --rate 500 --seconds 10
    … --answers answers.json --until-closed    # keeps what was answered; ends when its input does

A closed loop (wrk, Locust) waits for an answer before it sends again: a server that stalls is asked less
meanwhile, and the stall counts once instead of for all who would have come. Here they come all the same.
"""

import argparse
import asyncio
import http.client
import io
import json
import select
import selectors
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from loadtests.wires import read_requests

CONNECTIONS = 256  # at most; one more is opened only when all are waiting for answers
TIMEOUT_S = 10.0


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


class _Connection(asyncio.Protocol):
    """One kept HTTP connection with at most one request on its way."""

    def __init__(self, idle: deque["_Connection"], outcome: Outcome) -> None:
        self._idle, self._outcome = idle, outcome
        self._number, self._due = 0, 0.0
        self._received = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def ask(self, number: int, request: bytes, due: float) -> None:
        assert self.transport is not None
        self._number, self._due, self._received = number, due, b""
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not _is_whole(self._received):
            return
        self._finish(self._received[9:12] != b"200")
        self._idle.append(self)

    def connection_lost(self, _: Exception | None) -> None:
        if self._due:
            self._finish(failed=True)

    def _finish(self, failed: bool) -> None:
        latency = time.perf_counter() - self._due
        self._outcome.asked.append(Asked(self._number, latency, failed, self._received))
        self._due = 0.0


def _is_whole(received: bytes) -> bool:
    """Whether the answer has come to its end."""
    head, _, body = received.partition(b"\r\n\r\n")
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return len(body) >= int(value)
    return body.endswith(b"0\r\n\r\n")  # chunked, as Triton's generate is; JSON itself holds no line end


async def drive(
    address: str,
    requests: Sequence[bytes],
    due: NDArray[np.float64],
    over: Callable[[], bool] = lambda: False,
    begin: Callable[[float], object] = lambda begun: None,
) -> Outcome:
    """Send request i at `due[i]` seconds from now (cycling through `requests`); wait for all answers.

    Nothing more is sent once it is `over`; `begin` is told the first due moment when it comes.
    """
    loop, outcome, idle = asyncio.get_running_loop(), Outcome(), deque["_Connection"]()
    host, port = address.rsplit(":", 1)
    opened: list[_Connection] = []

    async def connect() -> None:
        _, made = await loop.create_connection(lambda: _Connection(idle, outcome), host, int(port))
        opened.append(made)
        idle.append(made)

    await connect()
    start, waiting, sent = time.perf_counter(), deque[int](), 0
    outcome.begun = start
    begin(start)
    while sent < len(due) or waiting or len(outcome.asked) < sent:
        now = time.perf_counter() - start
        if sent < len(due) and over():
            due = due[: max(sent, 1)]
        while sent < len(due) and due[sent] <= now:
            waiting.append(sent)
            sent += 1
        while waiting and idle:
            i = waiting.popleft()
            idle.popleft().ask(i, requests[i % len(requests)], start + float(due[i]))
        if waiting and len(opened) < CONNECTIONS:
            await connect()
            continue
        if now > float(due[-1]) + TIMEOUT_S:
            late = set(range(sent)) - {one.number for one in outcome.asked}
            outcome.asked += [Asked(number, TIMEOUT_S, failed=True) for number in sorted(late)]
            break
        pause = due[sent] - now if sent < len(due) and not waiting else 0.001
        await asyncio.sleep(max(min(pause, 0.01), 0))
    outcome.seconds = time.perf_counter() - start
    for connection in opened:
        assert connection.transport is not None
        connection.transport.close()
    return outcome


def run(
    address: str,
    requests: Sequence[bytes],
    due: NDArray[np.float64],
    over: Callable[[], bool] = lambda: False,
    begin: Callable[[float], object] = lambda begun: None,
) -> Outcome:
    """`drive` on a loop that wakes to the microsecond: epoll, the usual one, rounds up to milliseconds."""
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        return runner.run(drive(address, requests, due, over, begin))


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
