"""Finds the header again among the rows of a table: files were joined, and each brought its own."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from export_scripts.receipts.problems import SHOWN_ROWS, Problem, Problems, listed
from export_scripts.receipts.tables import Table
from export_scripts.receipts.written import Bools, bare_cells

LOOKED_AT = 3  # columns: a header has the names of all, and one of three may be written in another way


def without_repeated_headers(table: Table, problems: Problems) -> Table:
    """Pass over rows that repeat the header, with a warning. Reports rows that are another header."""
    found = _candidates(table)
    if not found.any():
        return table
    rows, columns = table.rows[found], table.data.filter(pa.array(found)).columns
    names = [name.casefold() for name in table.data.column_names]
    cells = [_cells(column) for column in columns]
    same = np.all([np.asarray(pc.equal(c, name)) for c, name in zip(cells, names, strict=True)], axis=0)
    known = np.sum([np.asarray(pc.is_in(c, pa.array(names, c.type))) for c in cells], axis=0)
    other = ~same & (2 * known > len(names))
    if other.any():
        first = np.flatnonzero(other)[:SHOWN_ROWS]
        shown = tuple((int(rows[i]), listed([c[int(i)].as_py() for c in cells])) for i in first)
        what = "rows that are another header: columns in another order or with other names"
        way_out = "give all files the same columns in the same order before you join them"
        problems.add(Problem(table.name, what, way_out, shown, int(other.sum())))
    if not same.any():
        return table
    numbers = ", ".join(map(str, rows[same][:SHOWN_ROWS])) + (", …" if same.sum() > SHOWN_ROWS else "")
    what = (
        "1 row repeats the header and is"
        if same.sum() == 1
        else f"{same.sum():,} rows repeat the header and are"
    )
    problems.warn(f"{table.name}: {what} passed over (row {numbers})")
    keep = np.ones(len(found), dtype=bool)
    keep[np.flatnonzero(found)[same]] = False
    return Table(table.name, table.data.filter(pa.array(keep)), table.rows[keep], table.repaired)


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
