"""In how many baskets two items lie together: counts over parts of the baskets, which add up.

Counts are integers. So the sum over any parts, in any order, equals the count over all baskets.
"""

from collections.abc import Iterator
from functools import reduce
from typing import Final, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

AT_ONCE: Final = 2**22  # pairs; 16 or 32 MiB
PASSES: Final = 16  # over the baskets of a large shop, so that what one pass gathers stays small


class Lines(NamedTuple):
    """The distinct items of each basket, ascending, and what to count of them."""

    offsets: NDArray[np.int64]  # (baskets + 1,) into items
    items: NDArray[np.int32]
    n: int  # item rows, including the unknown item in row 0
    largest: int  # baskets of more items are left out: the number of their pairs grows with the square

    def before(self, end: int) -> "Lines":
        """Only the baskets with a number below ``end``."""
        return self._replace(offsets=self.offsets[: end + 1])


class PairCounts(NamedTuple):
    """Baskets with both items, for each pair of items that any basket holds: the upper triangle by item.

    8 bytes a pair. int32 counts up to 2.1 billion baskets; offsets are int64, since pairs may be more.
    """

    offsets: NDArray[np.int64]  # (items + 1,) into partners
    partners: NDArray[np.int32]  # (pairs,) the larger row of the pair; ascending for each item
    together: NDArray[np.int32]  # (pairs,) baskets with both
    alone: NDArray[np.int64]  # (items,) baskets with the item, with partners or without

    @property
    def size(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self)


