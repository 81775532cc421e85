"""Selection: the n-th largest value. Compiled into its callers, whose caches do not notice a change here."""

import numba
import numpy as np


@numba.njit(nogil=True)
def largest(values, rank):  # type: ignore[no-untyped-def]
    """The value of 1-based `rank` from the top; `values` are of single precision, none of them NaN.

    By bisection over all numbers of single precision: the last that `rank` values reach. Counting who reaches
    a number takes no branch, where quickselect's are guessed wrong half of the time.
    """
    keys = values.view(np.int32).copy()
    for i in range(keys.shape[0]):
        keys[i] ^= (keys[i] >> 31) & 0x7FFFFFFF  # in the order of the numbers
    reached, missed = np.int64(-(2**31)), np.int64(2**31)
    while missed - reached > 1:
        middle = np.int32((reached + missed) >> 1)
        by = np.int32(0)
        for key in keys:
            by += np.int32(key >= middle)
        if by >= rank:
            reached = np.int64(middle)
        else:
            missed = np.int64(middle)
    for i in range(keys.shape[0]):
        if keys[i] == reached:
            return values[i]
    return values[0]  # unreached: some value is the last one
