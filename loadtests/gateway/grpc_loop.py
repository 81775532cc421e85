"""A closed loop over gRPC: each connection sends its next call after the answer to the last one.

CESTA_KEYS=KEY python -m loadtests.gateway.grpc_loop 127.0.0.1:8081 calls.bin --connections 8 --seconds 2

perf_analyzer asks for metadata and statistics, which the gateway refuses. This loop writes HTTP/2 frames and
leaves the cores to the server. It reads no header of an answer: only a call that succeeds has a message.
"""

import argparse
import json
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from random import Random
from typing import Any, Final

import numpy as np

from loadtests.questions import PLACEHOLDER
from loadtests.wires import read_keys, read_requests
from operations.address import split_address

PATH: Final = b"/inference.GRPCInferenceService/ModelInfer"
TIMEOUT_S: Final = 10.0
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_WIDEST: Final = 2**31 - 1  # window, in bytes: the server never waits for us
_HEAD: Final = 9  # bytes before a frame's content
_PREFIX: Final = 5  # bytes before a message


class _Connection:
    """One connection with one call at a time."""

    def __init__(self, address: str, headers: bytes) -> None:
        self.socket = socket.create_connection(split_address(address), TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._headers = headers
        self._stream = -1
        self._received = b""
        self._message_bytes = 0
        self.sent_at = 0.0
        settings = _frame(_SETTINGS, 0, 0, struct.pack(">HI", 4, _WIDEST))  # 4: the window of a stream
        window = _frame(_WINDOW, 0, 0, struct.pack(">I", _WIDEST - 65_535))
        self.socket.sendall(_PREFACE + settings + window)

    def send(self, message: bytes) -> None:
        self._stream += 2
        self._message_bytes = 0
        headers = _frame(_HEADERS, _END_HEADERS, self._stream, self._headers)
        content = struct.pack(">BI", 0, len(message)) + message
        self.sent_at = time.perf_counter()
        self.socket.sendall(headers + _frame(_DATA, _END_STREAM, self._stream, content))

    def receive(self) -> bool | None:
        """Read what has arrived. Return whether the call has an answer; None while it is not over."""
        part = self.socket.recv(65_536)
        if not part:
            return False
        self._received += part
        over: bool | None = None
        while len(self._received) >= _HEAD:
            size = int.from_bytes(self._received[:3])
            kind, flags = self._received[3], self._received[4]
            if len(self._received) < _HEAD + size:
                break
            content = self._received[_HEAD : _HEAD + size]
            self._received = self._received[_HEAD + size :]
            if self._read(kind, flags, content):
                over = self._message_bytes > _PREFIX
        return over

    def _read(self, kind: int, flags: int, content: bytes) -> bool:
        """Read a frame; return whether it ends the call."""
        if kind == _DATA:
            self._message_bytes += len(content)
        elif kind in (_SETTINGS, _PING) and not flags & _ACK:
            self.socket.sendall(_frame(kind, _ACK, 0, content if kind == _PING else b""))
        elif kind in (_RESET, _GOAWAY):
            self._message_bytes = 0
            return True
        return kind in (_DATA, _HEADERS) and bool(flags & _END_STREAM)


def run(
    address: str, messages: Sequence[bytes], *, connections: int, seconds: float, first: int, fresh: bool
) -> dict[str, Any]:
    """Send the messages in turn, from `first` on; with `fresh` each one with digits of its own.

    Raises OSError if the server closes a connection.
    """
    turn, headers = islice(cycle(messages), first, None), _encode_headers(read_keys()[0])
    next_message = partial(_fill_in, turn, Random()) if fresh else partial(next, turn)
    epoll, callers, latencies, errors = select.epoll(), dict[int, _Connection](), list[float](), 0
    for _ in range(connections):
        caller = _Connection(address, headers)
        callers[caller.socket.fileno()] = caller
        epoll.register(caller.socket, select.EPOLLIN)
    started = time.perf_counter()
    for caller in callers.values():
        caller.send(next_message())
    while (now := time.perf_counter()) - started < seconds:
        for number, _ in epoll.poll(TIMEOUT_S):
            caller = callers[number]
            good = caller.receive()
            if good is None:
                continue
            latencies.append(time.perf_counter() - caller.sent_at)
            errors += not good
            caller.send(next_message())
    for caller in callers.values():
        caller.socket.close()
    p50, p99 = np.percentile(latencies, [50, 99]) * 1000
    measured = {"requests": len(latencies), "seconds": now - started, "p50_ms": p50, "p99_ms": p99}
    return measured | {"errors": errors}


def _fill_in(turn: Iterator[bytes], numbers: Random) -> bytes:
    digits = b"%0*d" % (len(PLACEHOLDER), numbers.randrange(10 ** len(PLACEHOLDER)))
    return next(turn).replace(PLACEHOLDER.encode(), digits)


def _frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    return struct.pack(">I", len(content))[1:] + struct.pack(">BBI", kind, flags, stream) + content


def _encode_headers(key: str) -> bytes:
    """The headers of every call (RFC 7541): two by number in the static table, the others as literals."""
    names = {b"\x04": PATH, b"\x01": b"cesta", b"\x0f\x10": b"application/grpc", b"\x00\x02te": b"trailers"}
    if key:
        names[b"\x0f\x08"] = b"Bearer " + key.encode()
    literals = b"".join(name + bytes([len(value)]) + value for name, value in names.items())
    return b"\x83\x86" + literals  # POST, http


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask over gRPC as fast as the server answers, and print a line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.gateway.grpc_loop", description=main.__doc__)
    parser.add_argument("address", help="host:port")
    parser.add_argument("messages", type=Path, help="a file of write_messages")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--first", type=int, default=0, help="the place of the first message")
    parser.add_argument("--fresh", action="store_true", help="make each message new to the cache")
    given = parser.parse_args(arguments)
    measured = run(
        given.address,
        read_requests(given.messages),
        connections=given.connections,
        seconds=given.seconds,
        first=given.first,
        fresh=given.fresh,
    )
    print("RESULT", json.dumps(measured))
    return 0


if __name__ == "__main__":
    sys.exit(main())
