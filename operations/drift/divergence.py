"""How far two distributions of one feature are apart, with an interval.

The distance is the square root of the Jensen-Shannon divergence in bits: 0 for equal shares, 1 if no label
occurs in both. It is finite if a label is missing on one side, as a lost category is; the population
stability index is not.

Few observations look different by chance. For equal distributions with k labels, n and m observations, the
divergence is (k - 1) (1/n + 1/m) / (8 ln 2) on average (a chi-square, see the tests). That much is
subtracted. The interval adds the variance of this part to that of the delta method.
"""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Z_95: Final = 1.96

Floats = NDArray[np.float64]


class Distances(NamedTuple):
    """Distances without what chance explains, and the bounds of their 95 % intervals; all (windows,)."""

    distance: Floats
    low: Floats
    high: Floats


def distances(
    reference: Floats, asked: Floats, observed: Floats | float, observations: Floats | float
) -> Distances:
    """Compare ``asked`` (windows, labels) with ``reference`` (labels,) or (windows, labels), both counts.

    ``observed`` and ``observations`` are the numbers of independent observations on either side. A side
    without any has the distance 0 and no upper bound below 1.
    """
    p, q = _shares(reference), _shares(asked)
    m = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        of_p = np.where(p > 0, np.log2(p / m), 0.0)
        of_q = np.where(q > 0, np.log2(q / m), 0.0)
    divergence: Floats = ((p * of_p).sum(-1) + (q * of_q).sum(-1)) / 2
    per_p, per_q = (1 / np.maximum(n, 1e-9) for n in (np.asarray(observed), np.asarray(observations)))
    chance = (per_p + per_q) / (8 * math.log(2))
    freedom = np.maximum(np.count_nonzero(m > 0, axis=-1) - 1, 0)
    variance = (_variance(p, of_p / 2) * per_p) + (_variance(q, of_q / 2) * per_q) + 2 * freedom * chance**2
    excess, half = divergence - freedom * chance, Z_95 * np.sqrt(variance)
    nothing = (p.sum(-1) == 0) | (q.sum(-1) == 0)
    return Distances(
        np.where(nothing, 0.0, _root(excess)),
        np.where(nothing, 0.0, _root(excess - half)),
        np.where(nothing, 1.0, np.minimum(_root(excess + half), 1.0)),
    )


def _shares(counts: Floats) -> Floats:
    total = counts.sum(-1, keepdims=True)
    shares: Floats = np.divide(counts, total, out=np.zeros_like(counts, dtype=np.float64), where=total > 0)
    return shares


def _variance(shares: Floats, slope: Floats) -> Floats:
    mean: Floats = (shares * slope).sum(-1)
    spread: Floats = (shares * slope**2).sum(-1) - mean**2
    return np.maximum(spread, 0.0)


def _root(divergence: Floats) -> Floats:
    return np.sqrt(np.maximum(divergence, 0.0))
