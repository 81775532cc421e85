"""Counts and histories by partition: functions that a worker runs on its part, and what joins the parts.

Baskets are cut into ranges, users by their rows. The results are integers, so any number of parts gives the
same bytes.
"""

from itertools import pairwise
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from ensemble.candidate_sampler.arrays import Histories
from export_scripts.engines.interface import Engine
from export_scripts.snapshots.pairs import Lines, PairCounts, add_pairs, count_pairs, offsets_of


class Baskets(NamedTuple):
    """A range of baskets: start … end - 1."""

    start: int
    end: int


def cut_baskets(offsets: NDArray[np.int64], baskets: Baskets, n: int) -> list[Baskets]:
    """Cut a range into up to ``n`` with about equally many lines; every range holds a basket."""
    lines = np.linspace(offsets[baskets.start], offsets[baskets.end], n + 1)[1:-1]
    inner = np.searchsorted(offsets[: baskets.end], lines)
    bounds = sorted({baskets.start, *inner.tolist(), baskets.end})
    return [Baskets(start, end) for start, end in pairwise(bounds)] or [baskets]


class Countable(NamedTuple):
    """What the workers share that count pairs: of items, or of the items' categories if these are given."""

    lines: Lines
    category: NDArray[np.int32] | None = None  # (items,) numbers below n_categories, 0 is none
    n_categories: int = 0

    def only(self, baskets: Baskets) -> Lines:
        """The lines of these baskets. A basket holds each of its categories once."""
        lines = self.lines._replace(offsets=self.lines.offsets[baskets.start : baskets.end + 1])
        if self.category is None:
            return lines
        offsets, categories = _distinct_categories(
            lines.offsets, lines.items, self.category, self.n_categories, lines.largest
        )
        return Lines(offsets, categories, self.n_categories, lines.largest)


def count_part(countable: Countable, baskets: Baskets) -> PairCounts:
    """Count the pairs of a range of baskets."""
    return count_pairs(countable.only(baskets))


def count_in_parts(countable: Countable, baskets: Baskets, engine: Engine) -> PairCounts:
    """Count the pairs of a range of baskets, in a part for each worker."""
    parts = cut_baskets(countable.lines.offsets, baskets, engine.workers)
    return add_pairs(list(engine.map(count_part, parts, countable)))


class Users(NamedTuple):
    """Every n-th user: those whose row leaves the remainder k."""

    k: int
    n: int


class Receipts(NamedTuple):
    """What the workers share that make histories."""

    offsets: NDArray[np.int64]  # (baskets + 1,) into items
    items: NDArray[np.int32]
    users: NDArray[np.int32]  # (baskets,)
    times: NDArray[np.int64]  # (baskets,) ascending
    n_users: int
    most: int  # baskets of a user; the latest are kept


def make_histories(receipts: Receipts, users: Users) -> Histories:
    """Return the last baskets of each of the ``users``, oldest first; unknown users have none."""
    baskets = np.flatnonzero((receipts.users % users.n == users.k) & (receipts.users > 0))
    row = receipts.users[baskets] // users.n
    order = np.argsort(row, kind="stable")  # by user, then by time
    sizes = np.bincount(row, minlength=len(range(users.k, receipts.n_users, users.n)))
    from_end = np.repeat(np.cumsum(sizes), sizes) - np.arange(len(order))
    order = baskets[order[from_end <= receipts.most]]
    basket_offsets, items = _join_baskets(order, receipts.offsets, receipts.items)
    return Histories(
        offsets_of(np.minimum(sizes, receipts.most)), receipts.times[order], basket_offsets, items
    )


def merge_histories(parts: list[Histories]) -> Histories:
    """Return the histories of all users from those of Users(0, n) … Users(n - 1, n)."""
    n, n_users = len(parts), sum(len(part.user_offsets) - 1 for part in parts)
    if n == 1:
        return parts[0]
    sizes = np.zeros(n_users, np.int64)
    for k, part in enumerate(parts):
        sizes[k::n] = np.diff(part.user_offsets)
    user_offsets = offsets_of(sizes)
    # The place of each basket in the parts, end to end, for each place in the result.
    first = np.concatenate([[0], np.cumsum([len(part.times) for part in parts])])
    starts = np.zeros(n_users, np.int64)
    for k, part in enumerate(parts):
        starts[k::n] = part.user_offsets[:-1] + first[k]
    order = np.repeat(starts - user_offsets[:-1], sizes) + np.arange(user_offsets[-1])
    ends = np.cumsum([0, *(len(part.items) for part in parts)])
    offsets = np.concatenate(
        [part.basket_offsets[:-1] + end for part, end in zip(parts, ends, strict=False)] + [ends[-1:]]
    )
    basket_offsets, items = _join_baskets(order, offsets, np.concatenate([part.items for part in parts]))
    return Histories(
        user_offsets, np.concatenate([part.times for part in parts])[order], basket_offsets, items
    )


def histories_in_parts(receipts: Receipts, engine: Engine) -> Histories:
    """Return the histories of all users, made in a part for each worker."""
    parts = [Users(k, engine.workers) for k in range(engine.workers)]
    return merge_histories(list(engine.map(make_histories, parts, receipts)))


@numba.njit(cache=True)
def _distinct_categories(offsets, items, category, n, largest):  # type: ignore[no-untyped-def]
    """Return the categories of each basket, ascending and once each; a larger basket has none."""
    categories, ends, at = np.empty(offsets[-1] - offsets[0], np.int32), np.zeros(len(offsets), np.int64), 0
    seen = np.full(n, -1)  # the last basket with each category
    for b in range(len(offsets) - 1):
        first = at
        if offsets[b + 1] - offsets[b] <= largest:
            for k in range(offsets[b], offsets[b + 1]):
                if category[items[k]] > 0 and seen[category[items[k]]] != b:
                    seen[category[items[k]]] = b
                    categories[at] = category[items[k]]
                    at += 1
            if at - first <= 32:  # most baskets; for so few, insertion is faster than a general sort
                for k in range(first + 1, at):
                    value, place = categories[k], k
                    while place > first and categories[place - 1] > value:
                        categories[place] = categories[place - 1]
                        place -= 1
                    categories[place] = value
            else:
                categories[first:at].sort()
        ends[b + 1] = at
    return ends, categories[:at]


@numba.njit(cache=True)
def _join_baskets(order, offsets, items):  # type: ignore[no-untyped-def]  # numba infers the types
    """Return the baskets ``order`` end to end: their offsets and their items."""
    ends = np.zeros(len(order) + 1, np.int64)
    for k in range(len(order)):
        ends[k + 1] = ends[k] + offsets[order[k] + 1] - offsets[order[k]]
    joined = np.empty(ends[-1], np.int32)
    for k in range(len(order)):
        joined[ends[k] : ends[k + 1]] = items[offsets[order[k]] : offsets[order[k] + 1]]
    return ends, joined
