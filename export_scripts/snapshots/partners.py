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
    rows, cosine, probability = (np.empty(starts[-1], kind) for kind in (np.int32, np.float32, np.float32))
    read = pairs.offsets[:-1].copy()
    for first, last in blocks(smaller):
        lower_offsets = offsets_of(smaller[first:last])
        lower, lower_together = _mirror(*pairs[:3], read, lower_offsets, first)
        _fill_strongest(*pairs[:3], lower_offsets, lower, lower_together, sales, known, float(shrinkage),
                        starts, first, rows, cosine, probability)  # fmt: skip
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
    starts, first, rows, cosine, probability
):  # fmt: skip
    """Sort the strongest partners of each item, and only these."""
    most = np.diff(offsets[first : first + len(lower_offsets)]) + np.diff(lower_offsets)
    row, both, strength = np.empty(most.max(), np.int32), np.empty(most.max(), np.int32), np.empty(most.max())
    for i in range(first, first + len(lower_offsets) - 1):
        size, keep = 0, starts[i + 1] - starts[i]
        if keep == 0:
            continue
        for k in range(lower_offsets[i - first], lower_offsets[i - first + 1]):
            size = _add(row, both, strength, size, counts, known, shrinkage, i, lower[k], lower_together[k])
        for k in range(offsets[i], offsets[i + 1]):
            size = _add(row, both, strength, size, counts, known, shrinkage, i, partners[k], together[k])
        if size > keep:
            size = _leave_out(row, both, strength, size, keep)
        order = np.argsort(-strength[:size], kind="mergesort")  # among equals by row
        for place in range(keep):
            k, at = order[place], starts[i] + place
            m = float(both[k])
            shrink = m / (m + shrinkage)
            rows[at] = row[k]
            cosine[at] = shrink * m / np.sqrt(counts[i] * counts[row[k]])
            probability[at] = shrink * m / counts[i]


@numba.njit(cache=True)
def _add(row, both, strength, size, counts, known, shrinkage, i, j, m):  # type: ignore[no-untyped-def]
    """Note a known partner; return how many there are."""
    if not known[j]:
        return size
    row[size], both[size] = j, m
    strength[size] = float(m) * m / (m + shrinkage) / np.sqrt(counts[i] * counts[j])
    return size + 1


@numba.njit(cache=True)
def _leave_out(row, both, strength, size, keep):  # type: ignore[no-untyped-def]
    """Move those to the front that are as strong as number ``keep``, in their order; return how many."""
    least, kept = np.partition(strength[:size], size - keep)[size - keep], 0
    for k in range(size):
        if strength[k] >= least:
            row[kept], both[kept], strength[kept] = row[k], both[k], strength[k]
            kept += 1
    return kept
