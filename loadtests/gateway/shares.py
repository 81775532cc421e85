"""Medians of paired measurements, how certain they are, and whether they keep a budget."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from statistics import median
from typing import Final

CONFIDENCE: Final = 0.95
FEWEST: Final = 6  # pairs that have an interval of this confidence
KEPT, BROKEN, UNDECIDED = "kept", "broken", "undecided"


@dataclass(frozen=True)
class Share:
    """The median of a ratio over pairs. The true one lies from `low` to `high` with 95% confidence."""

    middle: float
    low: float
    high: float
    pairs: int

    def verdict(self, least: float) -> str:
        """Tell whether the share is at least so much.

        It is broken only if the whole interval is below. A busy machine makes the interval wide, and a few
        pairs have none: then nothing is decided.
        """
        if self.middle >= least:
            return KEPT
        return BROKEN if self.high < least and self.pairs >= FEWEST else UNDECIDED


def share_of(ours: Sequence[float], others: Sequence[float]) -> Share:
    """The share that `ours` has of `others`, measured in pairs one after the other."""
    ratios = sorted(one / other for one, other in zip(ours, others, strict=True))
    outside = ranks_outside(len(ratios))
    return Share(median(ratios), ratios[outside], ratios[-1 - outside], len(ratios))


def ranks_outside(count: int) -> int:
    """How many of the sorted values lie below the interval; as many lie above it.

    The number of values below the true median is binomial (n, 1/2), whatever their distribution. Fewer than
    FEWEST values have no such interval; all of them are within.
    """
    tail = 0.0
    for rank in range(count):
        tail += comb(count, rank) / 2**count
        if 2 * tail > 1 - CONFIDENCE:
            return max(rank - 1, 0)
    return 0