def count_pairs(lines: Lines) -> PairCounts:
    """Count the pairs of all baskets in ``lines``.

    Besides the result it takes a sixteenth of 4 bytes for each pair of each basket.
    """
    alone, following = _count_following(lines.offsets, lines.items, lines.n, lines.largest)
    most = np.minimum(following, np.arange(lines.n)[::-1]).sum()
    offsets = np.zeros(lines.n + 1, np.int64)
    # Memory that is never written to is never taken from the machine, so a bound that is too high costs none.
    partners, together = np.empty(most, np.int32), np.empty(most, np.int32)
    for first, last in blocks(following, max(AT_ONCE, int(following.sum()) // PASSES)):
        starts = offsets_of(following[first:last])
        others = _gather(lines.offsets, lines.items, lines.largest, starts, first, last)
        _count_rows(others, starts, first, offsets, partners, together)
    return _trimmed(offsets, partners, together, alone)


def add_pairs(parts: list[PairCounts]) -> PairCounts:
    """Return the sum of counts over different baskets. Small parts are added first."""
    return reduce(_add, sorted(parts, key=lambda part: len(part.partners)))


def _add(a: PairCounts, b: PairCounts) -> PairCounts:
    offsets, most = np.zeros_like(a.offsets), len(a.partners) + len(b.partners)
    partners, together = np.empty(most, np.int32), np.empty(most, np.int32)
    _merge(a.offsets, a.partners, a.together, b.offsets, b.partners, b.together, offsets, partners, together)
    return _trimmed(offsets, partners, together, a.alone + b.alone)


def _trimmed(
    offsets: NDArray[np.int64],
    partners: NDArray[np.int32],
    together: NDArray[np.int32],
    alone: NDArray[np.int64],
) -> PairCounts:
    """Give back the memory behind the last pair."""
    for array in (partners, together):
        array.resize(offsets[-1], refcheck=False)
    return PairCounts(offsets, partners, together, alone)


def move_rows(pairs: PairCounts, rows: NDArray[np.int64], n: int) -> PairCounts:
    """Return the counts with each row r replaced by ``rows[r]`` of ``n``; the order stays the same."""
    sizes, alone = np.zeros(n, np.int64), np.zeros(n, np.int64)
    sizes[rows], alone[rows] = np.diff(pairs.offsets), pairs.alone
    return PairCounts(offsets_of(sizes), rows.astype(np.int32)[pairs.partners], pairs.together, alone)


def incidences(pairs: PairCounts) -> NDArray[np.int64]:
    """(items,) the sum over all partners of the baskets with both: the other items of the item's baskets."""
    sums: NDArray[np.int64] = _row_sums(pairs.offsets, pairs.partners, pairs.together)
    return sums


def expected_incidences(lines: Lines) -> NDArray[np.int64]:
    """The same from the baskets, without counting any pair: a basket of s items gives each of them s - 1."""
    sums: NDArray[np.int64] = _sum_others(lines.offsets, lines.items, lines.n, lines.largest)
    return sums


def blocks(sizes: NDArray[np.int64], most: int = AT_ONCE) -> Iterator[tuple[int, int]]:
    """Yield the bounds of runs of items whose sizes add up to at most ``most``, or of a single larger one."""
    ends, first = np.cumsum(sizes), 0
    while first < len(sizes):
        limit = (ends[first - 1] if first else 0) + most
        last = max(int(np.searchsorted(ends, limit, "right")), first + 1)
        yield first, last
        first = last


def offsets_of(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) sizes → (n + 1,) where each of n runs begins, and the end."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])


@numba.njit(cache=True)
def _count_following(offsets, items, n, largest):  # type: ignore[no-untyped-def]  # numba infers the types
    """Return the baskets of each item, and how many items follow it in all of them."""
    baskets, following = np.zeros(n, np.int64), np.zeros(n, np.int64)
    for b in range(len(offsets) - 1):
        if offsets[b + 1] - offsets[b] <= largest:
            for k in range(offsets[b], offsets[b + 1]):
                baskets[items[k]] += 1
                following[items[k]] += offsets[b + 1] - 1 - k
    return baskets, following


@numba.njit(cache=True)
def _gather(offsets, items, largest, starts, first, last):  # type: ignore[no-untyped-def]
    """Return what follows the items first … last - 1 in their baskets, item by item.

    Writing the pairs down before they are counted takes half the time of a walk from item to basket: the
    processor need not wait for memory.
    """
    others, ends = np.empty(starts[-1], np.int32), starts[:-1].copy()
    for b in range(len(offsets) - 1):
        if offsets[b + 1] - offsets[b] <= largest:
            for k in range(offsets[b], offsets[b + 1]):
                if first <= items[k] < last:
                    at = ends[items[k] - first]
                    for other in range(k + 1, offsets[b + 1]):
                        others[at] = items[other]
                        at += 1
                    ends[items[k] - first] = at
    return others


@numba.njit(cache=True)
def _count_rows(others, starts, first, offsets, partners, together):  # type: ignore[no-untyped-def]
    """Count each item's others and put them behind the pairs of the items before ``first``."""
    sums, at = np.zeros(len(offsets) - 1, np.int32), offsets[first]
    for i in range(len(starts) - 1):
        begin = at
        for k in range(starts[i], starts[i + 1]):
            if sums[others[k]] == 0:
                partners[at] = others[k]
                at += 1
            sums[others[k]] += 1
        partners[begin:at].sort()
        for k in range(begin, at):
            together[k], sums[partners[k]] = sums[partners[k]], 0
        offsets[first + i + 1] = at


@numba.njit(cache=True)
def _merge(  # type: ignore[no-untyped-def]
    offsets_a, partners_a, together_a, offsets_b, partners_b, together_b, offsets, partners, together
):
    at = 0
    for i in range(len(offsets) - 1):
        a, b, last_a, last_b = offsets_a[i], offsets_b[i], offsets_a[i + 1], offsets_b[i + 1]
        while a < last_a or b < last_b:
            from_a = b == last_b or (a < last_a and partners_a[a] <= partners_b[b])
            from_b = a == last_a or (b < last_b and partners_b[b] <= partners_a[a])
            partners[at] = partners_a[a] if from_a else partners_b[b]
            total = 0
            if from_a:
                total += together_a[a]
                a += 1
            if from_b:
                total += together_b[b]
                b += 1
            together[at] = total
            at += 1
        offsets[i + 1] = at


@numba.njit(cache=True)
def _row_sums(offsets, partners, together):  # type: ignore[no-untyped-def]
    sums = np.zeros(len(offsets) - 1, np.int64)
    for i in range(len(sums)):
        for k in range(offsets[i], offsets[i + 1]):
            sums[i] += together[k]
            sums[partners[k]] += together[k]
    return sums


@numba.njit(cache=True)
def _sum_others(offsets, items, n, largest):  # type: ignore[no-untyped-def]
    sums = np.zeros(n, np.int64)
    for b in range(len(offsets) - 1):
        size = offsets[b + 1] - offsets[b]
        if size <= largest:
            for k in range(offsets[b], offsets[b + 1]):
                sums[items[k]] += size - 1
    return sums
