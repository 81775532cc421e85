"""Runs the attacks in turn, and reads after each one what it left behind."""

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Final

from rich.console import Console

from ensemble.candidate_sampler.arrays import load_arrays
from loadtests.attack import (
    deadlines,
    floods,
    headers,
    keys,
    paths,
    poisoning,
    roles,
    slow,
    tensors,
    workers,
)
from loadtests.attack.deadlines import make_question
from loadtests.attack.honest import RATE, REPEATED, Expected, Honest
from loadtests.attack.place import Attack, Outcome, Place, Tally, Victim
from loadtests.attack.report import Attacked
from loadtests.attack.target import Target
from loadtests.attack.wire import Line, connect, write_question, write_request
from loadtests.questions import Question, stream, visits_of_test_month
from loadtests.switching.variants import compute_answers
from loadtests.wires import GENERATE
from operations.outputs import Outputs

THEMES: Final[dict[str, tuple[Attack, ...]]] = {
    "headers": headers.ATTACKS,
    "paths": paths.ATTACKS,
    "roles": roles.ATTACKS,
    "tensors": tensors.ATTACKS,
    "poisoning": poisoning.ATTACKS,
    "deadlines": deadlines.ATTACKS,
    "slow": slow.ATTACKS,
    "floods": floods.ATTACKS,
    "keys": keys.ATTACKS,
    "workers": workers.ATTACKS,
}
VICTIMS: Final = 400
MOST_QUESTIONS: Final = 20_000
SETTLES_S: Final = 1.0  # the supervisor notices the end of Triton within a second
HEALS_WITHIN_S: Final = 5.0
NICENESS: Final = 10  # of attackers: the servers and the honest caller share their cores
HELD: Final = 30  # requests of one key; 32 in flight are allowed
THROUGHPUT_S: Final = 0.8  # so that three pairs take 5 s
CONNECTIONS: Final = 24


@dataclass(frozen=True)
class Material:
    """What the callers ask, with the right answers."""

    expected: list[Expected]
    victims: tuple[Victim, ...]
    item_ids: tuple[str, ...]


def choose_themes(text: str) -> tuple[str, ...]:
    """Read the option --only."""
    names = tuple(text.split(","))
    if strange := [name for name in names if name not in THEMES]:
        raise argparse.ArgumentTypeError(f"no theme {', '.join(strange)}; themes: {', '.join(THEMES)}")
    return names


def prepare(outputs: Outputs, seconds: float) -> Material:
    """Take distinct questions of the test month, enough for this long, and compute their answers."""
    count = min(MOST_QUESTIONS, VICTIMS + REPEATED + int(RATE * (seconds + 60)))
    visits = visits_of_test_month(outputs.data, outputs.run)
    questions: list[Question] = list(dict.fromkeys(stream(visits)))[:count]
    answers = compute_answers(outputs.run, outputs.run, questions)
    known = [Expected(*pair) for pair in zip(questions, answers, strict=True)]
    # Poison works only while the cache does not know the victim's question.
    victims = tuple(
        Victim(one.question, tuple(item for item in one.answer.item_ids if item)) for one in known[:VICTIMS]
    )
    ids = load_arrays(outputs.run / "arrays").item_ids.unpack()
    return Material(known[VICTIMS:], victims, tuple(item_id.decode() for item_id in ids[1:]))


def attack(
    target: Target, place: Place, honest: Honest, themes: Sequence[str], seconds: float, console: Console
) -> list[Attacked]:
    """Run the attacks of each theme for an equal share of the time."""
    done = []
    target.read_failures()
    for theme in themes:
        with _start_theme(theme, place, seconds / len(themes)) as pipe:
            for one in THEMES[theme]:
                done.append(_run_one(target, place, honest, theme, one, pipe))
                console.print(f"{theme}, {one.name}: {done[-1].outcome.sent} sent", soft_wrap=True)
    return done


def _run_one(
    target: Target, place: Place, honest: Honest, theme: str, one: Attack, pipe: Connection
) -> Attacked:
    before, begun = target.read_signs(), time.monotonic()
    pipe.send(one.name)
    while not pipe.poll(0.5):
        honest.read()  # so that its pipe does not fill up
    outcome: Outcome = pipe.recv()
    time.sleep(SETTLES_S)
    healed = _wait_whole(place)
    after = target.read_signs()
    ended = time.monotonic()
    died = Counter(after.deaths) - Counter(before.deaths)
    deaths = [signal for pid, signal in died.elements() if pid not in outcome.killed]
    attacked = Attacked(
        theme,
        one,
        begun,
        ended,
        outcome,
        after.restarts - before.restarts,
        deaths,
        target.read_failures(),
        healed,
        list(after.faults[len(before.faults) :]),
    )
    if not healed:  # the next attack shall find a whole gateway
        target.restart_gateway()
        target.read_failures()
    return attacked


@contextmanager
def _start_theme(theme: str, place: Place, seconds: float) -> Iterator[Connection]:
    context = multiprocessing.get_context("spawn")
    ours, its = context.Pipe()
    child = context.Process(target=_run_theme, args=(theme, place, seconds, its), daemon=True)
    child.start()
    try:
        yield ours
    finally:
        child.terminate()
        child.join()


def _run_theme(theme: str, place: Place, seconds: float, pipe: Connection) -> None:
    """The child: it runs each attack that the parent names."""
    attacks = {one.name: one for one in THEMES[theme]}
    os.nice(NICENESS)
    while True:
        one = attacks[pipe.recv()]
        tally = Tally(place, seconds / len(attacks))
        try:
            one.run(tally)
        except Exception as error:
            tally.blame(f"the attack ended early: {error!r}")
        pipe.send(tally.outcome)


def _wait_whole(place: Place) -> bool:
    """Tell whether the attacker's key can use its slots again within HEALS_WITHIN_S."""
    deadline = time.monotonic() + HEALS_WITHIN_S
    while not (whole := _is_whole(place)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return whole


def _is_whole(place: Place) -> bool:
    """Hold many requests of one key by their bodies, and tell whether one more is answered."""
    rng = random.Random()
    with contextlib.ExitStack() as held:
        try:
            for _ in range(HELD):
                connection = held.enter_context(connect(place.http))
                connection.sendall(write_question(place, make_question(place, rng))[:-5])
            line = held.enter_context(Line(place.http))
            return all(
                line.ask(write_question(place, make_question(place, rng))).status == 200 for _ in range(5)
            )
        except OSError:
            return False


def measure_throughput(target: Target, place: Place) -> list[float]:
    """Requests per second through the gateway as shares of asking Triton directly, measured in turn.

    The share does not depend on what else the machine does.
    """
    direct = target.gateway.settings.triton_http
    return [_count_answers(place, "") / max(1, _count_answers(place, direct)) for _ in range(3)]


def _count_answers(place: Place, direct: str) -> int:
    tally = Tally(place, THROUGHPUT_S)

    def ask(number: int) -> None:
        rng = random.Random()
        with Line(direct or place.http) as line:
            while tally.left_s > 0:
                question = make_question(place, rng)
                if direct:
                    request = write_request(GENERATE.path, json.dumps(question.json).encode())
                else:
                    request = write_question(place, question, "throughput")
                tally.count(line.ask(request).status)

    tally.run_threads(CONNECTIONS, ask)
    return tally.outcome.answers["200"]
