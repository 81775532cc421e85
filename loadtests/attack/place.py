"""What an attack knows about the gateway that it attacks, and what it hands back."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from loadtests.questions import Question

MOST_PROBLEMS: Final = 5  # sentences of one attack; more would say the same again
SHOWN: Final = 160  # characters of a request in a sentence


@dataclass(frozen=True)
class Victim:
    """A question of the honest caller, and the first items of its answer."""

    question: Question
    item_ids: tuple[str, ...]


@dataclass(frozen=True)
class Place:
    """The gateway under attack. It can be sent to another process."""

    http: str
    grpc: str
    folder: Path  # the gateway's state
    release: int
    keys: dict[str, str]  # by name: honest, attacker (no limit worth the name), slow (5 requests per second)
    item_ids: tuple[str, ...]
    victims: tuple[Victim, ...]

    @property
    def workers(self) -> list[int]:
        """The process ids of the gateway's workers."""
        master = (self.folder / "run" / "nginx.pid").read_text(encoding="ascii").strip()
        children = Path(f"/proc/{master}/task/{master}/children").read_text(encoding="ascii")
        return [int(child) for child in children.split()]


@dataclass
class Outcome:
    """What came of one attack. `answers` counts statuses: of HTTP as numbers, of gRPC as names."""

    sent: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    killed: list[int] = field(default_factory=list)  # process ids of workers


@dataclass(frozen=True)
class Attack:
    """`run` attacks until a moment of time.monotonic. A new attack is a function in a list of its module."""

    name: str
    run: Callable[["Tally"], None]
    overloads: bool = False  # so answers that say "full" are right
    kills: bool = False  # so connections that break are no surprise


class Tally:
    """The place, the time that is left, and the outcome so far. Threads may share it."""

    def __init__(self, place: Place, seconds: float) -> None:
        self.place, self.outcome = place, Outcome()
        self._until = time.monotonic() + seconds
        self._lock = threading.Lock()

    @property
    def left_s(self) -> float:
        return self._until - time.monotonic()

    def beats(self, rate: float) -> Iterator[int]:
        """Count from 0 at `rate` per second, until the time is over. A late caller does not hurry."""
        due, number = time.monotonic(), 0
        while self.left_s > 0:
            yield number
            number += 1
            due = max(due + 1 / rate, time.monotonic())
            time.sleep(max(0.0, min(due - time.monotonic(), self.left_s)))

    def count(self, answer: int | str) -> None:
        with self._lock:
            self.outcome.sent += 1
            self.outcome.answers[str(answer)] += 1

    def blame(self, sentence: str) -> None:
        """Report something that must not happen."""
        with self._lock:
            if len(self.outcome.problems) < MOST_PROBLEMS:
                self.outcome.problems.append(sentence)

    def run_threads(self, count: int, work: Callable[[int], None]) -> None:
        """Run `work(number)` in threads until all end. An error is a problem of the attack."""

        def guarded(number: int) -> None:
            try:
                work(number)
            except Exception as error:  # nobody else would notice the end of the thread
                self.blame(f"the attack ended early: {error!r}")

        threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def shown(content: bytes) -> str:
    """Enough of a request to send it again by hand."""
    return repr(content if len(content) <= SHOWN else content[:SHOWN] + b"...")[1:]
