"""Finds the header again among the rows of a table: files were joined, and each brought its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from export_scripts.receipts.problems import SHOWN_ROWS, BadRows, Problem, Problems, listed
from export_scripts.receipts.written import Bools, bare_cells

RULE = "^[-=]{2,}$"
LOOKED_AT = 3  # columns: a header has the names of all, and one of three may be written in another way

Rows = NDArray[np.int64]
Place = Callable[[int], int | str]


@dataclass
class HeaderFindings:
    """Rows of a table that are no rows of data: the header again, its underline, or another header."""

    rules: BadRows = field(default_factory=BadRows)
    repeated: BadRows = field(default_factory=BadRows)
    other: BadRows = field(default_factory=BadRows)

    def join(self, later: HeaderFindings, base: int) -> None:
        """Add those of a later part, whose row numbers begin at `base`."""
        self.rules.join(later.rules, base)
        self.repeated.join(later.repeated, base)
        self.other.join(later.other, base)

    def report(self, name: str, place: Place, problems: Problems) -> None:
        """Warn of what was passed over, and report rows that are another header."""
        _warn(name, self.rules, ("underlines the header", "underline the header"), place, problems)
        if self.other.count:
            shown = tuple((place(row), text) for row, text in self.other.first)
            what = "rows that are another header: columns in another order or with other names"
            way_out = "give all files the same columns in the same order before you join them"
            problems.add(Problem(name, what, way_out, shown, self.other.count))
        _warn(name, self.repeated, ("repeats the header", "repeat the header"), place, problems)


class RepeatedHeaders:
    """Takes rows that repeat or underline the header out of a stream; finds rows that are another header."""

    def __init__(self, names: Sequence[str], found: HeaderFindings) -> None:
        """`names` are those of the columns of each batch; what is met is added to `found`."""
        self._names = [name.casefold() for name in names]
        self._written = pa.array(names_as_written(names), pa.string())
        self._found = found

    def without(self, batch: pa.RecordBatch, rows: Rows) -> tuple[pa.RecordBatch, Rows]:
        """Return the batch without them, and the numbers (n,) of its rows."""
        batch, rows = _without(batch, rows, _rules(batch), self._found.rules)
        return _without(batch, rows, self._headers(batch, rows), self._found.repeated)

    def _headers(self, batch: pa.RecordBatch, rows: Rows) -> Bools:
        """Mark rows (n,) that repeat the header."""
        found = self._candidates(batch)
        if not found.any():
            return found
        cells = [_cells(column) for column in batch.filter(pa.array(found)).columns]
        same: Bools = np.all(
            [np.asarray(pc.equal(c, name)) for c, name in zip(cells, self._names, strict=True)], axis=0
        )
        known = np.sum([np.asarray(pc.is_in(c, pa.array(self._names, c.type))) for c in cells], axis=0)
        numbers = rows[found]
        for i in np.flatnonzero(~same & (2 * known > len(self._names))):
            self._found.other.add(int(numbers[i]), partial(_shown, cells, int(i)))
        found[found] = same
        return found

    def _candidates(self, batch: pa.RecordBatch) -> Bools:
        """Mark rows (n,) in which one of the first columns of text holds the name of a column."""
        found = np.zeros(batch.num_rows, dtype=bool)
        text = [column for column in batch.columns if pa.types.is_string(column.type)]
        for column in text[:LOOKED_AT]:
            found |= np.asarray(pc.is_in(column, self._written))
        return found


def names_as_written(names: Sequence[str]) -> list[str]:
    """Return the names as a repeated header may write them."""
    return sorted({form for name in names for form in (name, name.lower(), name.upper())})


def _shown(cells: Sequence[pa.Array], row: int) -> str:
    return listed([column[row].as_py() for column in cells])


def _rules(batch: pa.RecordBatch) -> Bools:
    """Mark rows (n,) of dashes, which some databases print below the header."""
    if not batch.num_columns or not pa.types.is_string(batch.column(0).type):
        return np.zeros(batch.num_rows, dtype=bool)
    first = batch.column(0)
    found = np.asarray(pc.or_(pc.starts_with(first, "--"), pc.starts_with(first, "==")).fill_null(False))
    if found.any():
        columns = [c.cast(pa.string()) for c in batch.filter(pa.array(found)).columns if _is_plain(c.type)]
        ruled = [np.asarray(pc.match_substring_regex(c, RULE).fill_null(False)) for c in columns]
        found = found.copy()
        found[found] = np.all(ruled, axis=0)
    return found


def _is_plain(kind: pa.DataType) -> bool:
    return not pa.types.is_nested(kind) and not pa.types.is_binary(kind)


def _without(batch: pa.RecordBatch, rows: Rows, bad: Bools, found: BadRows) -> tuple[pa.RecordBatch, Rows]:
    if not bad.any():
        return batch, rows
    for row in rows[bad]:
        found.add(int(row), str)
    return batch.filter(pa.array(~bad)), rows[~bad]


def _warn(name: str, found: BadRows, does: tuple[str, str], place: Place, problems: Problems) -> None:
    """Say what one row and several rows do, if there are any."""
    if not found.count:
        return
    numbers = ", ".join(str(place(row)) for row, _ in found.first)
    numbers += ", …" if found.count > SHOWN_ROWS else ""
    what = f"1 row {does[0]} and is" if found.count == 1 else f"{found.count:,} rows {does[1]} and are"
    problems.warn(f"{name}: {what} passed over (row {numbers})")


def _cells(column: pa.Array) -> pa.Array:
    """Return the cells as names of columns are compared; "" for what is no text."""
    if not pa.types.is_string(column.type):
        return pa.array([""] * len(column), pa.large_string())
    texts = bare_cells(column.cast(pa.large_string()).fill_null(""))
    return pa.array([text.casefold() for text in texts.to_pylist()], pa.large_string())
