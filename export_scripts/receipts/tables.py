"""A shop's table in memory: gives its columns as text or numbers, and reports bad rows.

`reading.py` reads files, `ids.py` columns of ids, `times` columns of times.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from export_scripts.receipts.places import place
from export_scripts.receipts.problems import SHOWN_ROWS, Problem, Problems, show
from export_scripts.receipts.written import (
    WHOLE_WITH_POINT,
    Bools,
    bare_cells,
    emptied,
    matches,
    without_apostrophes,
    without_point_zero,
)

# Width of a float type → bits of its significand: larger integers than 2 to this power are rounded.
SIGNIFICAND_BITS = {16: 11, 32: 24, 64: 53}
THOUSANDS = r"[+-]?[1-9]\d{0,2}(,\d{3})+"  # 1,500: one and a half, or fifteen hundred
LARGEST_NUMBER = 1e15  # sums of a hundred million of them are still float32
ENCODED = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_float64)


@dataclass(frozen=True)
class Table:
    """A table in memory. Columns from parquet have their stored types; all columns from csv are text."""

    name: str
    data: pa.Table
    rows: NDArray[
        np.int64
    ]  # (n,) numbers in the file; the header of a csv is row 1, parquet starts at 1; see places.py
    repaired: bool = False  # bytes that are not UTF-8 became U+FFFD, so that their rows can be reported
    parts: tuple[str, ...] = ()  # names of its files if they are several

    def places(self, lines: NDArray[np.int64]) -> list[int | str]:
        """Return the rows of these lines (n,) as messages name them."""
        return [place(row, self.parts) for row in self.rows[lines].tolist()]

    def column(self, name: str) -> pa.Array:
        """Return the column as one array, with dictionaries decoded and UUIDs as text.

        Text that is not UTF-8 comes as bytes.
        """
        column = self.data.column(name)
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if pa.types.is_string(kind):  # one array of them may have over 2 GiB
            column = column.cast(pa.large_string())
        array = column.combine_chunks()
        return _plain(array.dictionary_decode() if pa.types.is_dictionary(array.type) else array)

    def coded(self, name: str) -> Coded:
        """Return the column as its distinct values and the number of each row's value."""
        array = self.data.column(name)
        if not pa.types.is_dictionary(array.type):
            if not any(is_type(array.type) for is_type in ENCODED):
                array = pa.chunked_array([self.column(name)])
            try:
                array = array.dictionary_encode()
            except pa.ArrowNotImplementedError:  # rare types, whose values cannot be compared
                numbers = np.arange(len(array), dtype=np.int32)
                return Coded(self, name, numbers, array.combine_chunks())
        array = array.unify_dictionaries().combine_chunks()
        codes = array.indices.cast(pa.int32()).fill_null(-1).to_numpy()
        return Coded(self, name, codes, _plain(array.dictionary))

    def refuse(
        self, bad: Bools, values: pa.Array | pd.Series, what: str, way_out: str, problems: Problems
    ) -> None:
        """Report the rows where `bad` (n,) is true, if any, with the first of their `values` (n,)."""
        if not bad.any():
            return
        rows = self.first_rows(bad, values)
        problems.add(Problem(self.name, what, way_out, rows, int(bad.sum())))

    def first_rows(self, chosen: Bools, values: pa.Array | pd.Series) -> tuple[tuple[int | str, str], ...]:
        """Return (row number in the file, value) of the first chosen rows."""
        first = np.flatnonzero(chosen)[:SHOWN_ROWS]
        if isinstance(values, pd.Series):
            shown = [show(value) for value in values.iloc[first]]
        else:
            shown = [show(value) for value in _readable(values.take(pa.array(first)))]
        return tuple(zip(self.places(first), shown, strict=True))


@dataclass(frozen=True)
class Coded:
    """A column as its distinct values and the number of each row's value, -1 where it is null."""

    table: Table
    name: str
    codes: NDArray[np.int32]
    distinct: pa.Array

    def refuse(self, bad: Bools, shown: pa.Array, what: str, way_out: str, problems: Problems) -> None:
        """Report the rows of the bad values (distinct,), each as it is `shown` (distinct,)."""
        if bad.any():
            rows = self.rows(bad)
            problems.add(
                Problem(self.table.name, what, way_out, self.first_rows(rows, shown), int(rows.sum()))
            )

    def first_rows(self, chosen: Bools, shown: pa.Array) -> tuple[tuple[int | str, str], ...]:
        """Return (row number in the file, value) of the first chosen rows (n,), each `shown` (distinct,)."""
        first = np.flatnonzero(chosen)[:SHOWN_ROWS]
        numbers = self.codes[first]
        values = _readable(shown.take(pa.array(numbers, mask=numbers < 0)))
        return tuple(zip(self.table.places(first), map(show, values), strict=True))

    def rows(self, chosen: Bools) -> Bools:
        """Mark the rows (n,) of the chosen values (distinct,)."""
        marked: Bools = np.append(chosen, False)[self.codes]
        return marked

    def spread(self, values: pa.Array) -> pa.Array:
        """Return (n,) the value of each row."""
        return values.take(pa.array(self.codes, mask=self.codes < 0))


def _plain(array: pa.Array) -> pa.Array:
    """Return UUIDs as text, fixed bytes as bytes, and text that is not UTF-8 as bytes."""
    if array.type == pa.uuid():
        return pa.array([value and str(value) for value in array.to_pylist()], pa.string())
    if pa.types.is_fixed_size_binary(array.type):
        return array.cast(pa.binary())
    if isinstance(array, pa.ExtensionArray):
        return _plain(array.storage)
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        try:
            array.validate(full=True)
        except pa.ArrowInvalid:
            return array.cast(pa.large_binary())
    elif pa.types.is_string_view(array.type):
        return array.cast(pa.binary_view()).cast(pa.large_binary())
    elif pa.types.is_binary_view(array.type):
        return array.cast(pa.large_binary())
    return array


