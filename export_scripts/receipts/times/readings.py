"""Chooses between the ways in which one column of times can be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from export_scripts.receipts.times.calendar import DAY_S, Bools, Floats, Ints

# Days read as years spread receipts over decades. Receipts of the same day in several years are no shop.
WIDER = 10
SEVERAL_YEARS = 3  # a stall may sell on the same day of two years
LEAST_SHARE = 0.5  # of the rows


@dataclass(frozen=True)
class Reading:
    """One way to read the distinct values of a column."""

    name: str  # as [data] timestamp_format names it
    times: Floats  # (values,) seconds since 1970, NaN where unreadable
    fits: Bools  # (values,) whether the time is plausible
    short_years: bool = False  # two digits, so that every day also looks like a year
    counts_since: bool = False  # a number of units since an epoch: any number is some time
    only_named: bool = False  # makes a weak reading ambiguous, and is not chosen by itself
    called: str = ""  # in a message; the name in quotes by default

    def __str__(self) -> str:
        return self.called or f'"{self.name}"'

    def share(self, counts: Ints) -> float:
        """Return the share of the rows that fit; `counts` (values,) says how many rows each value has."""
        return float(counts[self.fits].sum() / max(counts.sum(), 1))

    def years(self) -> Ints:
        return np.nan_to_num(self.times).astype("datetime64[s]").astype("datetime64[Y]").astype(np.int64)

    def span_s(self) -> float:
        """Return the seconds from the first to the last time, at least a day."""
        return max(float(np.ptp(self.times[self.fits])), float(DAY_S))


def choose(readings: Sequence[Reading], counts: Ints) -> list[Reading]:
    """Choose the reading that fits all rows, or else the one that fits most of them.

    Returns several if they are equally good, and none if nothing fits half of the rows. A number since an
    epoch is not chosen alone if half of the rows are also written like a date, or count from another epoch.
    """
    shares = {id(reading): reading.share(counts) for reading in readings}
    usual = [reading for reading in readings if not reading.only_named]
    best = max((shares[id(reading)] for reading in usual), default=0.0)
    if best < LEAST_SHARE:
        return []
    chosen = _distinct([reading for reading in usual if shares[id(reading)] == best])
    if all(reading.counts_since for reading in chosen):
        others = [r for r in readings if r.only_named or not r.counts_since]
        chosen += [reading for reading in others if shares[id(reading)] >= LEAST_SHARE]
    elif all(reading.counts_since or reading.short_years for reading in chosen):
        rivals = [r for r in readings if r.only_named and not r.counts_since]
        chosen += [reading for reading in rivals if shares[id(reading)] >= best]
    chosen = _distinct(chosen)
    clear = [reading for reading in chosen if not _takes_days_for_years(reading, chosen)]
    return clear if any(not reading.only_named for reading in clear) else []


def _takes_days_for_years(reading: Reading, readings: Sequence[Reading]) -> bool:
    if not reading.short_years or len(np.unique(reading.years()[reading.fits])) < SEVERAL_YEARS:
        return False
    return any(
        not other.counts_since
        and reading.span_s() >= WIDER * other.span_s()
        and not np.array_equal(reading.years(), other.years())
        for other in readings
    )


def _distinct(readings: list[Reading]) -> list[Reading]:
    """Leave out readings that give the same times as an earlier one."""
    kept: list[Reading] = []
    for reading in readings:
        if not any(np.array_equal(reading.times, other.times, equal_nan=True) for other in kept):
            kept.append(reading)
    return kept
