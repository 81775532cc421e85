"""Settings and epochs are chosen on the hold-out, within the time. The clock here moves a second an epoch."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from export_scripts.paper import search, trainers
from export_scripts.paper.search import Judge, Run, choose_and_fit, climb, find_best, halve
from export_scripts.paper.trainers import Choice, Deadline

Curve = Callable[[list[float]], float]  # the rates of all epochs → the quality


class Scripted:
    """A trainer whose quality follows from the rates of its epochs."""

    def __init__(self, curve: Curve, clock: "Clock"):
        self.model: Any = SimpleNamespace(curve=curve, rates=[])
        self._clock = clock

    def train_epoch(self, rate: float, rng: np.random.Generator, deadline: Deadline) -> bool:
        if not deadline.seconds_left:
            return False
        self._clock.now += 1
        self.model.rates.append(rate)
        return True

    def state(self) -> list[float]:
        return list(self.model.rates)

    def restore(self, state: list[float]) -> None:
        self.model.rates = list(state)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (search, trainers):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock))
    monkeypatch.setattr(search, "measure_quality", lambda model, _: (0.0, model.curve(model.rates)))
    return clock


def judge(clock: Clock, curve: Callable[[Choice], Curve]) -> Judge:
    return Judge(lambda choice: Scripted(curve(choice), clock), validation=None, seed=1)  # type: ignore[arg-type]


def width(n: int) -> Choice:
    return Choice(0.1, 4, gmf=n)


def slow_or_quick(choice: Choice) -> Curve:
    """Width 99 learns slowly and gets furthest; the others stop at width / 100 after four epochs."""
    if choice.gmf == 99:
        return lambda rates: min(len(rates) / 50, 0.99)
    return lambda rates: min(len(rates), 4) / 4 * choice.gmf / 100


def test_halving_gives_the_better_half_twice_the_epochs(clock: Clock) -> None:
    """Four candidates: 4 epochs each, then 8 for two of them."""
    runs = [Run(judge(clock, slow_or_quick), width(n)) for n in (10, 20, 30, 40)]
    assert halve("x", runs, 4, Deadline(1000)).choice.gmf == 40
    assert [run.trained for run in runs] == [4, 4, 8, 8]


def test_a_longer_bracket_finds_what_learns_slowly(clock: Clock) -> None:
    """After 4 epochs width 99 has 0.08. It is in the second bracket, whose first comparison has 16."""
    candidates = [width(n) for n in (10, 11, 12, 13, 14, 15, 16, 99, 12)]
    best, tried, _ = find_best("x", judge(clock, slow_or_quick), candidates, 4, Deadline(1000))
    assert best.choice.gmf == 99
    assert tried == len(candidates)


def test_little_time_tries_few_candidates(clock: Clock) -> None:
    """The first takes 4 of 12 seconds, so one other can be compared with it."""
    candidates = [width(n) for n in range(10, 20)]
    _, tried, trained = find_best("x", judge(clock, slow_or_quick), candidates, 4, Deadline(12))
    assert 2 <= tried <= 4
    assert clock.now == trained <= 12


def test_a_model_that_still_rises_is_not_stopped(clock: Clock) -> None:
    """It rises for 200 epochs, sometimes not for four in a row."""
    run = Run(judge(clock, lambda _: lambda rates: min(len(rates), 200) // 4 / 100), width(8))
    assert not climb("x", run, 5, Deadline(10_000))
    assert run.best == 200


def test_the_rate_falls_when_the_hold_out_stops_rising(clock: Clock) -> None:
    """Each rate has a limit here. The epochs after the best are forgotten."""

    def limited(rates: list[float]) -> float:
        return min(rates.count(0.1), 3) / 10 + min(len(rates) - rates.count(0.1), 2) / 10

    run = Run(judge(clock, lambda _: limited), width(8))
    assert not climb("x", run, 2, Deadline(1000))
    assert run.rates == pytest.approx([0.1, 0.1, 0.1, 0.1 / 3, 0.1 / 3])
    assert run.trainer.model.rates == run.rates
    assert run.quality[1] == 0.5


def test_the_last_training_repeats_the_rates(clock: Clock) -> None:
    """It is on the whole file, and as long as the best on the hold-out."""
    again = Scripted(lambda _: 0.0, clock)
    fitted = choose_and_fit(
        "x", judge(clock, slow_or_quick), lambda _: again, [width(10), width(20)], 4, 2, Deadline(1000)
    )
    assert fitted.whole
    assert not fitted.cut
    assert fitted.choice.gmf == 20
    assert again.model.rates == list(fitted.rates) == [0.1] * 4
    assert fitted.model is again.model
    assert fitted.held.rates == again.model.rates


def test_time_is_kept_for_the_last_training(clock: Clock) -> None:
    """What rises without end is trained for less than half of the time, and once more."""
    again = Scripted(lambda _: 0.0, clock)
    fitted = choose_and_fit(
        "x", judge(clock, lambda _: len), lambda _: again, [width(10)], 4, 5, Deadline(100)
    )
    assert fitted.whole
    assert fitted.cut
    assert 35 < fitted.epoch < 50
    assert len(again.model.rates) == fitted.epoch
    assert clock.now <= 100


def test_a_last_training_that_is_too_slow_gives_way(clock: Clock) -> None:
    """The machine may be busier then. The model without the hold-out counts instead."""

    class Slow(Scripted):
        def train_epoch(self, rate: float, rng: np.random.Generator, deadline: Deadline) -> bool:
            self._clock.now += 10
            return super().train_epoch(rate, rng, deadline)

    again = Slow(lambda _: 0.0, clock)
    fitted = choose_and_fit(
        "x", judge(clock, lambda _: len), lambda _: again, [width(10)], 4, 5, Deadline(100)
    )
    assert not fitted.whole
    assert fitted.cut
    assert fitted.model is fitted.held


def test_no_time_leaves_the_start(clock: Clock) -> None:
    fitted = choose_and_fit(
        "x",
        judge(clock, slow_or_quick),
        lambda choice: Scripted(slow_or_quick(choice), clock),
        [width(10), width(20)],
        4,
        2,
        Deadline(0),
    )
    assert (fitted.epoch, fitted.epochs, fitted.cut) == (0, 0, True)
