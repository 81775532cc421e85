"""Reads times that are numbers: the digits of a date, or a count of units since an epoch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from export_scripts.receipts.times import calendar
from export_scripts.receipts.times.calendar import Floats, Ints
from export_scripts.receipts.times.readings import Reading, choose

Numbers = NDArray[np.int64] | NDArray[np.float64]

# Directives of strptime with a fixed width → digits.
WIDTHS = {"Y": 4, "y": 2, "m": 2, "d": 2, "j": 3, "H": 2, "M": 2, "S": 2, "f": 3}
DIGITS = (
    *("%Y%m%d" + clock for clock in ("", "%H", "%H%M", "%H%M%S", "%H%M%S%f")),
    *("%d%m%Y" + clock for clock in ("", "%H%M", "%H%M%S")),
    *("%m%d%Y" + clock for clock in ("", "%H%M", "%H%M%S")),
    *("%y%m%d" + clock for clock in ("", "%H%M", "%H%M%S")),
    *("%d%m%y" + clock for clock in ("", "%H%M", "%H%M%S")),
    *("%m%d%y" + clock for clock in ("", "%H%M", "%H%M%S")),
    "%Y%j",
    "%y%j",
)
TOO_SHORT = {"%y%j"}  # any counter of receipts looks like it
RARE_DIGITS = ("%y%m%d%H",)

UNITS_S = {"days": 86_400, "hours": 3600, "minutes": 60}  # unit → seconds
UNITS_PER_S = {
    "seconds": 1,
    "milliseconds": 10**3,
    "microseconds": 10**6,
    "nanoseconds": 10**9,
    "ticks": 10**7,
}
SINCE = re.compile(rf"({'|'.join([*UNITS_S, *UNITS_PER_S])}) since (\d{{4}}-\d\d-\d\d)")


@dataclass(frozen=True)
class Epoch:
    """A count of units since a time; plausible from the year `since` on, until now."""

    unit: str
    start_s: int  # seconds since 1970
    since: int = calendar.EARLIEST_YEAR

    def read(self, numbers: Numbers) -> Floats:
        """Return whole seconds since 1970 (n,); numbers that are not finite become NaN."""
        with np.errstate(invalid="ignore", over="ignore"):
            if self.unit in UNITS_S:  # fractions of a day are rounded in binary
                times = np.rint(numbers * float(UNITS_S[self.unit])) + self.start_s
            else:  # of whole numbers no digit is lost
                times = (numbers // UNITS_PER_S[self.unit] + self.start_s).astype(np.float64)
        return np.where(np.isfinite(times), times, np.nan)


EPOCHS = {
    "unix_s": Epoch("seconds", 0),
    "unix_ms": Epoch("milliseconds", 0),
    "unix_us": Epoch("microseconds", 0),
    "unix_ns": Epoch("nanoseconds", 0, since=1995),  # 1990 looks like .NET's ticks of today
    "days since 1970-01-01": Epoch("days", 0, since=1995),
    "excel": Epoch("days", -25_569 * 86_400),  # 1899-12-30: Excel has a 29 February 1900
    "julian_day": Epoch("days", -210_866_760_000),  # noon, 24 November 4714 BC
    "dotnet_ticks": Epoch("ticks", -62_135_596_800),  # year 1
    "filetime": Epoch("ticks", -11_644_473_600),  # 1601
    "cocoa": Epoch("seconds", 978_307_200, since=2004),  # 2001; smaller numbers look like anything
}
RARE_EPOCHS = {  # tried if nothing else fits: their numbers are those of many dates
    "minutes since 1970-01-01": Epoch("minutes", 0, since=1995),
    "hours since 1970-01-01": Epoch("hours", 0, since=1995),
}
ONLY_NAMED = {
    "excel_1904": Epoch("days", -24_107 * 86_400)
}  # its numbers are those of excel, four years earlier
NAMES = (*EPOCHS, *RARE_EPOCHS, *ONLY_NAMED)


def from_numbers(numbers: Numbers, counts: Ints) -> list[Reading]:
    """Choose the reading of distinct numbers (n,); `counts` (n,) says how many rows each has."""
    usual = choose(_readings(numbers, DIGITS, EPOCHS), counts)
    return usual or choose(_readings(numbers, RARE_DIGITS, RARE_EPOCHS), counts)


def named_epoch(name: str) -> Epoch | None:
    """Return the epoch of "excel" or "days since 1960-01-01", or None. Raises ValueError for no date."""
    if found := SINCE.fullmatch(name):
        return Epoch(found[1], int(pd.Timestamp(found[2]).timestamp()))
    return (EPOCHS | ONLY_NAMED).get(name)


def _readings(numbers: Numbers, digits: Sequence[str], epochs: dict[str, Epoch]) -> list[Reading]:
    """Return the readings that fit at least one number."""
    readings = []
    for written_as in digits:
        times = read_digits(numbers, written_as)
        if times is not None and (fits := ~np.isnan(times)).any():
            short, alone = "%y" in written_as, written_as in TOO_SHORT
            readings.append(Reading(written_as, times, fits, short_years=short, only_named=alone))
    latest = calendar.now_at_the_latest()
    for name, epoch in epochs.items():
        times = epoch.read(numbers)
        fits = (times >= pd.Timestamp(epoch.since, 1, 1).timestamp()) & (times <= latest)
        if fits.any():
            readings.append(Reading(name, times, fits, counts_since=True))
    return readings


def read_digits(numbers: Numbers, written_as: str) -> Floats | None:
    """Read 20170131 as "%Y%m%d": whole seconds since 1970 (n,), NaN if a field is out of its range.

    One leading zero may be missing. Only seconds may have a fraction. None if no number has these digits.
    """
    letters = written_as[1::2]
    width = sum(WIDTHS[letter] for letter in letters)
    possible = (numbers >= 10 ** (width - 2)) & (numbers < 10**width)
    if not possible.any():
        return None
    left = np.where(possible, numbers, 0).astype(np.int64)
    if letters[-1] != "S":
        possible &= numbers == left
    part = {letter: np.zeros(len(numbers), np.int64) for letter in "HMSmd"}
    for letter in reversed(letters):
        left, part[letter] = np.divmod(left, 10 ** WIDTHS[letter])
    year = part["Y"] if "Y" in part else calendar.full_year(part["y"])
    possible &= (year >= calendar.EARLIEST_YEAR) & (year <= calendar.LATEST_YEAR)
    if "j" in part:
        days = calendar.midnight_of_day_of_year(year, part["j"])
    else:
        days = calendar.midnight(year, part["m"], part["d"])
    return np.where(possible, days + calendar.seconds_of_day(part["H"], part["M"], part["S"]), np.nan)
