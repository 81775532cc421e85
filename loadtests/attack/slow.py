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
from operations.gateway.keys import add_key, revoke_key
from operations.gateway.nginx import GatewaySettings, reload
from operations.gateway.state import write_state

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
    write_state(place.folder)
    reload(GatewaySettings(place.folder))


def _hold(tally: Tally, count: int, start: bytes, rest: bytes) -> None:
    """Keep `count` connections that send `start` at once and `rest` byte by byte; open closed ones again."""
    held: list[tuple[socket.socket, int] | None] = [None] * count
    for _ in tally.beats(1 / GAP_S):
        for number, one in enumerate(held):
            try:
                if one is None:
                    address = tally.place.grpc if number % 2 and not start else tally.place.http
                    connection, place = connect(address), 0
                    connection.sendall(start)
                else:
                    connection, place = one
                    if rest and place >= len(rest):
                        raise ConnectionError
                    connection.sendall(rest[place : place + 1])
                    place += 1
                    connection.setblocking(False)
                    with contextlib.suppress(BlockingIOError):
                        _count_answer(tally, connection.recv(200))
                        raise ConnectionError
                    connection.setblocking(True)
                held[number] = (connection, place)
            except OSError:
                connection.close()
                held[number] = None
    for one in held:
        if one is not None:
            one[0].close()


def _count_answer(tally: Tally, said: bytes) -> None:
    status = said[9:12].decode(errors="replace") or NONE
    tally.count(status)
    if status.startswith("5"):
        tally.blame(f"a slow request gets {status}")
