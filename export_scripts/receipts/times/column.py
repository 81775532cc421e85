"""Reads a shop's column of times, whatever its type, and reports the rows that hold none."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from export_scripts.receipts.problems import Problem, Problems, show
from export_scripts.receipts.tables import Cells, Column, Table, are_plausible_moments, as_values
from export_scripts.receipts.times import calendar
from export_scripts.receipts.times.calendar import Floats, Ints
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


def time_column(table: Table, name: str, written_as: str, problems: Problems) -> Cells:
    """Return the column as whole seconds since 1970 UTC; times without a zone count as UTC.

    `written_as` is a format ([data] timestamp_format), or "" to recognise it. Reports cells that hold no
    plausible time and makes them null.
    """
    if name in table.moments and not written_as:
        return Cells(f"lines.{table.moments[name]}")
    if moments := _plausible_moments(table, name):
        return moments
    column = table.distinct(name)
    array = column.distinct
    if pa.types.is_timestamp(array.type) or pa.types.is_date(array.type):
        return _checked(column, _stored_seconds(array), CORRECT, problems)
    readable = _readable(column, problems)
    times = None if readable is None else _read(column, readable, written_as, problems)
    return Cells("null::bigint") if times is None else _checked(column, times, WAY_OUT, problems)


def _plausible_moments(table: Table, name: str) -> Cells | None:
    """Return stored moments if the database holds them and all are plausible."""
    facts = table.facts.get(name)
    if not facts or not pa.types.is_timestamp(table.schema.field(name).type):
        return None
    if not are_plausible_moments(facts):
        return None
    return Cells(f"epoch_us({table.as_stored(name).sql}) // 1000000")


def _stored_seconds(array: pa.Array) -> Ints:
    """Return timestamps or dates (n,) as seconds since 1970; 0 for null."""
    if pa.types.is_date32(array.type):
        return np.asarray(array.cast(pa.int32()).fill_null(0)).astype(np.int64) * calendar.DAY_S
    counts = np.asarray(array.cast(pa.int64()).fill_null(0))
    per_s = UNITS_PER_S["ms" if pa.types.is_date64(array.type) else array.type.unit]
    return counts if per_s == 1 else counts // per_s


def _readable(column: Column, problems: Problems) -> pa.Array | None:
    """Return numbers or text (n,); None for a type that holds no times, with a problem added."""
    name, array = column.name, column.distinct
    kind = array.type
    if pa.types.is_nested(kind):
        as_values(column, (), problems)  # reports it
        return None
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return as_values(column, (), problems)
    if pa.types.is_time(kind) or pa.types.is_duration(kind):
        what = f'column "{name}" holds {kind} values, which have no date'
        column.refuse(np.ones(len(array), dtype=bool), array, what, WITH_DATE, problems, _cells)
        return None
    if pa.types.is_floating(kind) and kind.bit_width < 64:
        values = np.asarray(array.cast(pa.float64()))
        exact = 2 ** (np.finfo(kind.to_pandas_dtype()).nmant + 1)
        rounded = np.isfinite(values) & (np.abs(values) >= exact)
        what = f'column "{name}" is a {kind} column: the last digits of its times are lost'
        way_out = "store times as timestamps, integers or float64"
        column.refuse(rounded, array, what, way_out, problems, _cells)
        return None if rounded.any() else array
    return array.cast(pa.large_string()) if pa.types.is_null(kind) else array


def _read(column: Column, array: pa.Array, written_as: str, problems: Problems) -> Floats | None:
    """Return times (n,), NaN where unreadable; None without a clear reading, with a problem added."""
    name, distinct = column.name, array.dictionary_encode()
    values = distinct.dictionary
    codes = np.asarray(distinct.indices.fill_null(len(values)))
    counts = np.bincount(codes, column.counts[:-1], len(values) + 1)[:-1].astype(np.int64)
    try:
        readings = read_distinct(values, counts, written_as)
    except UnusableFormat as error:
        what = f'[data] timestamp_format "{written_as}" cannot be used: {error}'
        way_out = f'use strptime directives, for example "%d/%m/%Y %H:%M", or one of {", ".join(NAMES)}'
        problems.add(Problem(column.table.name, what, way_out))
        return None
    if len(readings) == 1:
        times: Floats = np.append(readings[0].times, np.nan)[codes]
        return times
    if readings:
        _refuse_ambiguous(column, readings, codes, problems)
    else:
        what = f'column "{name}" holds numbers that are no plausible times in any unit or order of digits'
        column.refuse(codes < len(values), column.distinct, what, NAME_IT, problems, _cells)
    return None


def _refuse_ambiguous(column: Column, readings: list[Reading], codes: Ints, problems: Problems) -> None:
    """Report the rows whose times differ between the readings."""
    first, *others = (np.append(reading.times, np.nan) for reading in readings)
    bad = np.logical_or.reduce([first != other for other in others])[codes] & (codes < len(first) - 1)
    example = codes[np.flatnonzero(bad)[0]]
    read_as = " or ".join(calendar.written(reading.times[example]) for reading in readings)
    names, last = ", ".join(map(str, readings[:-1])), readings[-1]
    what = f'column "{column.name}" reads {names} as well as {last}; the first row is {read_as}'
    formats = " or ".join(f'"{reading.name}"' for reading in readings)
    way_out = f"say which it is: [data] timestamp_format = {formats}"
    column.refuse(bad, column.distinct, what, way_out, problems, _cells)


def _checked(column: Column, times: Ints | Floats, way_out: str, problems: Problems) -> Cells:
    """Report times (n,) that are missing or absurd, and make them null."""
    good = (times >= calendar.EARLIEST) & (times < calendar.LATEST)
    missing, array = np.isnan(times), column.distinct
    what = f'column "{column.name}" holds no readable time'
    column.refuse(np.append(missing, True), array, what, way_out, problems, _cells)
    absurd = ~good & ~missing
    computed = absurd.any() and times.dtype == np.float64  # the cell itself shows a stored time
    first = f", the first is read as {calendar.written(times[absurd][0])}" if computed else ""
    what = f'column "{column.name}" is before {calendar.EARLIEST_YEAR} or after {calendar.LATEST_YEAR}{first}'
    column.refuse(absurd, array, what, way_out, problems, _cells)
    seconds = np.where(good, times, 0).astype(np.int64)
    return column.table.meaning(column, pa.array(seconds, mask=~good))


def _cells(values: pa.Array) -> list[str]:
    return [_cell(value) for value in values]


def _cell(value: pa.Scalar) -> str:
    if value.is_valid and (pa.types.is_timestamp(value.type) or pa.types.is_date(value.type)):
        time = np.asarray(pa.array([value], value.type))[0]
        return str(value.value) if np.isnat(time) else str(time)
    if value.is_valid and (pa.types.is_time(value.type) or pa.types.is_duration(value.type)):
        return f"{value.value} {value.type.unit}"
    return "nan" if value.is_valid and value.as_py() != value.as_py() else show(value.as_py())
