"""Answers that a caller may fetch again with the same Idempotency-Key: a secret is told in one of them only.

They are kept in memory, never in a file, because they hold secrets.
"""

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from operations.supervisor.operation_log import Asked, KeyReused

KEPT: Final = 100
KEPT_S: Final = 600.0

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class _Remembered(Generic[Answer]):
    fingerprint: str
    until_s: float
    answer: Answer


class RememberedAnswers(Generic[Answer]):
    """The last KEPT answers to requests with an Idempotency-Key, each for KEPT_S seconds of ``now``."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._answers: OrderedDict[str, _Remembered[Answer]] = OrderedDict()

    def answer(self, asked: Asked, work: Callable[[], Answer]) -> Answer:
        """Return what ``work`` returns, or its earlier answer to the same request.

        One request at a time, so that a repeated one waits for the first. What ``work`` raises is not kept.
        Raises KeyReused for another request with the same key.
        """
        if not asked.key:
            return work()
        place = hashlib.sha256(repr((asked.caller, asked.key)).encode()).hexdigest()
        with self._lock:
            self._forget()
            known = self._answers.get(place)
            if known is None:
                known = _Remembered(asked.fingerprint(), self._now() + KEPT_S, work())
                self._answers[place] = known
        if known.fingerprint != asked.fingerprint():
            raise KeyReused(
                f'the Idempotency-Key "{asked.key}" came before with another request; '
                "use a new key for a new request"
            )
        return known.answer

    def _forget(self) -> None:
        while self._answers:
            oldest = next(iter(self._answers.values()))
            if len(self._answers) < KEPT and oldest.until_s > self._now():
                return
            self._answers.popitem(last=False)
