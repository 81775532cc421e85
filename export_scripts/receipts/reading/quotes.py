"""Checks the quotes of a csv: an unclosed one makes one value of all text up to the next one, silently."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from export_scripts.receipts.reading.csv_text import CsvText
from export_scripts.receipts.reading.parts import Part
from export_scripts.receipts.written import Bools

CLOSE_QUOTES = "close each quote; write a quote within a value twice"
LONGEST_ROW = 1 << 22  # bytes, of a block: Arrow reads up to 32 of them ahead
QUOTE = ord('"')
LINE_ENDS = (ord("\n"), ord("\r"))


class UnmatchedQuotes(Exception):  # noqa: N818 - "except UnmatchedQuotes" reads
    """A quote never closes, or text follows it."""

    def __init__(self, line: int) -> None:
        """`line` is the first one of the row."""
        super().__init__(
            f"quotes that do not match in the row of line {line}: one never closes, or text follows it"
        )


def check_quotes(part: Part, delimiter: str) -> None:
    """Read the part once more, and raise UnmatchedQuotes if a quote never closes or closes within a value."""
    with CsvText(part) as text:
        if _all_in_place(text, delimiter):
            return
    with CsvText(part) as text:
        if line := _unmatched_quote(text, delimiter):
            raise UnmatchedQuotes(line)


def _unmatched_quote(text: CsvText, delimiter: str) -> int:
    """Return the first line of the row in which a quote never closes or closes within a value; 0 for none."""
    rows, start = csv.reader(_lines(text, delimiter), delimiter=delimiter, strict=True), 1
    with _longest_row():
        try:
            for _ in rows:
                start = rows.line_num + 1
        except csv.Error:
            return start
    return 0


def _lines(text: CsvText, delimiter: str) -> Iterator[str]:
    """Yield the lines without blanks behind quotes, up to one that is longer than a row may be."""
    blank_after = re.compile(rf'"[ \t]+(?=[{re.escape(delimiter)}\r\n]|\Z)')
    lines = io.TextIOWrapper(cast("IO[bytes]", text), encoding="utf-8", newline="")
    while (line := lines.readline(LONGEST_ROW)) and len(line) < LONGEST_ROW:
        yield blank_after.sub('"', line) if '"' in line else line


def _all_in_place(text: CsvText, delimiter: str) -> bool:
    """Do quotes open only at the start of a value, and close only at its end?"""
    neighbours = [QUOTE, ord(delimiter), *LINE_ENDS]  # a quote beside a quote is a quote within the value
    is_open, ends_with_quote = False, False
    last = np.array(LINE_ENDS[:1], np.uint8)  # the ends of a file count as ends of lines
    while piece := text.read(LONGEST_ROW):
        letters = np.concatenate([last, np.frombuffer(piece, np.uint8)])
        quotes = np.flatnonzero(letters[1:] == QUOTE) + 1
        opening, closing = quotes[int(is_open) :: 2], quotes[1 - int(is_open) :: 2]
        beside = [letters[opening - 1], letters[closing[closing + 1 < len(letters)] + 1]]
        if ends_with_quote:
            beside.append(letters[1:2])
        if not np.isin(np.concatenate(beside), neighbours).all():
            return False
        is_open ^= len(quotes) % 2 == 1
        ends_with_quote = bool(letters[-1] == QUOTE) and not is_open
        last = letters[-1:]
    return not is_open


@contextmanager
def _longest_row() -> Iterator[None]:
    before = csv.field_size_limit(LONGEST_ROW)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def has_line_breaks(batch: pa.RecordBatch) -> bool:
    """Does a value hold the end of a line? The batch has text columns, as they are read from a csv."""
    for column in batch.columns:
        if values := column.buffers()[2]:
            letters = np.frombuffer(values, np.uint8)
            if any(bool((letters == end).any()) for end in LINE_ENDS):
                return True
    return False


def swallowed_rows(data: pa.RecordBatch, delimiter: str) -> tuple[Bools, pa.Array]:
    """Mark rows (n,) with a value made of the end of one row, whole rows and the start of another.

    Two quotes that do not match do that. Also returns such a value of each row (n,).
    """
    swallowed, shown = np.zeros(data.num_rows, dtype=bool), pa.nulls(data.num_rows, pa.string())
    for before, texts in enumerate(data.columns):
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
