"""Choose settings and epochs on the hold-out within a time.

Candidates are drawn at random. Successive halving (Jamieson & Talwalkar 2016) trains all of them for a few
epochs, keeps the better half, and gives it twice the epochs, until one is left. Candidates that learn slowly
would lose every early comparison, so there are several such brackets, with fewer candidates and longer
starts, as in Hyperband (Li et al. 2018). The best of the brackets' winners goes on.

It trains as long as the hold-out rises. Then it goes back to its best epoch and on at a third of the rate. It
ends when two rates in a row bring nothing, or when time is short. At last it is trained anew, by the same
rates, with the hold-out among its examples: those are each user's latest choices (Goodfellow et al. 2016,
section 7.8, have the reasons).
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import structlog

from export_scripts.paper.examples import Questions, measure_quality
from export_scripts.paper.trainers import Choice, Deadline, Trainer
from export_scripts.scorer.ncf import NCF

log = structlog.get_logger()

SLOWER = 1 / 3  # of the rate, each time that the hold-out stops rising
FRUITLESS = 2  # rates in a row without a better epoch that end the training
SEARCHING = 0.4  # of the time of a model, at most; the rest is for training the winner twice
SHORT_BRACKET = 0.5  # of the time to search, at most, for the bracket with the shortest start
SPARE = 1.3  # times the expected time of the last training is kept for it

Start = Callable[[Choice], Trainer]


@dataclass(frozen=True)
class FittedModel:
    """A model as it was after its best epoch, and how the training went."""

    model: NCF  # trained on the whole training file, if time allowed
    held: NCF  # trained without the hold-out
    choice: Choice
    rates: tuple[float, ...]  # of each epoch up to the best on the hold-out
    epochs: int  # trained in all, those of other candidates included
    candidates: int
    validation: tuple[float, float]  # HR@10 and NDCG@10 of ``held`` on the hold-out
    seconds: float
    cut: bool  # the time ended the training while it could still improve
    whole: bool  # ``model`` is trained on the whole file

    @property
    def epoch(self) -> int:
        """The best on the hold-out; 0 is the start."""
        return len(self.rates)


@dataclass(frozen=True)
class Judge:
    """The data and the seed with which candidates are trained and measured."""

    start: Start
    validation: Questions
    seed: int


class Run:
    """A candidate's training, measured on the hold-out after every epoch."""

    def __init__(self, judge: Judge, choice: Choice):
        self.choice = choice
        self.trainer = judge.start(choice)
        self.rates: list[float] = []
        self.trained = 0  # epochs, those after the best included
        self.seconds = 0.0
        self._judge = judge
        self.quality = measure_quality(self.trainer.model, judge.validation)
        self.best = 0  # epochs
        self._state: Any = self.trainer.state()

    def train_epoch(self, rate: float, deadline: Deadline) -> bool:
        """Train and measure; False if the deadline came first."""
        began = time.monotonic()
        rng = np.random.default_rng((self._judge.seed, self.trained))
        whole = self.trainer.train_epoch(rate, rng, deadline)
        if whole:
            self.trained += 1
            self.rates.append(rate)
            quality = measure_quality(self.trainer.model, self._judge.validation)
            if quality[1] > self.quality[1]:
                self.quality, self.best, self._state = quality, len(self.rates), self.trainer.state()
            self.seconds += time.monotonic() - began
        return whole

    def go_back(self) -> None:
        """Forget what was trained after the best epoch."""
        self.trainer.restore(self._state)
        del self.rates[self.best :]

    @property
    def seconds_per_epoch(self) -> float:
        """Measured, the look at the hold-out included."""
        return self.seconds / max(self.trained, 1)


