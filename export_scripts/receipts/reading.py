"""Reads a shop's csv and parquet files into tables; reports every row that is none."""

from __future__ import annotations

import csv
import io
import re
from array import array
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from ensemble.candidate_sampler.blanks import trimmed
from export_scripts.receipts.headers import without_repeated_headers
from export_scripts.receipts.problems import SHOWN_ROWS, Problem, Problems, listed, show
from export_scripts.receipts.quotes import swallowed_rows, unmatched_quote
from export_scripts.receipts.tables import Table
from export_scripts.receipts.written import Bools, bare

DELIMITERS = (",", ";", "\t", "|")
FOREIGN = {  # first bytes → what a file is
    b"PK\x03\x04": "an Excel workbook or a zip file",
    b"\xd0\xcf\x11\xe0": "an Excel workbook",
    b"\xfd7zX": "compressed with xz",
    b"PARE": "an encrypted parquet file",
    b"7z\xbc\xaf": "a 7z archive",
    b"SQLi": "an SQLite database",
}
COMPRESSED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2", b"\x04\x22\x4d\x18": "lz4"}
CLOSE_QUOTES = "close each quote; write a quote within a value twice"
MOST_TIMES, MOST_UNPACKED = 200, 1 << 28  # receipts shrink to a tenth; from 256 MiB on, bytes count
ROWS_PER_BYTE, MOST_ROWS = 10, 10**7  # of parquet: from ten million rows on, bytes count
LONGEST_VALUE = 1 << 24  # bytes: an unclosed quote longer than this is found at once


def read_table(path: Path, problems: Problems) -> Table | None:
    """Read a csv (.csv .tsv .txt, also .gz) or parquet file.

    Returns None and adds a problem if the file cannot be read.
    """
    try:
        if found := _problem_of_path(path):
            problems.add(found)
            return None
        if (first := _first_bytes(path)) in FOREIGN:
            raise OSError(f"it is {FOREIGN[first]}")
        table = _read_parquet(path) if _is_parquet(path) else _read_csv(path, problems)
    except (pa.ArrowException, csv.Error, OSError, UnicodeError, EOFError, MemoryError) as error:
        reason = (str(error).strip() or "it does not fit into memory").splitlines()[0]
        way_out = "give a csv (UTF-8, header line; also .csv.gz) or a parquet file"
        if isinstance(error, OSError) and error.errno:  # of the system, and not of the content
            way_out = "check its path and who may read it"
        problems.add(Problem(path.name, f"the file cannot be read: {reason}", way_out))
        return None
    if table is None:
        return None
    names = table.data.column_names
    repeated = [name for name, times in Counter(names).items() if times > 1]
    if repeated:
        what = f"columns listed twice: {listed(sorted(repeated))}"
        problems.add(Problem(path.name, what, "rename or remove one of each"))
        return None
    table = without_repeated_headers(table, problems)
    if table.data.num_rows == 0:
        unreadable = any(problem.table == path.name for problem in problems.collected)
        if not unreadable:  # else there are rows, and their problem is reported
            problems.add(Problem(path.name, "the table has a header but no rows", "export it again"))
        return None
    return table


def _problem_of_path(path: Path) -> Problem | None:
    if path.is_dir():
        return Problem(path.name, f"it is a folder: {path}", "join its files into one file")
    if not path.exists():
        return Problem(path.name, f"no such file: {path}", "check the path")
    if not path.is_file():
        return Problem(path.name, f"it is a pipe or a device: {path}", "save its content as a file")
    if path.stat().st_size == 0:
        return Problem(path.name, "the file is empty", "export it again, with a header line")
    return None


def _is_parquet(path: Path) -> bool:
    """Decide by the name or by the first bytes, because files get renamed."""
    return path.suffix.lower() in {".parquet", ".pq"} or _first_bytes(path) == b"PAR1"


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)


def _read_parquet(path: Path) -> Table:
    try:
        # Years after 2262 wrap in ns.
        with pa.parquet.ParquetFile(path, coerce_int96_timestamp_unit="us") as file:
            rows, size = file.metadata.num_rows, path.stat().st_size
            if rows > MOST_ROWS and rows > ROWS_PER_BYTE * size:
                raise OSError(f"it claims {rows:,} rows in {size:,} bytes: it holds no receipts")
            data = file.read()
        names = [bare(name) for name in data.column_names]
    except UnicodeDecodeError:
        raise UnicodeError("the name of a column is not UTF-8") from None
    return Table(path.name, data.rename_columns(names), np.arange(1, rows + 1))


class _BrokenRows:
    """Rows of a csv with another number of cells than the header: blank ones and ragged ones."""

    def __init__(self) -> None:
        self.numbers = array("q")  # of all of them: a file may have millions
        self.first: list[pa.csv.InvalidRow] = []
        self.ragged = 0

    def add(self, row: pa.csv.InvalidRow) -> str:
        self.numbers.append(row.number)
        if trimmed(row.text):
            self.ragged += 1
            if len(self.first) < SHOWN_ROWS:
                self.first.append(row)
        return "skip"

    def rows_without(self, others: int) -> NDArray[np.int64]:
        """Return the numbers of the `others` rows; the header is row 1."""
        good = np.ones(others + len(self.numbers), dtype=bool)
        good[np.asarray(self.numbers, np.int64) - 2] = False
        return np.flatnonzero(good) + 2


