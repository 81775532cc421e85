"""What a basket's item adds to the chance of a partner, given the item's other partners.

Co-occurrence gives the same credit again and again to items that go together among themselves. A regression
shares the credit. EASE (Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019, eq. 8) fits
that of every item on all others at once: B = -P / diag(P) without its diagonal, P the inverse of X'X + l2,
where X has a row a receipt. The inverse takes the cube of the items in time and the square in memory, too
much for a catalog. Its sparse form inverts X'X of an item and its partners only, item by item (Steck,
"Markov Random Fields for Collaborative Filtering", NeurIPS 2019, section 3.2). That takes as much for each
item, however large the catalog is, and needs only the counts that the partners come from.
"""

from typing import Final

import numba
import numpy as np
from numpy.typing import NDArray

from export_scripts.snapshots.pairs import PairCounts

L2: Final = 30.0  # added to each item's baskets
MOST: Final = 50  # partners of an item that are regressed on each other; 0.2 ms an item, 100 take 1.3 ms


def fit_weights(
    pairs: PairCounts, offsets: NDArray[np.int64], partners: NDArray[np.int32], l2: float = L2
) -> NDArray[np.float32]:
    """Return the weight of each item for each of its ``partners``, 0 beyond the first MOST of an item.

    ``offsets`` (items + 1,) are into ``partners``, strongest first.
    """
    weights = np.zeros(len(partners), np.float32)
    _fill(pairs.offsets, pairs.partners, pairs.together, pairs.alone, offsets, partners, l2, MOST, weights)
    return weights


@numba.njit(cache=True)
def _fill(  # type: ignore[no-untyped-def]  # numba infers the types
    pair_offsets, pair_partners, together, alone, offsets, partners, l2, most, weights
):
    size = most + 1
    gram, inverse, rows = np.empty((size, size)), np.empty((size, size)), np.empty(size, np.int64)
    for item in range(len(offsets) - 1):
        first, n = offsets[item], min(offsets[item + 1] - offsets[item], most)
        if n == 0:
            continue
        order = np.argsort(partners[first : first + n])
        for k in range(n):
            rows[k] = partners[first + order[k]]
        rows[n] = item  # last: its row of the inverse is then a row of the factor's
        _count(pair_offsets, pair_partners, together, rows, n, gram)
        for k in range(n + 1):
            gram[k, k] = alone[rows[k]] + l2
        _invert_factor(gram, inverse, n + 1)
        for k in range(n):
            diagonal = 0.0
            for j in range(k, n + 1):
                diagonal += inverse[k, j] * inverse[k, j]
            weights[first + order[k]] = -inverse[n, n] * inverse[k, n] / diagonal


@numba.njit(cache=True)
def _count(offsets, partners, together, rows, n, gram):  # type: ignore[no-untyped-def]
    """Fill the lower triangle with the baskets that hold both; ``rows`` ascend, all but the last."""
    for a in range(n):
        at, end = offsets[rows[a]], offsets[rows[a] + 1]
        for b in range(a + 1, n):
            at = _find(partners, at, end, rows[b])
            found = at < end and partners[at] == rows[b]
            gram[b, a] = together[at] if found else 0
        low, high = min(rows[a], rows[n]), max(rows[a], rows[n])
        at = _find(partners, offsets[low], offsets[low + 1], high)
        found = at < offsets[low + 1] and partners[at] == high
        gram[n, a] = together[at] if found else 0


@numba.njit(cache=True)
def _find(partners, first, end, row):  # type: ignore[no-untyped-def]
    """The first place from ``first`` to ``end`` - 1 whose partner is ``row`` or larger, or ``end``."""
    while first < end:
        middle = (first + end) >> 1
        if partners[middle] < row:
            first = middle + 1
        else:
            end = middle
    return first


@numba.njit(cache=True)
def _invert_factor(gram, inverse, n):  # type: ignore[no-untyped-def]
    """Replace the lower triangle by its Cholesky factor, and fill ``inverse`` with that one's, transposed."""
    for i in range(n):
        for j in range(i + 1):
            value = gram[i, j]
            for k in range(j):
                value -= gram[i, k] * gram[j, k]
            gram[i, j] = np.sqrt(value) if i == j else value / gram[j, j]
    for i in range(n):
        for j in range(i):
            value = 0.0
            for k in range(j, i):
                value -= gram[i, k] * inverse[j, k]
            inverse[j, i] = value / gram[i, i]
        inverse[i, i] = 1 / gram[i, i]
