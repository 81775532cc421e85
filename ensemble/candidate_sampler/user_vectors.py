"""The users' vectors by bytes: a quarter of the size, and a row is still in one place of its file.

A row is the vector in steps of -127 … 127, and then the four bytes of the step's size (float32). The largest
component of each vector is exact. docs/decisions/0088-users-by-the-million.md has what the steps cost.
"""

from typing import Final

import numba
import numpy as np
from numpy.typing import NDArray

STEPS: Final = np.float32(127)
STEP_BYTES: Final = 4
CHUNK: Final = 100_000  # vectors at a time, to need little memory beside them

Bytes = NDArray[np.int8]
Float = NDArray[np.float32]


def by_bytes(vectors: Float | Bytes) -> Bytes:
    """(users, d) vectors → (users, d + 4) bytes; what has that form already stays as it is."""
    if vectors.dtype == np.int8:
        return vectors  # type: ignore[return-value]
    n, d = vectors.shape
    rows = np.empty((n, d + STEP_BYTES), np.int8)
    for start in range(0, n, CHUNK):
        part = vectors[start : start + CHUNK]
        step = np.abs(part).max(1, initial=np.finfo(np.float32).tiny, keepdims=True) / STEPS
        rows[start : start + CHUNK, :d] = np.rint(part / step)
        rows[start : start + CHUNK, d:] = step.astype(np.float32).view(np.int8)
    return rows


def user_vectors(table: Float | Bytes, users: NDArray[np.int32]) -> Float:
    """(batch,) user rows → (batch, d) their vectors."""
    if table.dtype == np.float32:
        return table[users]  # type: ignore[return-value]
    vectors = np.empty((len(users), table.shape[1] - STEP_BYTES), np.float32)
    _read(table, users, vectors)
    return vectors


@numba.njit(cache=True, nogil=True)
def _read(table, users, vectors):  # type: ignore[no-untyped-def]
    """Fill `vectors` (batch, d) from the rows `users` of `table`."""
    d = vectors.shape[1]
    for i in range(users.shape[0]):
        row = table[users[i]]
        step = row[d:].view(np.float32)[0]
        for k in range(d):
            vectors[i, k] = np.float32(row[k]) * step
