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
    *("%Y%j" + clock for clock in ("", "%H%M", "%H%M%S")),
)
RARE_DIGITS = ("%y%m%d%H", "%d%m%y%H", "%m%d%y%H")
# Too rare to be guessed, or too short: any counter of receipts looks like "%y%j". A first digit 1 stands for
# the century in tables of AS/400 and JD Edwards. A column that fits one of them is no clear Unix time.
ONLY_NAMED_DIGITS = (
    *("%y%j" + clock for clock in ("", "%H", "%H%M", "%H%M%S")),
    *("1%y%j" + clock for clock in ("", "%H", "%H%M", "%H%M%S")),
    *("1%y%m%d" + clock for clock in ("", "%H", "%H%M", "%H%M%S", "%H%M%S%f")),
    *("%d%m%Y" + clock for clock in ("%H", "%H%M%S%f")),
    *("%m%d%Y" + clock for clock in ("%H", "%H%M%S%f")),
    *("%Y%j%H", "%Y%m"),
)

# Digits after a clock, and the limits of its fields.
CLOCKS = ((0, (24,)), (0, (24, 60)), *((digits, (24, 60, 60)) for digits in (0, 2, 3, 6, 9)))
SEVERAL = 5  # a quarter of all numbers end like an hour, and one in a thousand groups of five
NEARLY_ALL = 0.9
SAMPLE = 10_000

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
}
RIVALS = {  # old Unix times are also times of these
    "cocoa": Epoch("seconds", 978_307_200, since=2004),  # 2001
    "seconds since 2000-01-01": Epoch("seconds", 946_684_800, since=2004),
    "milliseconds since 2000-01-01": Epoch("milliseconds", 946_684_800, since=2004),
    "microseconds since 2000-01-01": Epoch("microseconds", 946_684_800, since=2004),  # PostgreSQL
}
ONLY_NAMED = {  # any number of some digits is one of them
    "minutes since 1970-01-01": Epoch("minutes", 0),
    "hours since 1970-01-01": Epoch("hours", 0),
    "excel_1904": Epoch("days", -24_107 * 86_400),  # its numbers are those of excel, four years earlier
}
NAMES = (*EPOCHS, "cocoa", *ONLY_NAMED)


def from_numbers(numbers: Numbers, counts: Ints) -> list[Reading]:
    """Choose the reading of distinct numbers (n,); `counts` (n,) says how many rows each has."""
    dates = _dates(numbers, ONLY_NAMED_DIGITS, only_named=True)
    units = _counts(numbers, EPOCHS) + _counts(numbers, RIVALS, only_named=True)
    usual = choose(_dates(numbers, DIGITS) + dates + units, counts)
    return usual or choose(_dates(numbers, RARE_DIGITS) + dates, counts)


def named_epoch(name: str) -> Epoch | None:
    """Return the epoch of "excel" or "days since 1960-01-01", or None. Raises ValueError for no date."""
    if found := SINCE.fullmatch(name):
        return Epoch(found[1], int(pd.Timestamp(found[2]).timestamp()))
    return (EPOCHS | RIVALS | ONLY_NAMED).get(name)


def _dates(numbers: Numbers, digits: Sequence[str], *, only_named: bool = False) -> list[Reading]:
    """Return the orders of digits that fit at least one number."""
    readings, latest = [], calendar.now_at_the_latest()
    for written_as in digits:
        short, times = "%y" in written_as, read_digits(numbers, written_as)
        if times is not None and (fits := times <= (latest if short else calendar.LATEST)).any():
            readings.append(Reading(written_as, times, fits, short_years=short, only_named=only_named))
    return readings


def _counts(numbers: Numbers, epochs: dict[str, Epoch], *, only_named: bool = False) -> list[Reading]:
    """Return the units and epochs that fit at least one number, unless the numbers end like a clock."""
    readings, latest = [], calendar.now_at_the_latest()
    for name, epoch in epochs.items():
        times = epoch.read(numbers)
        fits = (times >= pd.Timestamp(epoch.since, 1, 1).timestamp()) & (times <= latest)
        if fits.any() and not (epoch.unit in UNITS_PER_S and end_like_a_clock(numbers[fits])):
            readings.append(Reading(name, times, fits, counts_since=True, only_named=only_named))
    return readings


def end_like_a_clock(numbers: Numbers) -> bool:
    """Do the last digits of (nearly) all numbers read as a time of day? Those of a count read as anything."""
    whole = numbers[:: len(numbers) // SAMPLE + 1].astype(np.int64)
    for digits, limits in CLOCKS:
        left, possible = whole // 10**digits, np.ones(len(whole), np.bool_)
        ends = left % 100 ** len(limits)
        for limit in reversed(limits):
            left, field = np.divmod(left, 100)
            possible &= field < limit
        if possible.mean() >= NEARLY_ALL and len(np.unique(ends[possible])) >= SEVERAL:
            return True
    return False


def read_digits(numbers: Numbers, written_as: str) -> Floats | None:
    """Read 20170131 as "%Y%m%d": whole seconds since 1970 (n,), NaN if a field is out of its range.

    One leading zero may be missing, except before days of the year. Only seconds may have a fraction. A
    first digit 1 may stand for the century. None if no number has these digits.
    """
    letters = written_as[1::2] if written_as[0] == "%" else written_as[2::2]
    width = sum(WIDTHS[letter] for letter in letters)
    first = 0 if written_as[0] == "%" else 10**width
    fewest = width if written_as.startswith("%y%j") else width - 1
    possible = (numbers >= first + 10 ** (fewest - 1)) & (numbers < first + 10**width)
    if not possible.any():
        return None
    left = np.where(possible, numbers, first).astype(np.int64) - first
    if letters[-1] != "S":
        possible &= numbers == left + first
    part = {letter: np.full(len(numbers), int(letter == "d")) for letter in "HMSmd"}
    for letter in reversed(letters):
        left, part[letter] = np.divmod(left, 10 ** WIDTHS[letter])
    year = part["Y"] if "Y" in part else calendar.full_year(part["y"])
    possible &= (year >= calendar.EARLIEST_YEAR) & (year <= calendar.LATEST_YEAR)
    if "j" in part:
        days = calendar.midnight_of_day_of_year(year, part["j"])
    else:
        days = calendar.midnight(year, part["m"], part["d"])
    return np.where(possible, days + calendar.seconds_of_day(part["H"], part["M"], part["S"]), np.nan)
