"""Shapley values of a game that is known for all coalitions of its players.

The Shapley value (Shapley 1953, "A value for n-person games") is the only way to share out what all players
reach together that gives the whole sum away, treats equal players alike, gives nothing to players without
effect, and adds up over games. Štrumbelj and Kononenko (2014, "Explaining prediction models and individual
predictions with feature contributions") take features for players. A feature that is not in the coalition has
the values of other examples, and the worth is the mean prediction. Lundberg and Lee (2017, "A unified
approach to interpreting model predictions") show that a linear model then gives each feature its weight times
its distance from the mean (corollary 1).
"""

from math import factorial

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]


def coalitions(players: int) -> NDArray[np.bool_]:
    """(2^n, n): who is in each coalition. The first one is empty, the last one is everybody."""
    numbers = np.arange(2**players)[:, None]
    return (numbers >> np.arange(players)) & 1 > 0


def shapley_values(worth: Float) -> Float:
    """(2^n,) worths in the order of ``coalitions`` → (n,) values; their sum is the last worth less the first.

    A player's value is the mean of what it adds to the players before it, over all orders of the players.
    """
    players = len(worth).bit_length() - 1
    among = coalitions(players)
    sizes = among.sum(1)
    # s! (n - s - 1)! of the n! orders have the s players of a coalition, then this player, then all others.
    orders = np.array([factorial(s) * factorial(players - s - 1) for s in range(players)])
    values = np.empty(players)
    for player in range(players):
        without = np.flatnonzero(~among[:, player])
        added = worth[without + (1 << player)] - worth[without]
        values[player] = added @ orders[sizes[without]] / factorial(players)
    return values
