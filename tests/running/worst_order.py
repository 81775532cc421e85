"""The order of a list for which Lua's quicksort takes the square of its length."""

from __future__ import annotations

from collections.abc import Callable


def worst_order(count: int) -> list[int]:
    """Return 0 to count - 1, as an adversary orders them who answers the quicksort's own comparisons.

    M. D. McIlroy, "A Killer Adversary for Quicksort", 1999.
    """
    values: list[int | None] = [None] * count  # None: not decided, and larger than all that is
    decided, candidate = 0, 0

    def is_less(one: int, other: int) -> bool:
        nonlocal decided, candidate
        if values[one] is None and values[other] is None:
            values[one if one == candidate else other] = decided
            decided += 1
        if values[one] is None:
            candidate = one
        elif values[other] is None:
            candidate = other
        left, right = values[one], values[other]
        return left is not None and (right is None or left < right)

    _sort(list(range(count)), is_less)
    order = list[int]()
    for value in values:
        order.append(decided if value is None else value)
        decided += value is None
    return order


def _sort(items: list[int], is_less: Callable[[int, int], bool]) -> None:
    """Choose pivots as table.sort of Lua 5.1 does: the median of the first, the middle and the last."""
    waiting = [(0, len(items) - 1)]
    while waiting:
        first, last = waiting.pop()
        if last - first < 1:
            continue
        middle = (first + 1 + last + 1) // 2 - 1  # Lua counts from 1
        _exchange(items, last, first, is_less)
        if is_less(items[middle], items[first]):
            items[middle], items[first] = items[first], items[middle]
        else:
            _exchange(items, last, middle, is_less)
        if last - first < 3:
            continue
        pivot = items[middle]
        items[middle], items[last - 1] = items[last - 1], items[middle]
        left, right = first, last - 1
        while True:
            left += 1
            while is_less(items[left], pivot):
                left += 1
            right -= 1
            while is_less(pivot, items[right]):
                right -= 1
            if right < left:
                break
            items[left], items[right] = items[right], items[left]
        items[last - 1], items[left] = items[left], items[last - 1]
        waiting += [(first, left - 1), (left + 1, last)]


def _exchange(items: list[int], one: int, other: int, is_less: Callable[[int, int], bool]) -> None:
    if is_less(items[one], items[other]):
        items[one], items[other] = items[other], items[one]
