"""The counts of the last week in slots of five minutes, and their sums over an hour, a day and the week."""

from datetime import datetime, tzinfo
from typing import Final

import numpy as np
from numpy.typing import NDArray

from operations.drift.counters import Counts, Key, profile_of, questions
from operations.drift.features import HOUR, WEEK, WINDOWS_S, Profile

SLOT_S: Final = 300
SLOTS: Final = WINDOWS_S[WEEK] // SLOT_S
COMPLETE: Final = 0.95  # of a day or a week; the share that the counts must reach back
SERIES: Final = 256  # at most; the sampler has about 100


class Windows:
    """What one release was asked; 4 MiB. Without a ``zone``, nobody knows the hours of the shop's clock."""

    def __init__(self, zone: tzinfo | None) -> None:
        self._zone = zone
        self._columns: dict[Key, int] = {}
        self._counts: NDArray[np.float64] = np.zeros((SLOTS, SERIES))
        self._numbers: NDArray[np.int64] = np.full(SLOTS, -1, np.int64)  # of the slots in the rows
        self._began_s: float | None = None

    def add(self, now_s: float, counts: Counts) -> None:
        """Add counts that came up to this moment, in Unix time."""
        self._began_s = now_s if self._began_s is None else self._began_s
        row = self._row(int(now_s // SLOT_S))
        for key, count in counts.items():
            column = self._columns.setdefault(key, len(self._columns))
            if column < SERIES:
                self._counts[row, column] += count

    def seconds(self, now_s: float, window: str) -> float:
        """How much of a window the counts reach back."""
        return min(now_s - self._began_s, WINDOWS_S[window]) if self._began_s is not None else 0.0

    def is_complete(self, now_s: float, window: str) -> bool:
        """Do the counts reach back far enough? An hour may be shorter: its interval is wider then."""
        return window == HOUR or self.seconds(now_s, window) >= COMPLETE * WINDOWS_S[window]

    def profile(self, now_s: float, window: str) -> tuple[Profile, float]:
        """The features in the latest window, and the number of questions."""
        last = int(now_s // SLOT_S)
        rows = np.flatnonzero((self._numbers > last - WINDOWS_S[window] // SLOT_S) & (self._numbers <= last))
        sums = self._counts[rows].sum(0)
        counts = {key: float(sums[column]) for key, column in self._columns.items() if column < SERIES}
        by_hour, by_weekday = np.zeros(24), np.zeros(7)
        of_queries = [c for key, c in self._columns.items() if key.family == "queries_total" and c < SERIES]
        for row in rows if self._zone else ():
            at = datetime.fromtimestamp(int(self._numbers[row]) * SLOT_S, self._zone)
            asked = max(float(self._counts[row, of_queries].sum()), 0.0)
            by_hour[at.hour] += asked
            by_weekday[at.weekday()] += asked
        return profile_of(counts, by_hour, by_weekday), questions(counts)

    def _row(self, number: int) -> int:
        row = number % SLOTS
        if self._numbers[row] != number:
            self._numbers[row], self._counts[row] = number, 0.0
        return row
