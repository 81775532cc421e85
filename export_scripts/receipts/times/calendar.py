"""Turns fields of the calendar and of the clock into seconds since 1970, NaN where there is no such time."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DAY_S = 86_400
EARLIEST_YEAR, LATEST_YEAR = 1990, 2099  # a time outside was read wrongly, or is a placeholder
EARLIEST, LATEST = (pd.Timestamp(year, 1, 1).timestamp() for year in (EARLIEST_YEAR, LATEST_YEAR + 1))
FIRST_SHORT_YEAR = 1995  # two digits stand for this year to the current one


def now_at_the_latest() -> float:
    """Return the latest time that is not in the future: zones are up to 14 hours ahead of UTC."""
    return time.time() + DAY_S


def midnight(year: Ints, month: Ints, day: Ints) -> Floats:
    """Return the start of each day (n,); NaN for 30 February."""
    possible = (month >= 1) & (month <= 12) & (day >= 1) & (year >= 0) & (year <= 9999)
    months = np.where(possible, (year - 1970) * 12 + month - 1, 0)
    first, after = (_first_day(months + ahead) for ahead in (0, 1))
    possible &= day <= after - first
    return np.where(possible, (first + day - 1.0) * DAY_S, np.nan)


def midnight_of_day_of_year(year: Ints, day: Ints) -> Floats:
    """Return the start of each day (n,), counted from 1 January = 1."""
    months = (year - 1970) * 12
    first, after = (_first_day(months + ahead) for ahead in (0, 12))
    return np.where((day >= 1) & (day <= after - first), (first + day - 1.0) * DAY_S, np.nan)


def midnight_of_week(year: Ints, week: Ints, weekday: Ints) -> Floats:
    """Return the start of each day (n,) of an ISO week date; week 1 holds 4 January, Monday is 1."""
    jan_4 = _first_day((year - 1970) * 12) + 3
    next_jan_4 = _first_day((year - 1969) * 12) + 3
    monday, next_monday = (day - (day + 3) % 7 for day in (jan_4, next_jan_4))  # 1970 began on a Thursday
    day = monday + (week - 1) * 7 + weekday - 1
    possible = (week >= 1) & (weekday >= 1) & (weekday <= 7) & (day < next_monday)
    return np.where(possible, day * float(DAY_S), np.nan)


def _first_day(months: Ints) -> Ints:
    return months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)


def seconds_of_day(hour: Ints, minute: Ints, second: Ints) -> Floats:
    """Return seconds (n,) since midnight. 24:00 ends the day, and a leap second is the next second."""
    possible = (hour <= 23) | ((hour == 24) & (minute == 0) & (second == 0))
    leap = (second == 60) & (minute % 15 == 14)  # the last minute of an hour in UTC; zones differ by quarters
    possible &= (minute <= 59) & ((second <= 59) | leap)
    return np.where(possible, hour * 3600.0 + minute * 60 + second, np.nan)


def full_year(short: Ints) -> Ints:
    """Return the year (n,) that two digits stand for; -1 if it is before 1995 or still to come."""
    year = np.where(short >= FIRST_SHORT_YEAR % 100, 1900, 2000) + short
    return np.where(year <= time.gmtime(now_at_the_latest()).tm_year, year, -1)


def written(seconds: float) -> str:
    """Write a time for a message."""
    if np.isnan(seconds):
        return "no date"
    if abs(float(seconds)) > 1e17:  # numpy counts its years in 64 bits
        return "a time beyond the calendar"
    return str(np.datetime64(int(seconds), "s")).replace("T", " ")
