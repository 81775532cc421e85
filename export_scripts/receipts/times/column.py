"""Reads a shop's column of times, whatever its type, and reports the rows that hold none."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa

from export_scripts.receipts.problems import SHOWN_ROWS, Problem, Problems, show
from export_scripts.receipts.tables import Table, text_column
from export_scripts.receipts.times import calendar
from export_scripts.receipts.times.calendar import Bools, Floats, Ints
from export_scripts.receipts.times.distinct import read_distinct
from export_scripts.receipts.times.named import UnusableFormat
from export_scripts.receipts.times.numbers import NAMES
from export_scripts.receipts.times.readings import Reading

WAY_OUT = (
    "write ISO times (2017-01-31 18:05:00), or name the format: [data] timestamp_format, for example "
    '"%m/%d/%Y %I:%M %p" for 01/31/2017 06:05 PM, or "unix_ms" or "excel" for numbers'
)
NAME_IT = (
    "write ISO times (2017-01-31 18:05:00), or name the format: [data] timestamp_format, for example "
    f'"%Y%m%d%H" for 2017013118, "seconds since 2000-01-01", or one of {", ".join(NAMES)}'
)
CORRECT = "correct these times, or remove the rows"
WITH_DATE = "name a column that holds dates too, or join date and time to 2017-01-31 18:05:00"
UNITS_PER_S = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def time_column(
    table: Table, name: str, written_as: str, problems: Problems
) -> pd.Series[int] | pd.Series[float]:
    """Return the column as (n,) whole seconds since 1970 UTC; times without a zone count as UTC.

    `written_as` is a format ([data] timestamp_format), or "" to recognise it. Reports cells that hold no
    plausible time and makes them NaN; the type is int64 without such cells and float64 with them.
    """
    array = table.column(name)
    if pa.types.is_timestamp(array.type) or pa.types.is_date(array.type):
        return _checked(table, name, _stored_seconds(array), array, CORRECT, problems)
    readable = _readable(table, name, array, problems)
    times = None if readable is None else _read(table, name, readable, written_as, problems)
    if times is None:
        return pd.Series(np.nan, index=range(len(array)))
    return _checked(table, name, times, array, WAY_OUT, problems)


def _stored_seconds(array: pa.Array) -> Ints:
    """Return timestamps or dates (n,) as seconds since 1970; 0 for null."""
    if pa.types.is_date32(array.type):
        return np.asarray(array.cast(pa.int32()).fill_null(0)).astype(np.int64) * calendar.DAY_S
    counts = np.asarray(array.cast(pa.int64()).fill_null(0))
    per_s = UNITS_PER_S["ms" if pa.types.is_date64(array.type) else array.type.unit]
    return counts if per_s == 1 else counts // per_s


def _readable(table: Table, name: str, array: pa.Array, problems: Problems) -> pa.Array | None:
    """Return numbers or text; None for a type that holds no times, with a problem added."""
    filled, kind = np.asarray(array.is_valid()), array.type
    if pa.types.is_nested(kind):
        text_column(table, name, (), problems)  # reports it
        return None
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return pa.array(text_column(table, name, (), problems), pa.large_string())
    if pa.types.is_time(kind) or pa.types.is_duration(kind):
        what = f'column "{name}" holds {kind} values, which have no date'
        _refuse(table, filled, array, what, WITH_DATE, problems)
        return None
    if pa.types.is_floating(kind) and kind.bit_width < 64:
        values = np.asarray(array.cast(pa.float64()))
        exact = 2 ** (np.finfo(kind.to_pandas_dtype()).nmant + 1)
        rounded = np.isfinite(values) & (np.abs(values) >= exact)
        what = f'column "{name}" is a {kind} column: the last digits of its times are lost'
        _refuse(table, rounded, array, what, "store times as timestamps, integers or float64", problems)
        return None if rounded.any() else array
    return array.cast(pa.large_string()) if pa.types.is_null(kind) else array


def _read(table: Table, name: str, array: pa.Array, written_as: str, problems: Problems) -> Floats | None:
    """Return times (n,), NaN where unreadable; None without a clear reading, with a problem added."""
    distinct = array.dictionary_encode()
    values = distinct.dictionary
    codes = np.asarray(distinct.indices.fill_null(len(values)))
    counts = np.bincount(codes, minlength=len(values) + 1)[:-1]
    try:
        readings = read_distinct(values, counts, written_as)
    except UnusableFormat as error:
        what = f'[data] timestamp_format "{written_as}" cannot be used: {error}'
        way_out = f'use strptime directives, for example "%d/%m/%Y %H:%M", or one of {", ".join(NAMES)}'
        problems.add(Problem(table.name, what, way_out))
        return None
    if len(readings) == 1:
        times: Floats = np.append(readings[0].times, np.nan)[codes]
        return times
    if readings:
        _refuse_ambiguous(table, name, readings, array, codes, problems)
    else:
        what = f'column "{name}" holds numbers that are no plausible times in any unit or order of digits'
        _refuse(table, codes < len(values), array, what, NAME_IT, problems)
    return None


def _refuse_ambiguous(
    table: Table, name: str, readings: list[Reading], array: pa.Array, codes: Ints, problems: Problems
) -> None:
    """Report the rows whose times differ between the readings."""
    first, *others = (np.append(reading.times, np.nan) for reading in readings)
    bad = np.logical_or.reduce([first != other for other in others])[codes] & (codes < len(first) - 1)
    example = codes[np.flatnonzero(bad)[0]]
    read_as = " or ".join(calendar.written(reading.times[example]) for reading in readings)
    names, last = ", ".join(map(str, readings[:-1])), readings[-1]
    what = f'column "{name}" reads {names} as well as {last}; the first row is {read_as}'
    formats = " or ".join(f'"{reading.name}"' for reading in readings)
    way_out = f"say which it is: [data] timestamp_format = {formats}"
    _refuse(table, bad, array, what, way_out, problems)


def _checked(
    table: Table, name: str, times: Ints | Floats, array: pa.Array, way_out: str, problems: Problems
) -> pd.Series[int] | pd.Series[float]:
    """Report times (n,) that are missing or absurd, and make them NaN."""
    good = (times >= calendar.EARLIEST) & (times < calendar.LATEST)
    if good.all() and not array.null_count:
        return pd.Series(times.astype(np.int64, copy=False))
    missing = np.isnan(times) | np.asarray(array.is_null())
    what = f'column "{name}" holds no readable time'
    _refuse(table, missing, array, what, way_out, problems)
    absurd = ~good & ~missing
    computed = absurd.any() and times.dtype == np.float64  # the cell itself shows a stored time
    first = f", the first is read as {calendar.written(times[absurd][0])}" if computed else ""
    what = f'column "{name}" is before {calendar.EARLIEST_YEAR} or after {calendar.LATEST_YEAR}{first}'
    _refuse(table, absurd, array, what, way_out, problems)
    return pd.Series(np.where(good & ~missing, times, np.nan))


def _refuse(table: Table, bad: Bools, array: pa.Array, what: str, way_out: str, problems: Problems) -> None:
    """Report the rows where `bad` (n,) is true, if any. Python has no object for some times of parquet."""
    if bad.any():
        first = np.flatnonzero(bad)[:SHOWN_ROWS]
        shown = [_cell(value) for value in array.take(pa.array(first))]
        rows = tuple(zip(table.places(first), shown, strict=True))
        problems.add(Problem(table.name, what, way_out, rows, int(bad.sum())))


def _cell(value: pa.Scalar) -> str:
    if value.is_valid and (pa.types.is_timestamp(value.type) or pa.types.is_date(value.type)):
        time = np.asarray(pa.array([value], value.type))[0]
        return str(value.value) if np.isnat(time) else str(time)
    if value.is_valid and (pa.types.is_time(value.type) or pa.types.is_duration(value.type)):
        return f"{value.value} {value.type.unit}"
    return "nan" if value.is_valid and value.as_py() != value.as_py() else show(value.as_py())