def _read_csv(path: Path, problems: Problems) -> Table | None:
    content = _content(path).removeprefix(b"\xef\xbb\xbf")  # Excel's "CSV UTF-8" starts with this mark
    _check_text(content)
    if not re.search(b"[\r\n]", content):
        content += b"\n"
    repaired = not _is_utf8(content)
    if repaired:
        content = content.decode("utf-8", "replace").encode()
    delimiter = sniff_delimiter(content[:65_536].decode("utf-8", "replace"))
    broken = _BrokenRows()
    try:
        data = _parse(content, delimiter, broken)
    except pa.ArrowInvalid as error:
        if line := unmatched_quote(content, delimiter):
            problems.add(_problem_of_quotes(path.name, line))
            return None
        raise OSError("it has no header line") if "Empty CSV" in str(error) else error from None
    broken_lines = b'"' in content and _has_line_breaks(data)
    swallowed, values = swallowed_rows(data, delimiter) if broken_lines else (None, None)
    data = data.rename_columns([bare(name) for name in data.column_names])
    # Delimiters at the ends of lines make columns without a name.
    data = data.select([i for i, name in enumerate(data.column_names) if name])
    rows = broken.rows_without(data.num_rows)
    blank = _blank_rows(data)
    table = Table(path.name, data.filter(pa.array(~blank)), rows[~blank], repaired)
    if broken.ragged:
        problems.add(_problem_of_ragged_rows(path.name, broken, delimiter))
    elif swallowed is not None:
        if line := unmatched_quote(content, delimiter):
            problems.add(_problem_of_quotes(path.name, line))
            return None
        what = "quotes that do not match: rows that are one value"
        Table(path.name, data, rows).refuse(swallowed, values, what, CLOSE_QUOTES, problems)
    return table


def _parse(content: bytes, delimiter: str, broken: _BrokenRows) -> pa.Table:
    """Return all columns as text: ids keep their zeros."""
    return pa.csv.read_csv(
        pa.BufferReader(content),
        # Broken rows carry their number only with one thread and without skipped blank lines.
        read_options=pa.csv.ReadOptions(use_threads=False, block_size=LONGEST_VALUE),
        parse_options=pa.csv.ParseOptions(
            delimiter=delimiter,
            newlines_in_values=True,
            ignore_empty_lines=False,
            invalid_row_handler=broken.add,
        ),
        convert_options=pa.csv.ConvertOptions(
            column_types=dict.fromkeys(_header(content, delimiter), pa.string()),
            strings_can_be_null=False,
        ),
    )


def _content(path: Path) -> bytes:
    """Return the bytes of a file, unpacked by its first bytes, whatever its name says."""
    first = _first_bytes(path)
    compression = next((c for start, c in COMPRESSED.items() if first.startswith(start)), None)
    if not compression:
        return path.read_bytes()
    parts, size = [], 0
    with pa.OSFile(str(path)) as packed, pa.CompressedInputStream(packed, compression) as stream:
        while part := stream.read(LONGEST_VALUE):
            parts.append(part)
            size += len(part)
            if size > MOST_UNPACKED and size > MOST_TIMES * packed.tell():
                raise OSError(f"it unpacks to over {MOST_TIMES} times its size: it holds no receipts")
    return b"".join(parts)


def _check_text(content: bytes) -> None:
    """Raise UnicodeError for UTF-16, UTF-32 and bytes that are no text."""
    if content[:2] in {b"\xff\xfe", b"\xfe\xff"} or re.match(b"[^\0]\0[^\0]\0|\0[^\0]\0[^\0]", content):
        raise UnicodeError("it is UTF-16, not UTF-8")
    if b"\0" in content[:4]:
        raise UnicodeError("it is no text, or text of another encoding than UTF-8")


def _header(content: bytes, delimiter: str) -> list[str]:
    text = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", errors="replace", newline="")
    try:
        return next(csv.reader(text, delimiter=delimiter), [])
    except csv.Error:
        raise OSError(
            f"its first line is no header: a name has over {csv.field_size_limit():,} letters"
        ) from None


def _blank_rows(data: pa.Table) -> Bools:
    """Mark rows (n,) without any value; spreadsheets write hundreds of them below the last row."""
    blank = np.ones(data.num_rows, dtype=bool)
    for column in data.columns:
        blank &= np.asarray(pc.binary_length(column.cast(pa.string())).fill_null(0)) == 0
    return blank


def _has_line_breaks(data: pa.Table) -> bool:
    columns = (column.cast(pa.string()) for column in data.columns)
    return any(pc.any(pc.match_substring_regex(column, "[\r\n]")).as_py() for column in columns)


def _problem_of_quotes(name: str, line: int) -> Problem:
    what = f"quotes that do not match in the row of line {line}: one never closes, or text follows it"
    return Problem(name, what, CLOSE_QUOTES)


def _problem_of_ragged_rows(name: str, broken: _BrokenRows, delimiter: str) -> Problem:
    rows = broken.first
    return Problem(
        name,
        f"rows without the {rows[0].expected_columns} cells of the header (delimiter {delimiter!r})",
        "the first line must be the header; "
        "put values that contain the delimiter in double quotes, and close each quote",
        tuple((row.number, f"{row.actual_columns} cells: {show(row.text)}") for row in rows),
        broken.ragged,
    )


def sniff_delimiter(head: str) -> str:
    """Return the delimiter that cuts each of the first lines into the same, largest number of cells."""
    lines = [line for line in head.splitlines()[:20] if line.strip()]

    def cells(delimiter: str) -> tuple[bool, int]:
        counts = [len(row) for row in csv.reader(lines, delimiter=delimiter)]
        return counts[0] > 1 and len(set(counts)) == 1, counts[0]

    return max(DELIMITERS, key=cells) if lines else ","


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True
