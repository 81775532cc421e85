"""One call: its batches, its deadline and its retries. Shared by both recommenders; nothing is sent here."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Iterable, Iterator

from . import _check
from ._errors import InvalidRequest, TimedOut, Unavailable
from ._limits import MAX_BATCH, MAX_TENSOR_BYTES
from ._values import Query
from ._wire import tensor_bytes

_FIRST_PAUSE_S = 0.02  # doubles with every attempt


class Call:
    """The time and the attempts that one call has left, over all its requests and retries."""

    def __init__(self, timeout_s: float, retries: int, request_id: str, rng: random.Random) -> None:
        self.request_id = _check.request_id(request_id)
        self._timeout_s = _check.seconds("timeout_s", timeout_s)
        self._ends = time.monotonic() + self._timeout_s
        self._retries = retries
        self._rng = rng
        self._pause_s = _FIRST_PAUSE_S
        self._failure: Unavailable | None = None

    def time_left(self) -> float:
        """Seconds, above 0.

        Raises:
            TimedOut: none are left.
            Unavailable: none are left after this failure, which tells more.
        """
        left = self._ends - time.monotonic()
        if left <= 0:
            raise self._failure or TimedOut(f"no answer within {self._timeout_s:.3g} s")
        return left

    def pause_after(self, error: Unavailable) -> float:
        """Seconds to wait before the next attempt.

        Raises:
            Unavailable: `error` again, when no attempt or no time for one is left.
        """
        pause = self._pause_s * self._rng.uniform(0.5, 1.5)  # so that many clients do not return together
        if self._retries == 0 or time.monotonic() + pause >= self._ends:
            raise error
        self._retries -= 1
        self._failure = error
        self._pause_s *= 2
        return pause


def batches(queries: Iterable[Query]) -> Iterator[list[Query]]:
    """Lists of at most MAX_BATCH queries and MAX_TENSOR_BYTES, in order; a larger query goes alone.

    Raises:
        InvalidRequest: one of them is no `Query`.
    """
    listed = list(queries)
    for place, query in enumerate(listed):
        if not isinstance(query, Query):
            raise InvalidRequest(f"queries[{place}] is a {type(query).__name__}; write Query(basket=…)")
    starts = range(0, len(listed), MAX_BATCH)
    return (batch for start in starts for batch in _fitting(listed[start : start + MAX_BATCH]))


def _fitting(queries: list[Query]) -> Iterator[list[Query]]:
    if len(queries) == 1 or tensor_bytes(queries) <= MAX_TENSOR_BYTES:
        yield queries
    else:
        half = len(queries) // 2
        yield from _fitting(queries[:half])
        yield from _fitting(queries[half:])


def canary() -> Query:
    """A question never asked before: the response cache answers old ones even when the model is dead."""
    return Query(basket=[f"canary-{uuid.uuid4().hex}"], k=1)
