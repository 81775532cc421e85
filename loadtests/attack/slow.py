"""Connections that are held: slow headers, slow bodies, answers that nobody reads, silence."""

import contextlib
import random
import secrets
import socket
import time
from typing import Final

from loadtests.attack.deadlines import make_question
from loadtests.attack.place import Attack, Place, Tally
from loadtests.attack.wire import NONE, Grpc, Line, connect, write_question
from loadtests.questions import Question
from operations.gateway.control import announce
from operations.gateway.keys import add_key, revoke_key

CONNECTIONS: Final = 200
HELD: Final = 28  # requests of one key whose body is slow; 32 in flight are allowed
GAP_S: Final = 1.0  # between two bytes
REVOKED_WITHIN_S: Final = 1.0
UNREAD: Final = 200  # requests on one connection, whose answers nobody reads


def slow_headers(tally: Tally) -> None:
    """Connections that send one byte of a header each second."""
    request = write_question(tally.place, Question(("x",)))
    _hold(tally, CONNECTIONS, request[:20], request[20:60])


def half_open(tally: Tally) -> None:
    """Connections that send nothing, on both ports."""
    _hold(tally, CONNECTIONS, b"", b"")


def slow_bodies(tally: Tally) -> None:
    """Requests whose body comes byte by byte."""
    request = write_question(tally.place, make_question(tally.place, random.Random()))
    head, _, body = request.partition(b"\r\n\r\n")
    _hold(tally, HELD, head + b"\r\n\r\n", body)


def slow_readers(tally: Tally) -> None:
    """Connections that ask many questions and read no answer, through the smallest buffers."""
    rng = random.Random()
    place = tally.place
    with contextlib.ExitStack() as held:
        for _ in tally.beats(10):
            connection = held.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            connection.settimeout(1)
            host, _, port = place.http.rpartition(":")
            with contextlib.suppress(OSError):
                connection.connect((host, int(port)))
                for _ in range(UNREAD):
                    connection.sendall(write_question(place, make_question(place, rng)))
            tally.count(NONE)


def revoked(tally: Tally) -> None:
    """A body that is still on its way when its key is revoked gets no answer; a kept connection ends, too."""
    place = tally.place
    for number in tally.beats(0.5):
        name = f"revoked-{number}-{secrets.token_hex(3)}"
        key = add_key(place.folder, name, "shop", 1000)
        apply_keys(place)
        known = Place(**{**vars(place), "keys": {"attacker": key}})
        request = write_question(known, Question(("x",)))
        with connect(place.http) as connection, Line(place.http) as line, Grpc(place.grpc, key):
            kept = line.ask(request).status
            if kept != 200:
                tally.blame(f"a new key gets {kept or NONE}")
            connection.sendall(request[:-5])
            time.sleep(0.1)
            revoke_key(place.folder, name)
            apply_keys(place)
            time.sleep(REVOKED_WITHIN_S)
            status = line.ask(request).status
            tally.count(status or NONE)
            if status != 401:
                tally.blame(
                    f"a kept connection gets {status or NONE} {REVOKED_WITHIN_S:g} s after the revocation"
                )
            with contextlib.suppress(OSError):
                connection.sendall(request[-5:])
                said = connection.recv(100)
                tally.count(said[9:12].decode(errors="replace") or NONE)
                if said.startswith(b"HTTP/1.1 200"):
                    tally.blame(
                        f"a body that ends {REVOKED_WITHIN_S:g} s after the revocation of its key gets 200"
                    )


ATTACKS: Final = (
    Attack("slow headers", slow_headers),
    Attack("half-open", half_open),
    Attack("slow bodies", slow_bodies),
    Attack("slow readers", slow_readers, overloads=True),
    Attack("revoked", revoked),
)


def apply_keys(place: Place) -> None:
    """Let the gateway know the changed keys, as `cesta keys` does."""
    announce(place.folder)


class _Held:
    """A connection that sends `start` at once and `rest` byte by byte."""

    def __init__(self, address: str, start: bytes, rest: bytes) -> None:
        self._socket, self._rest = connect(address), rest
        self._socket.sendall(start)
        self._socket.setblocking(False)

    def go_on(self) -> bytes | None:
        """Send the next byte. Return what came back: None for nothing yet, b"" for the end."""
        self._socket.send(self._rest[:1])
        self._rest = self._rest[1:]
        try:
            return self._socket.recv(200)
        except BlockingIOError:
            return None

    def close(self) -> None:
        self._socket.close()


def _hold(tally: Tally, count: int, start: bytes, rest: bytes) -> None:
    """Keep `count` connections, and open again those that end. Half of the silent ones go to gRPC."""
    addresses = (tally.place.http, tally.place.http if start else tally.place.grpc)
    held = dict[int, _Held]()
    for _ in tally.beats(1 / GAP_S):
        for number in range(count):
            try:
                if number not in held:
                    held[number] = _Held(addresses[number % 2], start, rest)
                    tally.count("opened")
                elif (said := held[number].go_on()) is not None:
                    _count_answer(tally, said)
                    held.pop(number).close()
            except OSError:  # the gateway has ended it
                if number in held:
                    held.pop(number).close()
    for connection in held.values():
        connection.close()


def _count_answer(tally: Tally, said: bytes) -> None:
    status = said[9:12].decode(errors="replace") or NONE
    tally.count(status)
    if status.startswith("5"):
        tally.blame(f"a slow request gets {status}")
