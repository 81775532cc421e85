"""The batches, the deadline and the retries of one call, for both recommenders. It sends nothing itself."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping

from . import _check
from ._errors import InvalidRequest, TimedOut, Unavailable
from ._limits import MAX_BATCH, MAX_TENSOR_BYTES
from ._values import Query
from ._wire import tensor_bytes

_FIRST_PAUSE_S = 0.02  # doubles with every attempt


class Call:
    """Counts the remaining time and attempts of one call, over all its requests and retries."""

    def __init__(
        self,
        timeout_s: float,
        retries: int,
        request_id: str,
        rng: random.Random,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.request_id, self.headers = _check.request_id(request_id), headers or {}
        self._timeout_s = _check.seconds("timeout_s", timeout_s)
        self._deadline = time.monotonic() + self._timeout_s
        self._retries = retries
        self._rng = rng
        self._pause_s = _FIRST_PAUSE_S
        self._failure: Unavailable | None = None

    def time_left(self) -> float:
        """The remaining seconds, above 0.

        Raises:
            TimedOut: no time remains.
            Unavailable: no time remains, and the last attempt failed with this error.
        """
        seconds = self._deadline - time.monotonic()
        if seconds <= 0:
            raise self._failure or TimedOut(f"no answer within {self._timeout_s:.3g} s")
        return seconds

    def pause_after(self, error: Unavailable) -> float:
        """The seconds to wait before the next attempt.

        Raises:
            Unavailable: `error` itself, if no attempt or no time for one remains.
        """
        pause = self._pause_s * self._rng.uniform(
            0.5, 1.5
        )  # so that many clients do not retry at the same moment
        if self._retries == 0 or time.monotonic() + pause >= self._deadline:
            raise error
        self._retries -= 1
        self._failure = error
        self._pause_s *= 2
        return pause


def split_into_batches(queries: Iterable[Query]) -> Iterator[list[Query]]:
    """Split queries into lists of at most MAX_BATCH queries and MAX_TENSOR_BYTES, in order.

    A single query above that size gets its own list.

    Raises:
        InvalidRequest: an element is not a `Query`.
    """
    queries_in_order = list(queries)
    for place, query in enumerate(queries_in_order):
        if not isinstance(query, Query):
            raise InvalidRequest(f"queries[{place}] is a {type(query).__name__}; write Query(basket=…)")
    starts = range(0, len(queries_in_order), MAX_BATCH)
    return (
        batch for start in starts for batch in _split_by_size(queries_in_order[start : start + MAX_BATCH])
    )


def _split_by_size(queries: list[Query]) -> Iterator[list[Query]]:
    if len(queries) == 1 or tensor_bytes(queries) <= MAX_TENSOR_BYTES:
        yield queries
    else:
        half = len(queries) // 2
        yield from _split_by_size(queries[:half])
        yield from _split_by_size(queries[half:])


def make_canary() -> Query:
    """A new query: the response cache would answer a repeated one even if the model were dead."""
    return Query(basket=[f"canary-{uuid.uuid4().hex}"], k=1)