def _readable(values: pa.Array) -> list[object]:
    """Return the values in Python, or as text where Python has no such value: a day after the year 9999."""
    try:
        found: list[object] = values.to_pylist()
    except (ValueError, OverflowError, pa.ArrowException):
        found = values.cast(pa.string()).to_pylist()
    return found


def text_column(table: Table, name: str, missing: Collection[str], problems: Problems) -> pd.Series[str]:
    """Return the column as (n,) str, without blanks and quotes around it, with NaN for missing values.

    Whole numbers that were stored as floats ("123.0", because a value was missing) become "123" again.
    """
    column = table.coded(name)
    texts = without_apostrophes(as_text(column, problems))
    texts = emptied(texts, missing)
    whole = matches(texts, WHOLE_WITH_POINT)
    if (whole | np.asarray(texts.is_null())).all():
        texts = without_point_zero(texts, whole)
    return pd.Series(column.spread(texts).to_pandas(), dtype="str")


def as_text(column: Coded, problems: Problems) -> pa.Array:
    """Return the distinct values as text, without blanks and quotes around them.

    Reports bytes that are not UTF-8, rounded floats, and types that are no text.
    """
    array, repaired = column.distinct, column.table.repaired
    if pa.types.is_nested(array.type):
        what = f'column "{column.name}" holds {array.type} values'
        problems.add(Problem(column.table.name, what, "flatten it to one plain value per row"))
        return pa.nulls(len(array), pa.large_string())
    if any(is_type(array.type) for is_type in (pa.types.is_binary, pa.types.is_large_binary)):
        array, repaired = _decode(array)
    elif pa.types.is_floating(array.type):
        array = _whole_numbers(column, problems)
    elif pa.types.is_decimal(array.type):
        array = pa.array([None if value is None else f"{value:f}" for value in array.to_pylist()])
    elif pa.types.is_timestamp(array.type) and array.type.tz:
        array = array.cast(pa.timestamp(array.type.unit, "UTC"))  # no zone of a file needs to be known
    texts = bare_cells(array.cast(pa.large_string()))
    if repaired:
        bad = matches(texts, "\ufffd")
        way_out = "save the file as UTF-8 (Excel: CSV UTF-8)" if column.table.repaired else "store it as text"
        shown = texts if column.table.repaired else column.distinct
        column.refuse(bad, shown, f'column "{column.name}" is not valid UTF-8', way_out, problems)
    if pa.types.is_temporal(array.type):
        bad = matches(texts, "^<value out of range")
        what = f'column "{column.name}" has {array.type} values that no calendar has'
        column.refuse(bad, texts, what, "correct or remove them", problems)
    return texts


def _decode(array: pa.Array) -> tuple[pa.Array, bool]:
    """Return the bytes as text, and whether some were not UTF-8 and became U+FFFD."""
    try:
        return array.cast(pa.large_string()), False
    except pa.ArrowInvalid:
        values = [None if value is None else value.decode("utf-8", "replace") for value in array.to_pylist()]
        return pa.array(values, pa.large_string()), True


def _whole_numbers(column: Coded, problems: Problems) -> pa.Array:
    array = column.distinct
    values = array.to_numpy(zero_copy_only=False).astype(np.float64)
    bits = SIGNIFICAND_BITS[array.type.bit_width]
    bad = np.abs(values) >= 2**bits  # the power itself may be a rounded neighbour
    large = f"values of 2^{bits} or more: last digits are lost"
    what = f'column "{column.name}" is a {array.type} column with {large}'
    column.refuse(bad, array, what, "store ids as text or integers", problems)
    if bad.any():
        return pa.nulls(len(array), pa.large_string())
    if (values[np.isfinite(values)] % 1 == 0).all():
        return pa.array(pd.Series(values).where(np.isfinite(values)).astype("Int64"))
    return pa.array([None if np.isnan(value) else repr(value) for value in values.tolist()])


def number_column(table: Table, name: str, problems: Problems) -> pd.Series[float]:
    """Return the column as (n,) float64; reports cells that hold no number and makes them NaN."""
    array = table.column(name)
    values: pd.Series[float]
    if pa.types.is_integer(array.type) or pa.types.is_floating(array.type) or pa.types.is_decimal(array.type):
        values = pd.Series(array.cast(pa.float64(), safe=False).to_pandas(), dtype=np.float64)
    else:
        texts = _with_points(text_column(table, name, (), problems))
        values = pd.to_numeric(texts, errors="coerce").astype(np.float64)
    bad = ~(values.abs() < LARGEST_NUMBER).to_numpy()
    what = f'column "{name}" holds no number'
    way_out = "write plain numbers below 10^15, 1.5 and not 1,500; no empty cells"
    table.refuse(bad, array, what, way_out, problems)
    return values.mask(bad)


def _with_points(texts: pd.Series[str]) -> pd.Series[str]:
    """Turn decimal commas into points; not if a point occurs, or if all commas may part thousands."""
    with_comma = texts.str.contains(",", regex=False, na=False)
    if not with_comma.any() or texts.str.contains(".", regex=False, na=False).any():
        return texts
    if texts[with_comma].str.fullmatch(THOUSANDS).all():
        return texts
    return texts.str.replace(",", ".", regex=False)
