"""Questions at a steady rate, and which of them failed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

PER_S: Final = 20
AT_ONCE: Final = 40


class Load:
    """Asks ``ask`` as a context manager's block runs, from threads, so that slow answers delay no others."""

    def __init__(self, ask: Callable[[Sequence[str]], bool]) -> None:
        self._ask = ask
        self._over = threading.Event()
        self._answered = threading.Semaphore(0)
        self.outcomes: list[tuple[float, bool]] = []  # asked at, answered; seconds
        self._asking = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Load:
        self._asking.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._asking.join()

    def __str__(self) -> str:
        return (
            f"{len(self._failures())} of {len(self.outcomes)} questions failed, {PER_S} per second, "
            f"over {self.failed_for_s():.1f} s"
        )

    def await_answers(self, count: int) -> None:
        """Wait for so many more answers that did not fail."""
        for _ in range(count):
            assert self._answered.acquire(timeout=60), "no answer within 60 s"

    def failed_for_s(self) -> float:
        """Return the time from the first failed question to the last."""
        failures = self._failures()
        return failures[-1] - failures[0] if failures else 0.0

    def last_failure_s(self) -> float:
        """Return when the last failed question was asked, by the monotonic clock; 0 if none failed."""
        return max(self._failures(), default=0.0)

    def _failures(self) -> list[float]:
        return sorted(asked for asked, answered in self.outcomes if not answered)

    def _run(self) -> None:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for number in range(1_000_000):
                if self._over.wait(1 / PER_S):
                    return
                pool.submit(self._ask_once, number)

    def _ask_once(self, number: int) -> None:
        asked = time.monotonic()
        answered = self._ask([f"no such item {number}"])  # new to the response cache
        self.outcomes.append((asked, answered))
        if answered:
            self._answered.release()
