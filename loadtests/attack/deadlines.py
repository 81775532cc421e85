"""Callers that do not wait for their answer. Triton 2.51 crashes after some thousands of them over gRPC."""

import random
import time
from typing import Final

from loadtests.attack.collisions import inputs_of
from loadtests.attack.place import Attack, Place, Tally
from loadtests.attack.wire import NONE, Grpc, connect, make_message, write_question
from loadtests.questions import Question

THREADS: Final = 16
RATE: Final = 60.0  # calls per second of one thread
AT_ONCE: Final = 24  # of one key; 32 are allowed


def deadlines(tally: Tally) -> None:
    """gRPC calls with a deadline of 1 to 20 ms."""

    def call(number: int) -> None:
        rng = random.Random()
        with Grpc(tally.place.grpc, tally.place.keys["attacker"]) as channel:
            for _ in tally.beats(RATE):
                tally.count(channel.ask(_message(tally.place, rng), rng.uniform(0.001, 0.02))[0])

    tally.run_threads(THREADS, call)


def cancels(tally: Tally) -> None:
    """gRPC calls that are cancelled after 0 to 10 ms."""

    def call(number: int) -> None:
        rng = random.Random()
        with Grpc(tally.place.grpc, tally.place.keys["attacker"]) as channel:
            for _ in tally.beats(RATE):
                future = channel.start(_message(tally.place, rng))
                time.sleep(rng.uniform(0, 0.01))
                future.cancel()
                tally.count(future.code().name)

    tally.run_threads(THREADS, call)


def hang_ups(tally: Tally) -> None:
    """JSON requests whose connection ends, or is reset, after 0 to 20 ms."""

    def call(number: int) -> None:
        rng = random.Random()
        for _ in tally.beats(RATE):
            with connect(tally.place.http) as connection:
                connection.sendall(write_question(tally.place, make_question(tally.place, rng)))
                time.sleep(rng.uniform(0, 0.02))
            tally.count(NONE)

    tally.run_threads(THREADS, call)


def leavers(tally: Tally) -> None:
    """Fewer callers at once than allowed; those that left must not count as in flight."""
    throttled = 0

    def call(number: int) -> None:
        nonlocal throttled
        rng = random.Random()
        with Grpc(tally.place.grpc, tally.place.keys["attacker"]) as channel:
            for _ in tally.beats(RATE):
                status, _text = channel.ask(_message(tally.place, rng), rng.choice((0.002, 0.005, 1.0)))
                throttled += status == "RESOURCE_EXHAUSTED"
                tally.count(status)

    tally.run_threads(AT_ONCE, call)
    if throttled:
        tally.blame(f"{throttled} of {tally.outcome.sent} calls are throttled at {AT_ONCE} at once")


ATTACKS: Final = (
    Attack("deadlines", deadlines, overloads=True),
    Attack("cancels", cancels, overloads=True),
    Attack("hang-ups", hang_ups, overloads=True),
    Attack("leavers", leavers),
)


def make_question(place: Place, rng: random.Random) -> Question:
    """A basket that the cache does not know."""
    return Question(tuple(sorted(rng.sample(place.item_ids, rng.randrange(1, 12)))), f"u{rng.random()}")


def _message(place: Place, rng: random.Random) -> bytes:
    content: bytes = make_message(inputs_of(make_question(place, rng))).SerializeToString()
    return content
