"""The distance of two distributions: by hand, and its interval by simulation."""

import math

import numpy as np
import pytest

from operations.drift.divergence import distances

MANY = 1e12  # observations: chance explains nothing


def distance(p: list[float], q: list[float]) -> float:
    return float(distances(np.array(p), np.array([q]), MANY, MANY).distance[0])


@pytest.mark.parametrize(
    ("p", "q", "expected"),
    [
        ([3, 1], [6, 2], 0.0),  # shares count, not counts
        ([1, 0], [0, 1], 1.0),  # nothing in common
        # m = (3/4, 1/4): half of log2(4/3), and of 1/2 log2(2/3) + 1/2 log2(2)
        ([1, 0], [1, 1], math.sqrt((math.log2(4 / 3) + math.log2(2 / 3) / 2 + 0.5) / 2)),
    ],
)
def test_the_distance_is_the_root_of_the_jensen_shannon_divergence(
    p: list[float], q: list[float], expected: float
) -> None:
    assert distance(p, q) == pytest.approx(expected, abs=1e-5)
    assert distance(q, p) == pytest.approx(expected, abs=1e-5)


def test_chance_does_not_look_like_drift() -> None:
    """300 questions drawn from the reference itself, 1,000 times: without the correction all would be 0.16
    away. The lower bound is 0 in at least 97.5 % of them.
    """
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(50) * 2)
    before = rng.multinomial(3000, shares, 1000).astype(float)
    now = rng.multinomial(300, shares, 1000).astype(float)
    found = distances(before, now, 3000, 300)
    assert np.mean(found.low > 0) <= 0.025
    assert np.median(found.distance) < 0.06


def test_the_interval_holds_the_true_distance() -> None:
    rng = np.random.default_rng(1)
    p = rng.dirichlet(np.ones(10) * 2)
    q = p * np.exp(rng.normal(size=10) * 0.3)
    true = distance(p.tolist(), (q / q.sum()).tolist())
    before = rng.multinomial(2000, p, 1000).astype(float)
    now = rng.multinomial(500, q / q.sum(), 1000).astype(float)
    found = distances(before, now, 2000, 500)
    covered = np.mean((found.low <= true) & (true <= found.high))
    assert 0.93 <= covered <= 0.995


def test_without_questions_nothing_is_known() -> None:
    found = distances(np.array([1.0, 2.0]), np.zeros((1, 2)), 100, 0)
    assert (found.distance[0], found.low[0], found.high[0]) == (0, 0, 1)
