"""Workers of the gateway that are killed, as a crash or the system's lack of memory would."""

import os
import random
import signal
from typing import Final

from loadtests.attack.deadlines import make_question
from loadtests.attack.place import Attack, Tally
from loadtests.attack.wire import NONE, Line, write_question

EVERY_S: Final = 2.0
THREADS: Final = 8


def kills(tally: Tally) -> None:
    """SIGKILL to one worker every two seconds, while it has requests in flight."""

    def ask(number: int) -> None:
        if number == 0:
            for turn in tally.beats(1 / EVERY_S):
                if turn and (workers := tally.place.workers):
                    worker = random.choice(workers)
                    tally.outcome.killed.append(worker)
                    os.kill(worker, signal.SIGKILL)
            return
        rng = random.Random()
        with Line(tally.place.http) as line:
            for _ in tally.beats(60):
                status = line.ask(write_question(tally.place, make_question(tally.place, rng))).status
                tally.count(status or NONE)
                if status not in (0, 200):
                    tally.blame(f"a request gets {status}, {len(tally.outcome.killed)} kills after the first")

    tally.run_threads(THREADS, ask)


ATTACKS: Final = (Attack("kills", kills, kills=True),)
