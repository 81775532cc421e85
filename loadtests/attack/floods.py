"""Many requests: without a key, far over a key's rate, to the paths of health, as resets, as connections."""

import contextlib
import json
import random
import socket
import time
from typing import Final

from loadtests.attack import http2
from loadtests.attack.collisions import inputs_of
from loadtests.attack.deadlines import make_question
from loadtests.attack.place import Attack, Tally
from loadtests.attack.wire import INFER, NONE, Line, connect, make_message, write_question, write_request
from loadtests.questions import Question

THREADS: Final = 4
RATE: Final = 100.0  # turns per second of one thread
PIPELINED: Final = 10  # requests of one turn
IN_FLIGHT: Final = 32
LOG_BYTES_PER_S: Final = 150e3  # the honest caller's 50 lines per second are 20,000 of them
STREAMS: Final = 20  # of HTTP/2 in one turn


def without_key(tally: Tally) -> None:
    """4,000 requests per second that no key allows. They must not fill the disk."""
    log = tally.place.folder / "run" / "access.log"
    before, begun = log.stat().st_size, time.monotonic()
    _flood(tally, write_request("/v1/recommend", b"{}", key="cesta_wrong"), {"401", "429"})
    per_second = (log.stat().st_size - before) / (time.monotonic() - begun)
    if per_second > LOG_BYTES_PER_S:
        tally.blame(f"the log grows by {per_second / 1e6:.1f} MB per second")


def over_the_rate(tally: Tally) -> None:
    """The same with one key for 5 requests per second."""
    _flood(tally, write_question(tally.place, Question(("x",)), "slow"), {"200", "429"})


def health(tally: Tally) -> None:
    """1,600 probes per second from the address of a load balancer: none is refused."""

    def probe(number: int) -> None:
        path = ("/healthz", "/readyz")[number % 2]
        with Line(tally.place.http) as line:
            for turn in tally.beats(RATE * 4):
                method = ("GET", "HEAD")[turn % 2]
                status = line.ask(write_request(path, method=method), method).status
                tally.count(status or NONE)
                if status != 200:
                    tally.blame(f"{method} {path} gives {status or NONE}")

    tally.run_threads(THREADS, probe)


def resets(tally: Tally) -> None:
    """HTTP/2 streams that are opened and reset at once, 8,000 per second."""
    headers = http2.grpc_headers(INFER, tally.place.keys["attacker"])

    def greet() -> socket.socket:
        connection = connect(tally.place.grpc)
        connection.sendall(http2.PREFACE + http2.frame(http2.SETTINGS))
        return connection

    def reset(number: int) -> None:
        connection, stream = greet(), 1
        for _ in tally.beats(RATE):
            frames = b""
            for _ in range(STREAMS):
                frames += http2.open_stream(stream, headers) + http2.reset_stream(stream)
                stream += 2
            try:
                connection.sendall(frames)
                tally.count(NONE)
            except OSError:  # the gateway has ended the connection, as it should
                tally.count("closed")
                connection.close()
                connection, stream = greet(), 1
        connection.close()

    tally.run_threads(THREADS, reset)


def unfinished_calls(tally: Tally) -> None:
    """HTTP/2 streams with a whole message that are reset before the answer, and connections that just end."""
    rng, place = random.Random(), tally.place
    headers = http2.grpc_headers(INFER, place.keys["attacker"])
    for turn in tally.beats(RATE / 2):
        with contextlib.suppress(OSError), connect(place.grpc) as connection:
            frames = http2.PREFACE + http2.frame(http2.SETTINGS)
            for stream in range(1, 2 * STREAMS, 2):
                message = make_message(inputs_of(make_question(place, rng))).SerializeToString()
                data = b"\0" + len(message).to_bytes(4, "big") + message
                frames += http2.open_stream(stream, headers)
                frames += http2.frame(http2.DATA, http2.END_STREAM, stream, data)
                frames += http2.reset_stream(stream) if stream % 4 == 1 else b""
            connection.sendall(frames)
            time.sleep(rng.uniform(0, 0.01) if turn % 2 else 0)
        tally.count(NONE)


def random_frames(tally: Tally) -> None:
    """HTTP/2 frames of any kind with any content."""
    rng, place = random.Random(), tally.place
    headers = http2.grpc_headers(INFER, place.keys["attacker"])
    for _ in tally.beats(RATE / 2):
        with contextlib.suppress(OSError), connect(place.grpc, 0.05) as connection:
            frames = http2.PREFACE + http2.frame(http2.SETTINGS) + http2.open_stream(1, headers)
            for _ in range(rng.randrange(1, 20)):
                kind, flags, stream = rng.randrange(11), rng.randrange(256), rng.randrange(6)
                frames += http2.frame(kind, flags, stream, rng.randbytes(rng.choice((0, 4, 8, 100, 17_000))))
            connection.sendall(frames)
            connection.recv(1000)
        tally.count(NONE)


def batches(tally: Tally) -> None:
    """Batches of 32 new baskets, as many at once as one key may have."""

    def ask(number: int) -> None:
        rng = random.Random()
        with Line(tally.place.http) as line:
            for _ in tally.beats(RATE):
                queries = [make_question(tally.place, rng).json for _ in range(32)]
                body = json.dumps({"queries": queries}).encode()
                reply = line.ask(write_request("/v1/recommend/batch", body, key=tally.place.keys["attacker"]))
                tally.count(reply.status or NONE)

    tally.run_threads(IN_FLIGHT, ask)


def connections(tally: Tally) -> None:
    """Connections that are opened and closed, 800 per second."""

    def open_many(number: int) -> None:
        for turn in tally.beats(RATE * 2):
            try:
                connect(tally.place.grpc if turn % 2 else tally.place.http).close()
                tally.count(NONE)
            except OSError as error:
                tally.count(type(error).__name__)

    tally.run_threads(THREADS, open_many)


ATTACKS: Final = (
    Attack("without key", without_key, overloads=True),
    Attack("over the rate", over_the_rate, overloads=True),
    Attack("health", health),
    Attack("resets", resets, overloads=True),
    Attack("unfinished calls", unfinished_calls, overloads=True),
    Attack("random frames", random_frames),
    Attack("batches", batches, overloads=True),
    Attack("connections", connections),
)


def _flood(tally: Tally, request: bytes, allowed: set[str]) -> None:
    """Send the request in bursts on kept connections. Any other answer is a problem."""

    def send(number: int) -> None:
        connection = connect(tally.place.http)
        for _ in tally.beats(RATE):
            try:
                connection.sendall(request * PIPELINED)
                received = connection.recv(65536)
                while received.count(b"HTTP/1.1 ") < PIPELINED and (part := connection.recv(65536)):
                    received += part
            except OSError:
                received = b""
            for answer in received.split(b"HTTP/1.1 ")[1:]:
                status = answer[:3].decode()
                tally.count(status)
                if status not in allowed:
                    tally.blame(f"{status} in place of {' or '.join(sorted(allowed))}")
            if received.count(b"HTTP/1.1 ") < PIPELINED:
                tally.count(NONE)
                connection.close()
                connection = connect(tally.place.http)
        connection.close()

    tally.run_threads(THREADS, send)
