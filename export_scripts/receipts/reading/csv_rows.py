"""The rows of a csv in a stream, with the number of each; what is no row is collected for the messages."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from ensemble.candidate_sampler.blanks import trimmed
from export_scripts.receipts.problems import BadRows, Problem, Problems, show
from export_scripts.receipts.reading.csv_text import CsvText
from export_scripts.receipts.reading.parts import Part
from export_scripts.receipts.reading.places import first_row
from export_scripts.receipts.reading.quotes import (
    CLOSE_QUOTES,
    LONGEST_ROW,
    check_quotes,
    has_line_breaks,
    swallowed_rows,
)
from export_scripts.receipts.written import Bools, bare

DELIMITERS = (",", ";", "\t", "|")
LONGEST_NAME = 1 << 17  # letters


@dataclass
class CsvFindings:
    """What the parts of a csv hold beside rows."""

    ragged: BadRows = field(default_factory=BadRows)
    swallowed: BadRows = field(default_factory=BadRows)
    cells: int = 0  # of the header, where the first ragged row is
    delimiter: str = ""  # the same
    repaired: bool = False  # bytes that are not UTF-8 became U+FFFD

    def join(self, later: CsvFindings, base: int) -> None:
        """Add what a later part holds, whose row numbers begin at `base`."""
        if not self.ragged.count:
            self.cells, self.delimiter = later.cells, later.delimiter
        self.ragged.join(later.ragged, base)
        self.swallowed.join(later.swallowed, base)
        self.repaired |= later.repaired

    def report(self, name: str, place: Callable[[int], int | str], problems: Problems) -> None:
        """Report ragged rows; else rows that are a part of one value: one can be the cause of the other."""
        found = self.ragged if self.ragged.count else self.swallowed
        if not found.count:
            return
        what, way_out = "quotes that do not match: rows that are one value", CLOSE_QUOTES
        if found is self.ragged:
            what = f"rows without the {self.cells} cells of the header (delimiter {self.delimiter!r})"
            way_out = (
                "the first line must be the header; "
                "put values that contain the delimiter in double quotes, and close each quote"
            )
        rows = tuple((place(row), shown) for row, shown in found.first)
        problems.add(Problem(name, what, way_out, rows, found.count))


class _RowNumbers:
    """Numbers the rows of a part; the header is row 1. Broken rows lie between the good ones."""

    def __init__(self) -> None:
        self._next = 2
        self._broken = array("q")  # numbers that the reader met and that are not yet passed

    def pass_over(self, number: int) -> None:
        self._broken.append(number)

    def take(self, count: int) -> NDArray[np.int64]:
        """Return the numbers of the next `count` good rows."""
        broken = np.asarray(self._broken, np.int64)
        good = np.ones(count + len(broken), dtype=bool)
        good[broken[broken < self._next + len(good)] - self._next] = False
        numbers = np.flatnonzero(good)[:count] + self._next
        if count:
            self._next = int(numbers[-1]) + 1
            self._broken = array("q", broken[broken >= self._next].tolist())
        return numbers


def csv_columns(part: Part) -> list[str]:
    """Return the names of the columns of a csv, with "" for columns without a name.

    Raises UnmatchedQuotes for a first row that never ends.
    """
    with CsvText(part) as text:
        delimiter = sniff_delimiter(text.head)
        names = _names_of_head(text.head, delimiter)
        if not names:
            with _explained(part, delimiter):
                names = _open(pa.PythonFile(text, "r"), delimiter, LONGEST_ROW, _skip).schema.names
    if any(len(name) > LONGEST_NAME for name in names):
        raise OSError(f"its first line is no header: a name has over {LONGEST_NAME:,} letters")
    return [bare(name) for name in names]


def _names_of_head(head: str, delimiter: str) -> list[str]:
    """Return the names of the columns if a row follows them in the head, which is one request to a bucket."""
    broken: list[int] = []

    def pass_over(row: pa.csv.InvalidRow) -> str:
        broken.append(row.number)
        return "skip"

    try:
        reader = _open(pa.BufferReader(head.encode()), delimiter, LONGEST_ROW, pass_over)
        return reader.schema.names if reader.read_all().num_rows or broken else []
    except pa.ArrowInvalid:
        return []


def _skip(row: pa.csv.InvalidRow) -> str:
    return "skip"


def csv_batches(
    part: Part, index: int, found: CsvFindings
) -> Iterator[tuple[pa.RecordBatch, NDArray[np.int64]]]:
    """Yield (rows with all named columns as text, their numbers (n,)) of the part with this index.

    Raises UnmatchedQuotes, maybe after many rows.
    """
    numbers, base = _RowNumbers(), first_row(index)
    ragged_before, has_breaks = found.ragged.count, False
    with CsvText(part) as text:
        delimiter = sniff_delimiter(text.head)

        def pass_over(row: pa.csv.InvalidRow) -> str:
            numbers.pass_over(row.number)
            if trimmed(row.text):
                if not found.ragged.count:
                    found.cells, found.delimiter = row.expected_columns, delimiter
                found.ragged.add(base + row.number, lambda: f"{row.actual_columns} cells: {show(row.text)}")
            return "skip"

        with _explained(part, delimiter):
            reader = _open(pa.PythonFile(text, "r"), delimiter, LONGEST_ROW, pass_over)
            names = [bare(name) for name in reader.schema.names]
            for batch in reader:
                rows = numbers.take(batch.num_rows) + base
                if text.has_quotes and has_line_breaks(batch):
                    has_breaks = True
                    _find_swallowed(batch, delimiter, rows, found.swallowed)
                batch = batch.rename_columns(names)
                # Delimiters at the ends of lines make columns without a name.
                batch = batch.select([i for i, name in enumerate(names) if name])
                blank = _blank_rows(batch)
                yield (batch.filter(pa.array(~blank)), rows[~blank]) if blank.any() else (batch, rows)
        found.repaired |= text.repaired
    if has_breaks and found.ragged.count == ragged_before:
        check_quotes(part, delimiter)


def _open(
    file: pa.NativeFile, delimiter: str, block: int, on_broken: Callable[[pa.csv.InvalidRow], str]
) -> pa.csv.CSVStreamingReader:
    """Read all columns as text: ids keep their zeros. A row is at most as long as a block."""
    return pa.csv.open_csv(
        file,
        # Broken rows carry their number only with one thread and without skipped blank lines.
        read_options=pa.csv.ReadOptions(use_threads=False, block_size=block),
        parse_options=pa.csv.ParseOptions(
            delimiter=delimiter,
            newlines_in_values=True,
            ignore_empty_lines=False,
            invalid_row_handler=on_broken,
        ),
        convert_options=pa.csv.ConvertOptions(
            default_column_type=pa.string(),
            strings_can_be_null=False,
            check_utf8=False,  # the text is UTF-8 already
        ),
    )


@contextmanager
def _explained(part: Part, delimiter: str) -> Iterator[None]:
    """Turn Arrow's errors into UnmatchedQuotes if quotes are the cause, and name what else is known."""
    try:
        yield
    except pa.ArrowInvalid as error:
        check_quotes(part, delimiter)
        if "Empty CSV" in str(error):
            raise OSError("it has no header line") from None
        if "straddling" in str(error):
            raise OSError(f"a row has over {LONGEST_ROW >> 20} MiB") from None
        raise


def _find_swallowed(batch: pa.RecordBatch, delimiter: str, rows: NDArray[np.int64], found: BadRows) -> None:
    swallowed, values = swallowed_rows(batch, delimiter)
    for row in np.flatnonzero(swallowed):
        found.add(int(rows[row]), partial(_shown, values, int(row)))


def _shown(values: pa.Array, row: int) -> str:
    return show(values[row].as_py())


def _blank_rows(batch: pa.RecordBatch) -> Bools:
    """Mark rows (n,) without any value; spreadsheets write hundreds of them below the last row."""
    blank = np.ones(batch.num_rows, dtype=bool)
    for column in batch.columns:
        blank &= np.asarray(pc.equal(pc.binary_length(column), 0))
        if not blank.any():
            break
    return blank


def sniff_delimiter(head: str) -> str:
    """Return the delimiter that cuts each of the first lines into the same, largest number of cells."""
    lines = [line for line in head.splitlines()[:20] if line.strip()]

    def cells(delimiter: str) -> tuple[bool, int]:
        counts = [len(row) for row in csv.reader(lines, delimiter=delimiter)]
        return counts[0] > 1 and len(set(counts)) == 1, counts[0]

    return max(DELIMITERS, key=cells) if lines else ","
