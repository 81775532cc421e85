"""Finds the header again among the rows of a table: files were joined, and each brought its own."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from export_scripts.receipts.problems import SHOWN_ROWS, Problem, Problems, listed
from export_scripts.receipts.tables import Table
from export_scripts.receipts.written import Bools, bare_cells

RULE = "^[-=]{2,}$"
LOOKED_AT = 3  # columns: a header has the names of all, and one of three may be written in another way


def without_repeated_headers(table: Table, problems: Problems) -> Table:
    """Pass over rows that repeat or underline the header, with a warning.

    Reports rows that are another header.
    """
    table = _without_rules(table, problems)
    found = _candidates(table)
    if not found.any():
        return table
    rows, columns = table.rows[found], table.data.filter(pa.array(found)).columns
    names = [name.casefold() for name in table.data.column_names]
    cells = [_cells(column) for column in columns]
    same: Bools = np.all(
        [np.asarray(pc.equal(c, name)) for c, name in zip(cells, names, strict=True)], axis=0
    )
    known = np.sum([np.asarray(pc.is_in(c, pa.array(names, c.type))) for c in cells], axis=0)
    other = ~same & (2 * known > len(names))
    if other.any():
        first = np.flatnonzero(other)[:SHOWN_ROWS]
        shown = tuple((int(rows[i]), listed([c[int(i)].as_py() for c in cells])) for i in first)
        what = "rows that are another header: columns in another order or with other names"
        way_out = "give all files the same columns in the same order before you join them"
        problems.add(Problem(table.name, what, way_out, shown, int(other.sum())))
    repeated = np.zeros(len(found), dtype=bool)
    repeated[np.flatnonzero(found)[same]] = True
    return _without(table, repeated, ("repeats the header", "repeat the header"), problems)


def _without_rules(table: Table, problems: Problems) -> Table:
    """Pass over rows of dashes, which some databases print below the header."""
    if not table.data.num_columns or not pa.types.is_string(table.data.column(0).type):
        return table
    first = table.data.column(0)
    found = np.asarray(pc.or_(pc.starts_with(first, "--"), pc.starts_with(first, "==")).fill_null(False))
    if found.any():
        columns = [
            c.cast(pa.string()) for c in table.data.filter(pa.array(found)).columns if _is_plain(c.type)
        ]
        ruled = [np.asarray(pc.match_substring_regex(c, RULE).fill_null(False)) for c in columns]
        found[found] = np.all(ruled, axis=0)
    return _without(table, found, ("underlines the header", "underline the header"), problems)


def _is_plain(kind: pa.DataType) -> bool:
    return not pa.types.is_nested(kind) and not pa.types.is_binary(kind)


def _without(table: Table, bad: Bools, does: tuple[str, str], problems: Problems) -> Table:
    """Leave out rows (n,), with a warning that says what one row and several rows do."""
    count = int(bad.sum())
    if not count:
        return table
    numbers = ", ".join(map(str, table.rows[bad][:SHOWN_ROWS])) + (", …" if count > SHOWN_ROWS else "")
    what = f"1 row {does[0]} and is" if count == 1 else f"{count:,} rows {does[1]} and are"
    problems.warn(f"{table.name}: {what} passed over (row {numbers})")
    return Table(table.name, table.data.filter(pa.array(~bad)), table.rows[~bad], table.repaired)


def _candidates(table: Table) -> Bools:
    """Mark rows (n,) in which one of the first columns of text holds the name of a column."""
    written = {form for name in table.data.column_names for form in (name, name.lower(), name.upper())}
    names = pa.array(sorted(written), pa.string())
    found = np.zeros(table.data.num_rows, dtype=bool)
    text = [column for column in table.data.columns if pa.types.is_string(column.type)]
    for column in text[:LOOKED_AT]:
        found |= np.asarray(pc.is_in(column, names))
    return found


def _cells(column: pa.ChunkedArray) -> pa.Array:
    """Return the cells as names of columns are compared; "" for what is no text."""
    if not pa.types.is_string(column.type):
        return pa.array([""] * len(column), pa.large_string())
    texts = bare_cells(column.combine_chunks().cast(pa.large_string()).fill_null(""))
    return pa.array([text.casefold() for text in texts.to_pylist()], pa.large_string())
