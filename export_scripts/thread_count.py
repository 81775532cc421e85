"""The number of torch's threads in a training: as many as the machine's other processes leave room for.

torch's threads spin while they wait for each other. If another process takes the core of one thread, the
other spins in vain, and a step takes ten times as long. One thread waits for nobody.
"""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

import torch

# A round measures the pace over so many steps and so many seconds: others get a core for milliseconds.
ROUND_STEPS: Final = 2
ROUND_S: Final = 0.5
SLOWER: Final = 1.5  # times the usual seconds per step: a reason to try one thread
FIRST_WAIT, LONGEST_WAIT = 2, 32  # rounds with one thread before all are tried again


class ThreadCount:
    """Within the block, switches between one thread and ``most`` by the pace of the steps.

    The results must not depend on the number, to the last bit. ``clock`` gives seconds.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.perf_counter):
        self._most, self._clock, self._before = most, clock, torch.get_num_threads()
        self._usual: float | None = None  # seconds per step of the chosen number; None: not known yet
        self._trying = False  # does this round try the other number?
        self._rounds, self._wait = 0, FIRST_WAIT

    def __enter__(self) -> Self:
        self._start_round(self._most)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        torch.set_num_threads(self._before)

    def step(self) -> None:
        """Note the end of a step of the training."""
        self._steps += 1
        seconds = self._clock() - self._since
        if self._most > 1 and self._steps >= ROUND_STEPS and seconds >= ROUND_S:
            self._end_round(seconds / self._steps)

    def _end_round(self, pace: float) -> None:
        if self._trying:
            self._choose(pace)
        elif self._usual is None or self._should_try(pace, self._usual):
            self._usual, self._trying = pace, True
            self._start_round(self._other())
        else:
            self._usual = min(self._usual, pace)
            self._start_round(self._threads)

    def _should_try(self, pace: float, usual: float) -> bool:
        """Is the other number worth a round? One thread does not notice that a core has become free."""
        self._rounds += 1
        return self._rounds >= self._wait if self._threads == 1 else pace > SLOWER * usual

    def _choose(self, pace: float) -> None:
        """Keep the number of this round if its pace is the better one, else return to the one before."""
        self._trying, self._rounds = False, 0
        if self._usual is not None and pace < self._usual:
            self._usual, self._wait = pace, FIRST_WAIT
            self._start_round(self._threads)
        else:
            self._wait = min(2 * self._wait, LONGEST_WAIT)
            self._start_round(self._other())

    def _other(self) -> int:
        return self._most if self._threads == 1 else 1

    def _start_round(self, threads: int) -> None:
        torch.set_num_threads(threads)
        self._threads, self._steps, self._since = threads, 0, self._clock()
