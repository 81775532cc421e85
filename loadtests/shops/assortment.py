"""The items of a generated shop: how much each one sells, and draws of items."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

SHIFT: Final = 8.0  # of the Zipf–Mandelbrot law 1 / (rank + shift): the best seller has 1.3 % of the lines

Numbers = NDArray[np.int64]


class Assortment:
    """Items by rank, the best seller first, in groups (categories, seasons, sets) of equal size.

    All draws are in proportion to sales, and come from the ``rng`` that is passed.
    """

    def __init__(self, items: int, groups: int, rng: np.random.Generator):
        self.group: Numbers = rng.permutation(np.arange(items) % groups)  # (items,) no group is empty
        sales = 1 / (np.arange(items) + SHIFT)
        self._members = np.argsort(self.group, kind="stable")  # group by group, best sellers first
        self._starts = np.searchsorted(self.group[self._members], np.arange(groups + 1))
        self._all = _shares(sales)
        self._groups = _shares(np.bincount(self.group, sales, groups).astype(np.float64))
        self._grouped = np.concatenate([[0.0], np.cumsum(sales[self._members])])

    def draw(self, n: int, rng: np.random.Generator) -> Numbers:
        """(n,) ranks of items."""
        return _places(self._all, rng.random(n))

    def draw_groups(self, n: int, rng: np.random.Generator) -> Numbers:
        """(n,) numbers of groups."""
        return _places(self._groups, rng.random(n))

    def draw_within(self, groups: Numbers, rng: np.random.Generator) -> Numbers:
        """Return for each of the ``groups`` (n,) the rank of one of its items."""
        first, last = self._starts[groups], self._starts[groups + 1] - 1
        low, high = self._grouped[first], self._grouped[last + 1]
        at = np.searchsorted(self._grouped, low + rng.random(len(groups)) * (high - low), "right") - 1
        drawn: Numbers = self._members[np.clip(at, first, last)]  # rounding may reach a neighbour
        return drawn


def _shares(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    sums = np.cumsum(weights)
    shares: NDArray[np.float64] = sums / sums[-1]
    return shares


def _places(shares: NDArray[np.float64], random: NDArray[np.float64]) -> Numbers:
    return np.minimum(np.searchsorted(shares, random, "right"), len(shares) - 1)
