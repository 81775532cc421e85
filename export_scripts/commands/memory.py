"""Whether freed memory returns to the system: not while a model is trained, at once while etl runs."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # values of malloc.h
LARGEST = 2**31 - 1


def keep_freed_memory() -> None:
    """Let glibc reuse large blocks instead of unmapping them.

    A training step frees and allocates tensors of 30 MB; mapping their pages again took a third of the time.
    Does nothing if the C library has no ``mallopt``.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(M_MMAP_THRESHOLD, LARGEST)
    mallopt(M_TRIM_THRESHOLD, LARGEST)


def return_freed_memory() -> None:
    """Let Arrow allocate from the C library, which returns large blocks; its own pool keeps them."""
    import pyarrow as pa  # not above: training does without

    pa.set_memory_pool(pa.system_memory_pool())
