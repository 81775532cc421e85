"""The nearest by inner product among few vectors: all of them are compared, in one compiled pass.

Vectors are kept as bytes, each with a scale of its own, and by component, so that the loop over neighbouring
vectors runs in the processor's widest registers. Bytes matter more than arithmetic: 28,000 vectors of 64 are
1.8 MB instead of 7.2, which are not fetched from beyond the caches for every query, and do not drive out of
them what the rest of a request needs. Queries stay single precision.
"""

import numba
import numpy as np
from numpy.typing import NDArray

from .largest import largest

Float = NDArray[np.float32]

STEP = 4  # components at a time; what is missing to a multiple is filled up with zeros
CHUNK = 2048  # vectors at a time: their scores stay in the first-level cache
BLOCKS = 4  # for each place of an answer; most are passed over, by the largest score of each


class Scan:
    """Compares a query with each of ``vectors`` (n, d). Not thread-safe: the scores belong to the call."""

    def __init__(self, vectors: Float):
        self._vectors, self._components = vectors.shape
        # What all have in common changes no order, and would leave the differences few of the 255 steps.
        middle = vectors.mean(0) if len(vectors) else np.zeros(self._components, np.float32)
        codes, self._scales = coded(vectors - middle)
        self._codes = np.zeros((-(-self._components // STEP) * STEP, self._vectors), np.int8)
        self._codes[: self._components] = codes.T
        self._scores = np.empty(self._vectors, np.float32)

    def search(self, queries: Float, wanted: int) -> tuple[Float, NDArray[np.int64]]:
        """(batch, d) → (batch, wanted) scores and places of the nearest, lower places first; -1: no more.

        Scores lack what is the same for all vectors: the query's product with their mean.
        """
        scores = np.full((len(queries), wanted), -np.inf, np.float32)
        places = np.full((len(queries), wanted), -1, np.int64)
        if self._vectors:
            filled = np.zeros((len(queries), len(self._codes)), np.float32)
            filled[:, : self._components] = queries
            _search(filled, self._codes, self._scales, self._scores, scores, places)
        return scores, places


def coded(vectors: Float) -> tuple[NDArray[np.int8], Float]:
    """(n, d) → bytes (n, d) and scales (n,); their products are off by 1/254 of a vector's largest part."""
    scales = np.abs(vectors).max(1, initial=0).astype(np.float32) / np.float32(127)
    codes = np.round(vectors / np.where(scales > 0, scales, 1)[:, None])
    return codes.astype(np.int8), scales


@numba.njit(nogil=True, fastmath={"reassoc", "contract"})
def _compare(query, codes, scales, scores):  # type: ignore[no-untyped-def]
    """Fill `scores` (n,) with the inner products of `query` (d,) with `codes` (d, n)."""
    n = codes.shape[1]
    for start in range(0, n, CHUNK):
        part = slice(start, min(start + CHUNK, n))
        some, scale = scores[part], scales[part]
        some[:] = np.float32(0.0)
        for k in range(0, codes.shape[0], STEP):
            a, b, c, d = query[k], query[k + 1], query[k + 2], query[k + 3]
            w, x, y, z = codes[k, part], codes[k + 1, part], codes[k + 2, part], codes[k + 3, part]
            for i in range(some.shape[0]):
                ab = a * np.float32(w[i]) + b * np.float32(x[i])
                some[i] += ab + (c * np.float32(y[i]) + d * np.float32(z[i]))
        for i in range(some.shape[0]):
            some[i] *= scale[i]


@numba.njit(nogil=True, fastmath={"nnan", "nsz"})
def _tops(scores, size, tops):  # type: ignore[no-untyped-def]
    """The largest score of each block of `size`."""
    for block in range(tops.shape[0]):
        top = np.float32(-np.inf)
        for score in scores[block * size : (block + 1) * size]:
            top = max(top, score)
        tops[block] = top


@numba.njit(nogil=True)
def _keep(scores, size, tops, found, best, places):  # type: ignore[no-untyped-def]
    """Fill `best` and `places` with the largest scores, of equal ones those that come first.

    The wanted-th largest of the tops is reached by as many scores, so that no lower one is an answer.
    """
    wanted = min(places.shape[0], scores.shape[0])
    bound = largest(tops.copy(), wanted) if tops.shape[0] >= wanted else np.float32(-np.inf)
    n = 0
    for block in range(tops.shape[0]):
        if tops[block] >= bound:
            for place in range(block * size, min((block + 1) * size, scores.shape[0])):
                found[n] = place
                n += scores[place] >= bound
    least = largest(scores[found[:n]], wanted)
    kept = 0
    for ties in (False, True):  # last, so that ties cannot push out a better one
        for place in found[:n]:
            if kept < wanted and (scores[place] == least if ties else scores[place] > least):
                best[kept], places[kept] = scores[place], place
                kept += 1


@numba.njit(cache=True, nogil=True)
def _search(queries, codes, scales, scores, best, places) -> None:  # type: ignore[no-untyped-def]
    size = max(codes.shape[1] // (BLOCKS * places.shape[1]), 1)
    tops = np.empty(-(-codes.shape[1] // size), np.float32)
    found = np.empty(codes.shape[1] + 1, np.int64)  # one more: written to before it is known to count
    for i in range(queries.shape[0]):
        _compare(queries[i], codes, scales, scores)
        _tops(scores, size, tops)
        _keep(scores, size, tops, found, best[i], places[i])
