"""Selection: the n-th largest value. Compiled into its callers, whose caches do not notice a change here."""

import numba


@numba.njit(nogil=True)
def largest(values, rank):  # type: ignore[no-untyped-def]
    """The value of 1-based `rank` from the top, by Hoare's quickselect; reorders `values`.

    np.partition would do, but takes longer to compile than all the rest.
    """
    low, high = 0, values.shape[0] - 1
    while low < high:
        pivot = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] > pivot:
                i += 1
            while values[j] < pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i, j = i + 1, j - 1
        if rank - 1 <= j:
            high = j
        elif rank - 1 >= i:
            low = i
        else:
            break
    return values[rank - 1]
