"""A shop's table in the database: its columns as distinct values, and what their cells mean.

`staging.py` brings files here. `ids.py` reads columns of ids, `times` columns of times. They look at distinct
values only, so that their cost grows with what differs and not with the lines.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from export_scripts.receipts.database import Database
from export_scripts.receipts.problems import SHOWN_ROWS, Problem, Problems, show
from export_scripts.receipts.times import calendar
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
THOUSANDS = r"^[+-]?[1-9][0-9]{0,2}(,[0-9]{3})+$"  # 1,500: one and a half, or fifteen hundred
LARGEST_NUMBER = 1e15  # sums of a hundred million of them are still float32

Rows = tuple[tuple[int | str, str], ...]  # (row as messages name it, value), the first few


@dataclass(frozen=True)
class Cells:
    """What the cells of a column mean, as SQL over the `lines` of its table."""

    sql: str
    joins: tuple[str, ...] = ()


@dataclass(frozen=True)
class Facts:
    """What one look at a column of numbers or moments tells: enough for most columns."""

    nulls: int
    least: float | None  # None if all are null; moments in microseconds since 1970
    most: float | None
    whole: bool  # no number has a fraction


def are_plausible_moments(facts: Facts) -> bool:
    """Is there a moment in each row, and none that was read wrongly or is a placeholder?"""
    if facts.nulls or facts.least is None or facts.most is None:
        return False
    return facts.least / 10**6 >= calendar.EARLIEST and facts.most / 10**6 < calendar.LATEST


@dataclass(frozen=True)
class Table:
    """One table of the shop. Its relation has a column position (0, 1, … in the order of the files)."""

    name: str  # for messages
    database: Database
    relation: str
    columns: Mapping[str, str]  # of those that are read: name → its name in the relation
    schema: pa.Schema  # of all columns; from csv all are text, from parquet they have their stored types
    rows: int
    places: Callable[[Sequence[int]], list[int | str]]  # positions → rows as messages name them
    # Columns whose type the database lacks: name → distinct values, whose numbers the relation holds.
    dictionaries: Mapping[str, pa.Array] = field(default_factory=dict)
    facts: Mapping[str, Facts] = field(default_factory=dict)  # of columns of numbers, and of moments
    # Columns of text whose cells are all whole numbers or moments: name → the same in the relation, typed.
    integers: Mapping[str, str] = field(default_factory=dict)  # null where the text is empty
    moments: Mapping[str, str] = field(default_factory=dict)  # seconds since 1970, in plausible years
    repaired: bool = False  # bytes that are not UTF-8 became U+FFFD, so that their rows can be reported

    def distinct(self, name: str) -> Column:
        """Return the column as its distinct values, in the order of their first rows."""
        column = self.columns[name]
        sql = f"select {column} as value, count(*) as rows from {self.relation} group by {column}"
        found = self.database.arrow(f"{sql} order by min(position)")
        values, counts = found["value"], found["rows"].to_numpy().astype(np.int64)
        given, dictionary = np.asarray(values.is_valid()), self.dictionaries.get(name)
        nulls = counts[~given].sum()
        if dictionary is None:
            values = values.cast(pa.large_string()) if pa.types.is_string(values.type) else values
            distinct = values.filter(pa.array(given)).combine_chunks()
            return Column(self, name, distinct, np.append(counts[given], nulls))
        by_number = np.zeros(len(dictionary) + 1, np.int64)
        by_number[np.asarray(values.filter(pa.array(given)))] = counts[given]
        by_number[-1] = nulls
        return Column(self, name, dictionary, by_number)

    def as_stored(self, name: str, kind: str = "") -> Cells:
        """Return the cells as they are, or cast to a `kind` of SQL."""
        return Cells(f"lines.{self.columns[name]}" + (f"::{kind}" if kind else ""))

    def as_number(self, name: str, kind: str = "") -> Cells:
        """Return the cells of a column of numbers, also of one whose text is all whole numbers."""
        if name not in self.integers:
            return self.as_stored(name, kind)
        return Cells(f"lines.{self.integers[name]}" + (f"::{kind}" if kind else ""))

    def meaning(self, column: Column, values: pa.Array) -> Cells:
        """Return what the cells stand for: the `values` (distinct,) of their distinct values."""
        raw, stored = pa.array(np.arange(len(values))), f"lines.{self.columns[column.name]}"
        if column.name not in self.dictionaries:
            raw = column.distinct
            if raw.type == values.type:
                same = pc.fill_null(pc.equal(raw, values), False)
                if pc.all(same).as_py() is not False:
                    return Cells(stored)
                changed = pc.invert(same)
                given = self._given(raw.filter(changed), values.filter(changed))
                sql = f"case when {given}.raw is null then {stored} else {given}.value end"
                return Cells(sql, (f"left join {given} on {stored} = {given}.raw",))
        given = self._given(raw, values)
        return Cells(f"{given}.value", (f"left join {given} on {stored} = {given}.raw",))

    def _given(self, raw: pa.Array, values: pa.Array) -> str:
        return self.database.add(pa.table({"raw": raw, "value": values}))

    def select(self, **cells: Cells) -> str:
        """Return SQL of these cells, one row per line, with its position."""
        columns = "".join(f", {cell.sql} as {name}" for name, cell in cells.items())
        joins = dict.fromkeys(join for cell in cells.values() for join in cell.joins)
        return f"select lines.position{columns} from {self.relation} as lines {' '.join(joins)}"


@dataclass(frozen=True)
class Column:
    """A column as its distinct values."""

    table: Table
    name: str
    distinct: pa.Array  # (n,) without null
    counts: NDArray[np.int64]  # (n + 1,) rows of each value, and of null

    def refuse(
        self,
        bad: Bools,
        shown: pa.Array,
        what: str,
        way_out: str,
        problems: Problems,
        written: Callable[[pa.Array], list[str]] | None = None,
    ) -> None:
        """Report the rows of the bad values (n,), or of null too (n + 1,); each as it is `shown` (n,)."""
        if count := self.count(bad):
            rows = self.first_rows(bad, shown, written)
            problems.add(Problem(self.table.name, what, way_out, rows, count))

    def count(self, chosen: Bools) -> int:
        """Return the number of rows of the chosen values."""
        return int(self.counts[: len(chosen)][chosen].sum())

    def first_rows(
        self, chosen: Bools, shown: pa.Array, written: Callable[[pa.Array], list[str]] | None = None
    ) -> Rows:
        """Return the first rows of the chosen values (n,) or (n + 1,), each as it is `shown` (n,)."""
        table, numbers = self.table, np.flatnonzero(chosen[: len(self.distinct)])
        raw = pa.array(numbers) if self.name in table.dictionaries else self.distinct.take(pa.array(numbers))
        stored, found = f"lines.{table.columns[self.name]}", []
        if len(numbers):
            given = table.database.add(pa.table({"raw": raw, "number": numbers}))
            sql = f"select position, number from {table.relation} as lines join {given} on {stored} = raw"
            found += table.database.rows(f"{sql} order by position limit {SHOWN_ROWS}")
        if len(chosen) > len(self.distinct) and chosen[-1] and self.counts[-1]:
            sql = (
                f"select position, {len(self.distinct)} from {table.relation} as lines where {stored} is null"
            )
            found += table.database.rows(f"{sql} order by position limit {SHOWN_ROWS}")
        first = sorted(found)[:SHOWN_ROWS]
        cells = np.array([number for _, number in first])
        values = shown.take(pa.array(cells, pa.int64(), mask=cells == len(self.distinct)))
        places = table.places([position for position, _ in first])
        return tuple(zip(places, (written or _written)(values), strict=True))


def _written(values: pa.Array) -> list[str]:
    """Write values, those too that Python cannot hold: a day after the year 9999."""
    try:
        return [show(value) for value in values.to_pylist()]
    except (ValueError, OverflowError, pa.ArrowException):
        return [show(value) for value in values.cast(pa.string()).to_pylist()]


def plain(array: pa.Array) -> pa.Array:
    """Return UUIDs as text, fixed bytes as bytes, and text that is not UTF-8 as bytes."""
    if array.type == pa.uuid():
        return pa.array([value and str(value) for value in array.to_pylist()], pa.string())
    if pa.types.is_fixed_size_binary(array.type):
        return array.cast(pa.binary())
    if isinstance(array, pa.ExtensionArray):
        return plain(array.storage)
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        try:
            array.validate(full=True)
        except pa.ArrowInvalid:
            return array.cast(pa.large_binary())
    elif pa.types.is_string_view(array.type):
        return plain(array.cast(pa.binary_view()).cast(pa.large_binary()))
    elif pa.types.is_binary_view(array.type):
        return array.cast(pa.large_binary())
    return array


def text_column(table: Table, name: str, missing: Collection[str], problems: Problems) -> Cells:
    """Return the column as text, without blanks and quotes around it, with null for missing values.

    Whole numbers that were stored as floats ("123.0", because a value was missing) become "123" again.
    """
    if is_plain_integers(table, name, missing):
        return table.as_number(name, "varchar")
    column = table.distinct(name)
    return table.meaning(column, as_values(column, missing, problems))


def as_values(column: Column, missing: Collection[str], problems: Problems) -> pa.Array:
    """Return the distinct values as `text_column` describes them."""
    texts = emptied(without_apostrophes(as_text(column, problems)), missing)
    whole = matches(texts, WHOLE_WITH_POINT)
    return without_point_zero(texts, whole) if (whole | np.asarray(texts.is_null())).all() else texts


def is_plain_integers(table: Table, name: str, missing: Collection[str]) -> bool:
    """Are the cells integers, none of which is a word for nothing?"""
    kind = table.schema.field(name).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    words = {word.strip() for word in missing}
    return (
        (pa.types.is_integer(kind) or name in table.integers)
        and name not in table.dictionaries
        and not any(word.lstrip("-").isdecimal() for word in words)
    )


def as_text(column: Column, problems: Problems) -> pa.Array:
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


def _whole_numbers(column: Column, problems: Problems) -> pa.Array:
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


@dataclass(frozen=True)
class Numbers:
    """A column of plain numbers below 10^15."""

    cells: Cells  # of any type of numbers
    negative: bool  # some are
    positive: bool  # all are
    whole: bool  # no one has a fraction


def number_column(
    table: Table, name: str, problems: Problems, refuse_negative: Callable[[Column, pa.Array], None] | None
) -> Numbers:
    """Return the column as numbers; reports cells that hold none, and calls `refuse_negative` for others."""
    facts = table.facts.get(name)
    if facts and not facts.nulls and facts.least is not None and facts.most is not None:
        least, most = facts.least, facts.most
        clean = abs(least) < LARGEST_NUMBER and abs(most) < LARGEST_NUMBER
        if clean and not (least < 0 and refuse_negative):
            return Numbers(table.as_number(name), least < 0, least > 0, facts.whole)
    column = table.distinct(name)
    values = _numbers(column, problems)
    bad = np.append(~(np.abs(values) < LARGEST_NUMBER), True)
    what = f'column "{name}" holds no number'
    way_out = "write plain numbers below 10^15, 1.5 and not 1,500; no empty cells"
    column.refuse(bad, column.distinct, what, way_out, problems)
    good = values[~bad[:-1]]
    if refuse_negative:
        refuse_negative(column, pa.array(np.where(bad[:-1], np.nan, values)))
    cells = table.meaning(column, pa.array(values, mask=bad[:-1]))
    return Numbers(cells, bool((good < 0).any()), bool((good > 0).all()), bool((good % 1 == 0).all()))


def _numbers(column: Column, problems: Problems) -> NDArray[np.float64]:
    array = column.distinct
    if pa.types.is_integer(array.type) or pa.types.is_floating(array.type) or pa.types.is_decimal(array.type):
        return np.asarray(array.cast(pa.float64(), safe=False))
    texts = _with_points(as_values(column, (), problems))
    numbers = pd.to_numeric(pd.Series(texts.to_pandas(), dtype="str"), errors="coerce")
    return numbers.to_numpy(np.float64)


def _with_points(texts: pa.Array) -> pa.Array:
    """Turn decimal commas into points; not if a point occurs, or if all commas may part thousands."""
    with_comma = matches(texts, ",")
    if not with_comma.any() or matches(texts, "[.]").any():
        return texts
    if matches(texts.filter(pa.array(with_comma)), THOUSANDS).all():
        return texts
    return pc.replace_substring(texts, ",", ".")
