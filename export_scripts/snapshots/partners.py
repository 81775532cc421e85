"""The strongest partners of each item, from the number of baskets that hold both."""

import numba
import numpy as np
from numpy.typing import NDArray

from ensemble.candidate_sampler.arrays import Neighbours
from export_scripts.snapshots.pairs import PairCounts, blocks, offsets_of


def strongest(
    pairs: PairCounts, counts: NDArray[np.int64], min_support: int, partners: int, shrinkage: float
) -> Neighbours:
    """Return the strongest ``partners`` of every item by shrunk cosine, ties in the order of the rows.

    n_ij is the number of baskets with both items; cosine = n_ij / sqrt(n_i n_j) and P(j|i) = n_ij / n_i, both
    times n_ij / (n_ij + shrinkage). Without the factor, pairs seen once or twice would lead the list.
    ``counts`` (items,) holds n_i. Items with fewer than ``min_support`` have no partners and are none.
    """
    known, sales = counts >= min_support, counts.astype(np.float64)
    degrees, smaller = _degrees(pairs.offsets, pairs.partners, known)
    starts = offsets_of(np.minimum(degrees, partners))
    rows, both, cosine, probability = (
        np.empty(starts[-1], kind) for kind in (np.int32, np.int32, np.float32, np.float32)
    )
    read = pairs.offsets[:-1].copy()
    for first, last in blocks(smaller):
        lower_offsets = offsets_of(smaller[first:last])
        lower, lower_together = _mirror(*pairs[:3], read, lower_offsets, first)
        _fill_strongest(*pairs[:3], lower_offsets, lower, lower_together, sales, known, float(shrinkage),
                        starts, first, rows, both, cosine, probability)  # fmt: skip
    return Neighbours(starts, rows, cosine, probability)


@numba.njit(cache=True)
def _degrees(offsets, partners, known):  # type: ignore[no-untyped-def]
    """Return the known partners of each item, and how many pairs have it as the larger row."""
    degrees, smaller = np.zeros(len(known), np.int64), np.zeros(len(known), np.int64)
    for i in range(len(known)):
        for k in range(offsets[i], offsets[i + 1]):
            smaller[partners[k]] += 1
            if known[i] and known[partners[k]]:
                degrees[i] += 1
                degrees[partners[k]] += 1
    return degrees, smaller


@numba.njit(cache=True)
def _mirror(offsets, partners, together, read, lower_offsets, first):  # type: ignore[no-untyped-def]
    """Return the lower triangle's rows from ``first`` on: pairs by their larger row, the smaller ascending.

    ``read`` says how far each row is read; rows are read in the order of their partners.
    """
    last, ends = first + len(lower_offsets) - 1, lower_offsets[:-1].copy()
    lower, lower_together = np.empty(lower_offsets[-1], np.int32), np.empty(lower_offsets[-1], np.int32)
    for i in range(last):
        k = read[i]
        while k < offsets[i + 1] and partners[k] < last:
            at = ends[partners[k] - first]
            lower[at], lower_together[at] = i, together[k]
            ends[partners[k] - first] += 1
            k += 1
        read[i] = k
    return lower, lower_together


@numba.njit(cache=True)
def _fill_strongest(  # type: ignore[no-untyped-def]
    offsets, partners, together, lower_offsets, lower, lower_together, counts, known, shrinkage,
    starts, first, rows, both, cosine, probability
):  # fmt: skip
    """Keep the strongest partners of each item in a heap, the weakest on top; then put them in order.

    An item meets its partners in the order of their rows. Among equals the first stay, so the heap's weakest
    is the last row of those with the least strength.
    """
    strength = np.empty(np.diff(starts).max(), np.float64)
    for i in range(first, first + len(lower_offsets) - 1):
        if not known[i]:
            continue
        begin, end, size = starts[i], starts[i + 1], 0
        heap, row, pair = strength[: end - begin], rows[begin:end], both[begin:end]
        for k in range(lower_offsets[i - first], lower_offsets[i - first + 1]):
            if known[lower[k]]:
                value = _strength(lower_together[k], counts[i], counts[lower[k]], shrinkage)
                size = _push(heap, row, pair, size, value, lower[k], lower_together[k])
        for k in range(offsets[i], offsets[i + 1]):
            if known[partners[k]]:
                value = _strength(together[k], counts[i], counts[partners[k]], shrinkage)
                size = _push(heap, row, pair, size, value, partners[k], together[k])
        for last in range(size - 1, 0, -1):  # the weakest goes to the end, again and again
            value, r, m = heap[last], row[last], pair[last]
            heap[last], row[last], pair[last] = heap[0], row[0], pair[0]
            _sink(heap, row, pair, last, value, r, m)
        for k in range(begin, end):
            m = float(both[k])
            shrink = m / (m + shrinkage)
            cosine[k] = shrink * m / np.sqrt(counts[i] * counts[rows[k]])
            probability[k] = shrink * m / counts[i]


@numba.njit(cache=True)
def _strength(both, count, other, shrinkage):  # type: ignore[no-untyped-def]
    return float(both) * both / (both + shrinkage) / np.sqrt(count * other)


@numba.njit(cache=True)
def _push(heap, rows, both, size, value, row, m):  # type: ignore[no-untyped-def]
    """Add an entry to the ``size`` of the heap, or replace the weakest; return the new size."""
    if size == len(heap):
        if heap[0] < value:
            _sink(heap, rows, both, size, value, row, m)
        return size
    at = size
    while at > 0 and heap[(at - 1) // 2] >= value:  # on a tie the newcomer is the weaker one
        above = (at - 1) // 2
        heap[at], rows[at], both[at] = heap[above], rows[above], both[above]
        at = above
    heap[at], rows[at], both[at] = value, row, m
    return size + 1


@numba.njit(cache=True)
def _sink(heap, rows, both, size, value, row, m):  # type: ignore[no-untyped-def]
    """Put an entry in the place of the top, and weaker entries above it."""
    at, c = 0, 1
    while c < size:
        if c + 1 < size and (heap[c + 1] < heap[c] or (heap[c + 1] == heap[c] and rows[c + 1] > rows[c])):
            c += 1
        if value < heap[c] or (value == heap[c] and row > rows[c]):
            break
        heap[at], rows[at], both[at] = heap[c], rows[c], both[c]
        at, c = c, 2 * c + 1
    heap[at], rows[at], both[at] = value, row, m
