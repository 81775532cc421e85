"""Reads a shop's csv and parquet files into tables; reports every row that is none."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from ensemble.candidate_sampler.blanks import trimmed
from export_scripts.receipts.headers import without_repeated_headers
from export_scripts.receipts.problems import SHOWN_ROWS, Problem, Problems, listed, show
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
LONGEST_VALUE = 1 << 24  # bytes: an unclosed quote longer than this is found at once


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
        if (first := _first_bytes(path)) in FOREIGN:
            raise OSError(f"it is {FOREIGN[first]}")
        table = _read_parquet(path) if _is_parquet(path) else _read_csv(path, problems)
    except (pa.ArrowException, csv.Error, OSError, UnicodeError, EOFError) as error:
        reason = str(error).strip().splitlines()[0]
        way_out = "give a csv (UTF-8, header line; also .csv.gz) or a parquet file"
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


def _is_parquet(path: Path) -> bool:
    """Decide by the name or by the first bytes, because files get renamed."""
    return path.suffix.lower() in {".parquet", ".pq"} or _first_bytes(path) == b"PAR1"


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)


def _read_parquet(path: Path) -> Table:
    data = pa.parquet.read_table(path, coerce_int96_timestamp_unit="us")  # years after 2262 wrap in ns
    try:
        _ = data.column_names
    except UnicodeDecodeError:
        raise UnicodeError("the name of a column is not UTF-8") from None
    return Table(path.name, data, np.arange(1, data.num_rows + 1))


def _read_csv(path: Path, problems: Problems) -> Table | None:
    first = _first_bytes(path)
    compression = next((c for start, c in COMPRESSED.items() if first.startswith(start)), None)
    with pa.input_stream(path, compression=compression) as stream:  # whatever the name says
        content = stream.read()
    if content[:2] in {b"\xff\xfe", b"\xfe\xff"} or b"\0" in content[:4]:
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

    try:
        data = pa.csv.read_csv(
            pa.BufferReader(content),
            # Broken rows carry their number only with one thread and without skipped blank lines.
            read_options=pa.csv.ReadOptions(use_threads=False, block_size=LONGEST_VALUE),
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
    except pa.ArrowInvalid:
        if line := _unmatched_quote(content, delimiter):
            problems.add(_problem_of_quotes(path.name, line))
            return None
        raise
    data = data.rename_columns([bare(name) for name in data.column_names])
    # Delimiters at the ends of lines make columns without a name.
    data = data.select([i for i, name in enumerate(data.column_names) if name])
    rows = np.setdiff1d(np.arange(2, data.num_rows + len(broken) + 2), [row.number for row in broken])
    blank = _blank_rows(data)
    table = Table(path.name, data.filter(pa.array(~blank)), rows[~blank], repaired)
    ragged = [row for row in broken if trimmed(row.text)]
    if ragged:
        problems.add(_problem_of_ragged_rows(path.name, ragged, delimiter))
    elif _has_line_breaks(data) and (line := _unmatched_quote(content, delimiter)):
        problems.add(_problem_of_quotes(path.name, line))
        return None
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
    with _values_of_any_length(len(content)):
        try:
            for _ in rows:
                start = rows.line_num + 1
        except csv.Error:
            return start
    return 0


@contextmanager
def _values_of_any_length(most: int) -> Iterator[None]:
    before = csv.field_size_limit(max(most, csv.field_size_limit()))
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _problem_of_quotes(name: str, line: int) -> Problem:
    what = f"quotes that do not match in the row of line {line}: all text after it becomes one value"
    return Problem(name, what, "close each quote; write a quote within a value twice")


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


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True
