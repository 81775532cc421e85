"""Checks the quotes of a csv: an unclosed one makes one value of all text up to the next one, silently."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from export_scripts.receipts.written import Bools

QUOTE = ord('"')
LINE_ENDS = (ord("\n"), ord("\r"))


def unmatched_quote(content: bytes, delimiter: str) -> int:
    """Return the first line of the row in which a quote never closes or closes within a value; 0 for none."""
    if _all_in_place(content, delimiter):
        return 0
    blank_after = re.compile(rf'"[ \t]+(?=[{re.escape(delimiter)}\r\n]|\Z)'.encode())
    text = io.TextIOWrapper(io.BytesIO(blank_after.sub(b'"', content)), encoding="utf-8", newline="")
    rows, start = csv.reader(text, delimiter=delimiter, strict=True), 1
    with _values_of_any_length(len(content)):
        try:
            for _ in rows:
                start = rows.line_num + 1
        except csv.Error:
            return start
    return 0


def _all_in_place(content: bytes, delimiter: str) -> bool:
    """Do quotes open only at the start of a value, and close only at its end?"""
    letters = np.frombuffer(content, np.uint8)
    quotes = np.flatnonzero(letters == QUOTE)
    opening, closing = quotes[::2], quotes[1::2]
    neighbours = [QUOTE, ord(delimiter), *LINE_ENDS]  # a quote beside a quote is a quote within the value
    return (
        len(opening) == len(closing)
        and bool(np.isin(_at(letters, opening - 1), neighbours).all())
        and bool(np.isin(_at(letters, closing + 1), neighbours).all())
    )


def _at(letters: NDArray[np.uint8], places: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the letters at these places; the ends of a file count as ends of lines."""
    inside = (places >= 0) & (places < len(letters))
    return np.where(inside, letters[np.where(inside, places, 0)], LINE_ENDS[0])


@contextmanager
def _values_of_any_length(most: int) -> Iterator[None]:
    before = csv.field_size_limit(max(most, csv.field_size_limit()))
    try:
        yield
    finally:
        csv.field_size_limit(before)


def swallowed_rows(data: pa.Table, delimiter: str) -> tuple[Bools, pa.Array]:
    """Mark rows (n,) with a value made of the end of one row, whole rows and the start of another.

    Two quotes that do not match do that. Also returns such a value of each row (n,).
    """
    swallowed, shown = np.zeros(data.num_rows, dtype=bool), pa.nulls(data.num_rows, pa.string())
    for before, column in enumerate(data.columns):
        texts = column.cast(pa.string()).combine_chunks()
        cells = pc.count_substring(texts, delimiter)
        for end in ("\n", "\r"):
            ends = pc.count_substring(texts, end)
            alike = np.asarray(pc.equal(cells, pc.multiply(ends, data.num_columns - 1)).fill_null(False))
            alike &= np.asarray(pc.greater(ends, 0).fill_null(False))
            for row in np.flatnonzero(alike):
                lines = [line.count(delimiter) for line in texts[int(row)].as_py().split(end)]
                alike[row] = lines[0] + before == data.num_columns - 1 and lines[-1] == before
            swallowed |= alike
            shown = pc.if_else(pa.array(alike), texts, shown)
    return swallowed, shown
