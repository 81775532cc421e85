"""Timestamps as shops write them: ISO, one consistent date format, epoch numbers, with or without a zone."""

import re

import numpy as np
import pandas as pd
import pyarrow as pa
from pandas.tseries.api import guess_datetime_format

from export_scripts.receipts.problems import Problem, Problems
from export_scripts.receipts.tables import Table, text_column

# outside these years a number was read in the wrong unit, or is a day number or an Excel serial
EARLIEST, LATEST = pd.Timestamp("1990-01-01"), pd.Timestamp("2100-01-01")
WAY_OUT = (
    "write ISO times (2017-01-31 18:05:00) or epoch seconds, or say how to read them: "
    '[data] timestamp_format, for example "%m/%d/%Y %I:%M %p" for 01/31/2017 06:05 PM'
)
DATE_NUMBERS = {8: "%Y%m%d", 14: "%Y%m%d%H%M%S"}  # digits → format, when they start with 19 or 20
EPOCH_UNITS = {"s": 1e11, "ms": 1e14, "us": 1e17, "ns": np.inf}  # unit → values below are read in it


def time_column(table: Table, name: str, written_as: str, problems: Problems) -> pd.Series:
    """The column as (n,) float64 seconds since 1970 UTC; times without a zone are taken as UTC.

    `written_as` is a strptime format, or "" to find out. Unreadable cells are reported, and NaN.
    """
    array = table.column(name)
    if pa.types.is_timestamp(array.type) or pa.types.is_date(array.type):
        times = pd.Series(array.cast(pa.timestamp("us", tz="UTC"), safe=False).to_pandas())
    elif (pa.types.is_integer(array.type) or pa.types.is_floating(array.type)) and not written_as:
        times = from_numbers(pd.Series(array.to_pandas(), dtype="float64"))
    else:
        text = text_column(table, name, (), problems)
        try:  # cells that do not fit are no error, directives that strptime does not know are
            times = from_text(text, written_as)
        except (ValueError, re.error) as error:
            what = f'[data] timestamp_format "{written_as}" cannot be used: {error}'
            problems.add(Problem(table.name, what, 'use strptime directives, for example "%d/%m/%Y %H:%M"'))
            return pd.Series(np.nan, index=text.index)
        if times is None:
            example = text.dropna().iloc[0]
            what = f'column "{name}" reads day first as well as month first ("{example}")'
            problems.add(Problem(table.name, what, 'set [data] timestamp_format, for example "%d/%m/%Y"'))
            return pd.Series(np.nan, index=text.index)
    times = times.dt.tz_localize(None)
    bad = times.isna().to_numpy()
    table.refuse(bad, array, f'column "{name}" holds no readable time', WAY_OUT, problems)
    absurd = ((times < EARLIEST) | (times >= LATEST)).to_numpy()
    first = f", the first is read as {times[absurd].iloc[0]}" if absurd.any() else ""
    what = f'column "{name}" is before 1990 or after 2099{first}'
    table.refuse(absurd, array, what, WAY_OUT, problems)
    return (times.mask(absurd) - pd.Timestamp(0)) // pd.Timedelta(seconds=1)


def from_text(text: pd.Series, written_as: str) -> pd.Series | None:
    """(n,) str → (n,) datetime64[UTC], NaT where unreadable; None when day and month cannot be told apart."""
    if written_as:
        return pd.to_datetime(text, format=written_as, utc=True, errors="coerce")
    readings = (
        lambda: from_numbers(pd.to_numeric(text, errors="coerce")),
        lambda: pd.to_datetime(text, format="ISO8601", utc=True, errors="coerce"),
        lambda: _one_format(text, dayfirst=False),
        lambda: _one_format(text, dayfirst=True),
    )
    tried = []
    for read in readings[:2]:
        tried.append(read())
        if tried[-1].isna().sum() == text.isna().sum():
            return tried[-1]
    tried += [read() for read in readings[2:]]  # always both: a tie means that nobody can tell
    unread = [int(times.isna().sum()) for times in tried]
    best = int(np.argmin(unread))
    if best == 2 and unread[2] == unread[3] and not tried[2].equals(tried[3]):
        return None
    return tried[best]


def _one_format(text: pd.Series, *, dayfirst: bool) -> pd.Series:
    """Read every cell in the format of the first one, as pandas guesses it."""
    first = next(iter(text.dropna()), "")
    year_first = first[:4].isdigit()  # then the month is next: nobody writes 2024-31-01
    written_as = guess_datetime_format(first, dayfirst=dayfirst and not year_first)
    if written_as is None:
        return pd.Series(pd.NaT, index=text.index, dtype="datetime64[us, UTC]")
    return pd.to_datetime(text, format=written_as, utc=True, errors="coerce")


def from_numbers(values: pd.Series) -> pd.Series:
    """(n,) float64 → (n,) datetime64[UTC]: 20170131, 20170131180500, or epoch s, ms, us, ns by magnitude."""
    values = values.where(np.isfinite(values))
    typical = values.abs().median()  # and not the largest: one wild value must not change the unit of all
    if np.isnan(typical):
        return pd.Series(pd.NaT, index=values.index, dtype="datetime64[us, UTC]")
    for digits, written_as in DATE_NUMBERS.items():
        if 19 * 10 ** (digits - 2) <= typical < 21 * 10 ** (digits - 2):
            text = values.where(values < 10**digits).round().astype("Int64").astype("str")
            return pd.to_datetime(text, format=written_as, utc=True, errors="coerce")
    unit = next(unit for unit, limit in EPOCH_UNITS.items() if typical < limit)
    return pd.to_datetime(values, unit=unit, utc=True, errors="coerce")
