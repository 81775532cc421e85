"""Reads times as shops write them: ISO, one consistent date format, or numbers; with or without a zone."""

from __future__ import annotations

import re
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from pandas.tseries.api import guess_datetime_format

from export_scripts.receipts.problems import Problem, Problems
from export_scripts.receipts.tables import Table, text_column

# A time outside these years was read in the wrong unit, or is a day number or an Excel serial number.
EARLIEST, LATEST = pd.Timestamp("1990-01-01"), pd.Timestamp("2100-01-01")
WAY_OUT = (
    "write ISO times (2017-01-31 18:05:00) or epoch seconds, or name the format: "
    '[data] timestamp_format, for example "%m/%d/%Y %I:%M %p" for 01/31/2017 06:05 PM'
)
DATE_NUMBERS = {8: "%Y%m%d", 14: "%Y%m%d%H%M%S"}  # digits → format, for numbers that start with 19 or 20
# Unit → typical values below this limit are read in it.
EPOCH_UNITS: dict[Literal["s", "ms", "us", "ns"], float] = {"s": 1e11, "ms": 1e14, "us": 1e17, "ns": np.inf}


def time_column(
    table: Table, name: str, written_as: str, problems: Problems
) -> pd.Series[int] | pd.Series[float]:
    """Return the column as (n,) whole seconds since 1970 UTC; times without a zone count as UTC.

    `written_as` is a strptime format, or "" to recognise the format. Reports unreadable cells and makes
    them NaN; the type is int64 without such cells and float64 with them.
    """
    array = table.column(name)
    times: pd.Series[pd.Timestamp] | None
    if pa.types.is_timestamp(array.type) or pa.types.is_date(array.type):
        times = pd.Series(array.cast(pa.timestamp("us", tz="UTC"), safe=False).to_pandas())
    elif (pa.types.is_integer(array.type) or pa.types.is_floating(array.type)) and not written_as:
        times = from_numbers(pd.Series(array.to_pandas(), dtype="float64"))
    else:
        times = _read_text_column(table, name, written_as, problems)
    if times is None:
        return pd.Series(np.nan, index=range(len(array)))
    times = times.dt.tz_localize(None)
    unreadable = times.isna().to_numpy()
    table.refuse(unreadable, array, f'column "{name}" holds no readable time', WAY_OUT, problems)
    absurd = ((times < EARLIEST) | (times >= LATEST)).to_numpy()
    first = f", the first is read as {times[absurd].iloc[0]}" if absurd.any() else ""
    what = f'column "{name}" is before 1990 or after 2099{first}'
    table.refuse(absurd, array, what, WAY_OUT, problems)
    return (times.mask(absurd) - pd.Timestamp(0)) // pd.Timedelta(seconds=1)


def _read_text_column(
    table: Table, name: str, written_as: str, problems: Problems
) -> pd.Series[pd.Timestamp] | None:
    """Read a text column; returns None and adds a problem if its format is invalid or ambiguous."""
    text = text_column(table, name, (), problems)
    try:  # a cell that does not fit becomes NaT; a directive unknown to strptime raises
        times = from_text(text, written_as)
    except (ValueError, re.error) as error:
        what = f'[data] timestamp_format "{written_as}" cannot be used: {error}'
        problems.add(Problem(table.name, what, 'use strptime directives, for example "%d/%m/%Y %H:%M"'))
        return None
    if times is None:
        example = text.dropna().iloc[0]
        what = f'column "{name}" reads day first as well as month first ("{example}")'
        problems.add(Problem(table.name, what, 'set [data] timestamp_format, for example "%d/%m/%Y"'))
    return times


def from_text(text: pd.Series[str], written_as: str) -> pd.Series[pd.Timestamp] | None:
    """Read (n,) str as (n,) datetime64[UTC], NaT where unreadable.

    Returns None if day first and month first fit equally well and give different times.
    """
    if written_as:
        return pd.to_datetime(text, format=written_as, utc=True, errors="coerce")
    missing = text.isna().sum()
    numbers = from_numbers(pd.to_numeric(text, errors="coerce"))
    if numbers.isna().sum() == missing:
        return numbers
    iso = pd.to_datetime(text, format="ISO8601", utc=True, errors="coerce")
    if iso.isna().sum() == missing:
        return iso
    month_first, day_first = _one_format(text, dayfirst=False), _one_format(text, dayfirst=True)
    readings = (numbers, iso, month_first, day_first)
    unread = [int(times.isna().sum()) for times in readings]
    best = int(np.argmin(unread))  # the first of equally good ones
    if readings[best] is month_first and unread[2] == unread[3] and not month_first.equals(day_first):
        return None
    return readings[best]


def _one_format(text: pd.Series[str], *, dayfirst: bool) -> pd.Series[pd.Timestamp]:
    """Read every cell in the format that pandas guesses from the first one."""
    first = next(iter(text.dropna()), "")
    year_first = first[:4].isdigit()  # then the month is next: nobody writes 2024-31-01
    written_as = guess_datetime_format(first, dayfirst=dayfirst and not year_first)
    if written_as is None:
        return _no_times(text.index)
    return pd.to_datetime(text, format=written_as, utc=True, errors="coerce")


def from_numbers(values: pd.Series[float]) -> pd.Series[pd.Timestamp]:
    """Read (n,) float64 as (n,) datetime64[UTC].

    20170131 and 20170131180500 are dates. Other numbers are epoch s, ms, us or ns, chosen by magnitude.
    """
    values = values.where(np.isfinite(values))
    typical = values.abs().median()  # not the largest: one wrong value must not change the unit of all
    if np.isnan(typical):
        return _no_times(values.index)
    for digits, written_as in DATE_NUMBERS.items():
        if 19 * 10 ** (digits - 2) <= typical < 21 * 10 ** (digits - 2):
            text = values.where(values < 10**digits).round().astype("Int64").astype("str")
            return pd.to_datetime(text, format=written_as, utc=True, errors="coerce")
    unit = next(unit for unit, limit in EPOCH_UNITS.items() if typical < limit)
    return pd.to_datetime(values, unit=unit, utc=True, errors="coerce")


def _no_times(index: pd.Index) -> pd.Series[pd.Timestamp]:
    return pd.Series(pd.NaT, index=index, dtype="datetime64[us, UTC]")
