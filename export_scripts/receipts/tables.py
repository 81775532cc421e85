"""Reads a shop's csv and parquet files and gives their columns as text or numbers; reports every bad row.

`times.py` reads columns of times.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from export_scripts.receipts.problems import Problem, Problems

Bools = NDArray[np.bool_]

SHOWN_ROWS = 5  # enough to see the pattern, few enough to read
DELIMITERS = (",", ";", "\t", "|")
# Width of a float type → bits of its significand: larger integers than 2 to this power are rounded.
SIGNIFICAND_BITS = {16: 11, 32: 24, 64: 53}
WORKBOOKS = {b"PK\x03\x04", b"\xd0\xcf\x11\xe0"}  # first bytes of xlsx and xls


@dataclass(frozen=True)
class Table:
    """One file in memory. Columns from parquet have their stored types; all columns from csv are text."""

    name: str
    data: pa.Table
    rows: NDArray[np.int64]  # (n,) row numbers in the file; the header of a csv is row 1, parquet starts at 1
    repaired: bool = False  # bytes that are not UTF-8 became U+FFFD, so that their rows can be reported

    def column(self, name: str) -> pa.Array:
        """Return the column as one array, with dictionaries decoded and UUIDs as text."""
        array = self.data.column(name).combine_chunks()
        if array.type == pa.uuid():
            return pa.array([value and str(value) for value in array.to_pylist()], pa.string())
        if pa.types.is_fixed_size_binary(array.type):
            return array.cast(pa.binary())
        return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array

    def refuse(
        self, bad: Bools, values: pa.Array | pd.Series, what: str, way_out: str, problems: Problems
    ) -> None:
        """Report the rows where `bad` (n,) is true, if any, with the first of their `values` (n,)."""
        if not bad.any():
            return
        first = np.flatnonzero(bad)[:SHOWN_ROWS]
        if isinstance(values, pd.Series):
            shown = [show(value) for value in values.iloc[first]]
        else:
            shown = [show(value) for value in values.take(pa.array(first)).to_pylist()]
        rows = tuple(zip(self.rows[first].tolist(), shown, strict=True))
        problems.add(Problem(self.name, what, way_out, rows, int(bad.sum())))


def show(value: object) -> str:
    """Write a cell for an error message: short and on one line."""
    if value is None or value is pd.NaT or value != value or value in ("", b""):
        return "(empty)"
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    text = f'"{text}"' if isinstance(value, str | bytes) else text
    text = text.encode("unicode_escape").decode("ascii") if not text.isprintable() else text
    return text if len(text) <= 60 else text[:57] + "…"


def read_table(path: Path, problems: Problems) -> Table | None:
    """Read a csv (.csv .tsv .txt, also .gz) or parquet file.

    Returns None and adds a problem if the file cannot be read.
    """
    if path.is_dir():
        problems.add(Problem(path.name, f"it is a folder: {path}", "join its files into one file"))
        return None
    if not path.is_file():
        problems.add(Problem(path.name, f"no such file: {path}", "check the path"))
        return None
    if path.stat().st_size == 0:
        problems.add(Problem(path.name, "the file is empty", "export it again, with a header line"))
        return None
    try:
        table = _read_parquet(path) if _is_parquet(path) else _read_csv(path, problems)
    except (pa.ArrowException, csv.Error, OSError, UnicodeError, EOFError) as error:
        reason = str(error).strip().splitlines()[0]
        way_out = "give a csv (UTF-8, header line; also .csv.gz) or a parquet file"
        problems.add(Problem(path.name, f"the file cannot be read: {reason}", way_out))
        return None
    names = table.data.column_names
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        what = f"columns listed twice: {', '.join(repeated)}"
        problems.add(Problem(path.name, what, "rename or remove one of each"))
        return None
    if table.data.num_rows == 0:
        unreadable = any(problem.table == path.name for problem in problems.collected)
        if not unreadable:  # else there are rows, and their problem is reported
            problems.add(Problem(path.name, "the table has a header but no rows", "export it again"))
        return None
    return table


def _is_parquet(path: Path) -> bool:
    """Decide by the name or by the first bytes, because files get renamed."""
    return path.suffix.lower() in {".parquet", ".pq"} or _first_bytes(path) == b"PAR1"


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)


def _read_parquet(path: Path) -> Table:
    data = pa.parquet.read_table(path, coerce_int96_timestamp_unit="us")  # years after 2262 wrap in ns
    return Table(path.name, data, np.arange(1, data.num_rows + 1))


def _read_csv(path: Path, problems: Problems) -> Table:
    first = _first_bytes(path)
    if first in WORKBOOKS:
        raise OSError("it is an Excel workbook or a zip file")
    gzipped = first.startswith(b"\x1f\x8b")  # the name need not say so
    with pa.input_stream(path, compression="gzip" if gzipped else "detect") as stream:
        content = stream.read()
    if content[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        raise UnicodeError("it is UTF-16, not UTF-8")
    content = content.removeprefix(b"\xef\xbb\xbf")  # Excel's "CSV UTF-8" starts with a byte order mark
    repaired = not _is_utf8(content)
    if repaired:
        content = content.decode("utf-8", "replace").encode()
    delimiter = sniff_delimiter(content[:65_536].decode("utf-8", "replace"))
    broken: list[pa.csv.InvalidRow] = []

    def keep_reading(row: pa.csv.InvalidRow) -> str:
        broken.append(row)
        return "skip"

    data = pa.csv.read_csv(
        pa.BufferReader(content),
        # Broken rows carry their number only with one thread and without skipped blank lines.
        read_options=pa.csv.ReadOptions(use_threads=False, block_size=1 << 24),
        parse_options=pa.csv.ParseOptions(
            delimiter=delimiter,
            newlines_in_values=True,
            ignore_empty_lines=False,
            invalid_row_handler=keep_reading,
        ),
        convert_options=pa.csv.ConvertOptions(
            column_types=dict.fromkeys(_header(content, delimiter), pa.string()),  # ids keep their zeros
            strings_can_be_null=False,
        ),
    )
    data = data.rename_columns([name.strip() for name in data.column_names])
    # Delimiters at the ends of lines make columns without a name.
    data = data.select([i for i, name in enumerate(data.column_names) if name])
    rows = np.setdiff1d(np.arange(2, data.num_rows + len(broken) + 2), [row.number for row in broken])
    blank = _blank_rows(data)
    table = Table(path.name, data.filter(pa.array(~blank)), rows[~blank], repaired)
    ragged = [row for row in broken if row.text.strip()]
    if ragged:
        problems.add(_problem_of_ragged_rows(path.name, ragged, delimiter))
    elif _has_line_breaks(data) and (line := _unmatched_quote(content, delimiter)):
        what = f"quotes that do not match in the row of line {line}: all text after it becomes one value"
        problems.add(Problem(path.name, what, "close each quote; write a quote within a value twice"))
    return table


def _header(content: bytes, delimiter: str) -> list[str]:
    text = io.TextIOWrapper(io.BytesIO(content[: 1 << 20]), encoding="utf-8", errors="replace", newline="")
    return next(csv.reader(text, delimiter=delimiter), [])


def _blank_rows(data: pa.Table) -> Bools:
    """Mark rows (n,) without any value; spreadsheets write hundreds of them below the last row."""
    blank = np.ones(data.num_rows, dtype=bool)
    for column in data.columns:
        blank &= np.asarray(pc.binary_length(column.cast(pa.string())).fill_null(0)) == 0
    return blank


def _has_line_breaks(data: pa.Table) -> bool:
    return any(pc.any(pc.match_substring(column.cast(pa.string()), "\n")).as_py() for column in data.columns)


def _unmatched_quote(content: bytes, delimiter: str) -> int:
    """Return the first line of the row in which a quote never closes or closes within a value; 0 for none.

    Arrow reads on to the next quote or to the end of the file, and drops the rows between without an error.
    """
    text = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", newline="")
    rows, start = csv.reader(text, delimiter=delimiter, strict=True), 1
    try:
        for _ in rows:
            start = rows.line_num + 1
    except csv.Error:
        return start
    return 0


def _problem_of_ragged_rows(name: str, rows: list[pa.csv.InvalidRow], delimiter: str) -> Problem:
    expected = rows[0].expected_columns
    return Problem(
        name,
        f"rows without the {expected} cells of the header (delimiter {delimiter!r})",
        "the first line must be the header; "
        "put values that contain the delimiter in double quotes, and close each quote",
        tuple((row.number, f"{row.actual_columns} cells: {show(row.text)}") for row in rows[:SHOWN_ROWS]),
        len(rows),
    )


def sniff_delimiter(head: str) -> str:
    """Return the delimiter that cuts each of the first lines into the same, largest number of cells."""
    lines = [line for line in head.splitlines()[:20] if line.strip()]

    def cells(delimiter: str) -> tuple[bool, int]:
        counts = [len(row) for row in csv.reader(lines, delimiter=delimiter)]
        return counts[0] > 1 and len(set(counts)) == 1, counts[0]

    return max(DELIMITERS, key=cells) if lines else ","


def text_column(table: Table, name: str, missing: Collection[str], problems: Problems) -> pd.Series[str]:
    """Return the column as (n,) str, stripped, with NaN for missing values.

    Whole numbers that were stored as floats ("123.0", because a value was missing) become "123" again.
    """
    array, repaired = table.column(name), table.repaired
    if pa.types.is_binary(array.type) or pa.types.is_large_binary(array.type):
        array, repaired = _decode(array)
    elif pa.types.is_floating(array.type):
        array = _whole_numbers(table, name, array, problems)
    elif pa.types.is_nested(array.type):
        what = f'column "{name}" holds {array.type} values'
        problems.add(Problem(table.name, what, "flatten it to one plain value per row"))
        array = pa.nulls(len(array))
    text = pc.utf8_trim_whitespace(array.cast(pa.large_string()))
    if repaired:
        bad = np.asarray(pc.match_substring(text, "\ufffd").fill_null(False))
        way_out = "save the file as UTF-8 (Excel: CSV UTF-8)" if table.repaired else "store it as text"
        table.refuse(bad, text, f'column "{name}" is not valid UTF-8', way_out, problems)
    text = pc.if_else(pc.is_in(text, pa.array(["", *missing], pa.large_string())), None, text)
    if pc.all(pc.match_substring_regex(text, r"^-?[0-9]+\.0+$")).as_py():
        text = pc.replace_substring_regex(text, r"\.0+$", "")
    return pd.Series(text.to_pandas(), dtype="str")


def _decode(array: pa.Array) -> tuple[pa.Array, bool]:
    """Return the bytes as text, and whether some were not UTF-8 and became U+FFFD."""
    try:
        return array.cast(pa.large_string()), False
    except pa.ArrowInvalid:
        values = [None if value is None else value.decode("utf-8", "replace") for value in array.to_pylist()]
        return pa.array(values, pa.large_string()), True


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _whole_numbers(table: Table, name: str, array: pa.Array, problems: Problems) -> pa.Array:
    values = array.to_numpy(zero_copy_only=False).astype(np.float64)
    bits = SIGNIFICAND_BITS[array.type.bit_width]
    bad = np.abs(values) >= 2**bits  # the power itself may be a rounded neighbour
    what = f'column "{name}" is a {array.type} column with values of 2^{bits} or more: last digits are lost'
    table.refuse(bad, array, what, "store ids as text or integers", problems)
    if bad.any():
        return pa.nulls(len(array), pa.large_string())
    finite = pd.Series(values).where(np.isfinite(values))
    if (finite.dropna() % 1 == 0).all():
        return pa.array(finite.astype("Int64"))
    return pa.array(finite.astype("str"))


def number_column(table: Table, name: str, problems: Problems) -> pd.Series[float]:
    """Return the column as (n,) float64; reports cells that hold no finite number and makes them NaN."""
    array = table.column(name)
    values: pd.Series[float]
    if pa.types.is_integer(array.type) or pa.types.is_floating(array.type) or pa.types.is_decimal(array.type):
        values = pd.Series(array.cast(pa.float64(), safe=False).to_pandas(), dtype=np.float64)
    else:
        values = pd.to_numeric(text_column(table, name, (), problems), errors="coerce").astype(np.float64)
    with np.errstate(over="ignore"):  # reported below
        bad = ~np.isfinite(values.astype(np.float32).to_numpy())
    what = f'column "{name}" holds no number'
    table.refuse(bad, array, what, "write plain numbers, 1.5 and not 1,5; no empty cells", problems)
    return values.mask(bad)