def choose_and_fit(
    name: str,
    judge: Judge,
    again: Start,
    candidates: Sequence[Choice],
    epochs: int,
    patience: int,
    deadline: Deadline,
) -> FittedModel:
    """Find the best candidate, train it to its best epoch, and train it ``again`` on the whole file.

    ``epochs`` are the first comparison's. All epochs are counted until the hold-out has not risen for
    ``patience`` of them.
    """
    began = time.monotonic()
    searching = deadline.share(SEARCHING)
    run, tried, trained = find_best(name, judge, candidates, epochs, searching)
    before = run.trained
    cut = climb(name, run, patience, deadline)
    run.go_back()
    held = run.trainer.model
    anew = again(run.choice)
    whole = all(
        anew.train_epoch(rate, np.random.default_rng((judge.seed, epoch)), deadline)
        for epoch, rate in enumerate(run.rates)
    )
    return FittedModel(
        model=anew.model if whole else held,
        held=held,
        choice=run.choice,
        rates=tuple(run.rates),
        epochs=trained + run.trained - before,
        candidates=tried,
        validation=run.quality,
        seconds=time.monotonic() - began,
        cut=cut or not whole,
        whole=whole,
    )


def find_best(
    name: str, judge: Judge, candidates: Sequence[Choice], epochs: int, deadline: Deadline
) -> tuple[Run, int, int]:
    """The best of all brackets' winners, the number of candidates, and that of all their epochs.

    The first candidate is always trained. Its speed tells how many others there is time for.
    """
    first = Run(judge, candidates[0])
    while first.trained < epochs and first.train_epoch(first.choice.rate, deadline):
        pass
    winners, tried, trained = [first], 1, first.trained
    left, bracket = list(candidates[1:]), [first]
    share = deadline.share(SHORT_BRACKET)
    while left and deadline.seconds_left:
        part = _affordable(len(left), first.seconds_per_epoch * epochs, share)
        bracket += [Run(judge, choice) for choice in left[:part]]
        trained -= sum(run.trained for run in bracket)
        winners.append(halve(name, bracket, epochs, deadline))
        trained += sum(run.trained for run in bracket)
        tried += part
        left, bracket, epochs, share = left[part:], [], 4 * epochs, deadline
    return max(winners, key=lambda run: run.quality[1]), tried, trained


def _affordable(left: int, seconds: float, deadline: Deadline) -> int:
    """How many candidates a bracket can have if one takes ``seconds`` for the first comparison.

    A bracket of n costs about n (1 + log2(n) / 2) first comparisons. A third is left for a longer bracket.
    """
    part = left if left < 6 else 2 * left // 3
    while part > 1 and seconds * part * (1 + math.log2(part) / 2) > deadline.seconds_left:
        part -= 1
    return part


def halve(name: str, runs: Sequence[Run], epochs: int, deadline: Deadline) -> Run:
    """Train all ``epochs``, keep the better half, train it to twice the epochs, and so on."""
    while True:
        for run in runs:
            while run.trained < epochs and run.train_epoch(run.choice.rate, deadline):
                pass
        runs = sorted(runs, key=lambda run: -run.quality[1])[: -(-len(runs) // 2)]
        log.info("paper", model=name, kept=len(runs), epochs=epochs, ndcg=runs[0].quality[1])
        if len(runs) == 1 or not deadline.seconds_left:
            return runs[0]
        epochs *= 2


def climb(name: str, run: Run, patience: int, deadline: Deadline) -> bool:
    """Train until lower rates bring nothing more, or until the time is only enough to train once more.

    Returns whether the time was short.
    """
    rate, fruitless = run.rates[-1] if run.rates else run.choice.rate, 0
    while fruitless < FRUITLESS:
        reached = run.best
        while len(run.rates) - run.best < patience:
            if run.seconds_per_epoch * (run.best + 1) * SPARE > deadline.seconds_left:
                return True
            if not run.train_epoch(rate, deadline):
                return True
        log.info("paper", model=name, rate=rate, epoch=run.best, ndcg=run.quality[1])
        fruitless = 0 if run.best > reached else fruitless + 1
        run.go_back()
        rate *= SLOWER
    return False


def with_rates(choice: Choice, rates: Sequence[float]) -> list[Choice]:
    """The same settings with each of the rates."""
    return [replace(choice, rate=rate) for rate in rates]
