"""Reading a shop's csv and parquet files: columns as text, times and numbers, every bad row reported."""

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

from export_scripts.errors import Problem, Problems

SHOWN_ROWS = 5  # enough to find the pattern, few enough to read
DELIMITERS = (",", ";", "\t", "|")
EXACT_BITS = {
    16: 11,
    32: 24,
    64: 53,
}  # of a float column: integers above two to the power of that are rounded


@dataclass(frozen=True)
class Table:
    """A file as read: typed as parquet says, or all text from csv. `rows` are row numbers in the file."""

    name: str
    data: pa.Table
    rows: np.ndarray  # (n,) int64; csv counts its header as row 1, parquet starts at 1
    repaired: bool = False  # bytes that are not UTF-8 were replaced by U+FFFD, so that rows can be named

    def column(self, name: str) -> pa.Array:
        """The column as one array, dictionaries decoded."""
        array = self.data.column(name).combine_chunks()
        return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array

    def refuse(
        self, bad: np.ndarray, values: pa.Array | pd.Series, what: str, way_out: str, problems: Problems
    ) -> None:
        """Report the rows where `bad` (n,) bool is true, if any, with the first of their `values` (n,)."""
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
    """A cell for an error message, short and on one line."""
    if value is None or value is pd.NaT or value != value or value in ("", b""):
        return "(empty)"
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    text = f'"{text}"' if isinstance(value, str | bytes) else text
    text = text.encode("unicode_escape").decode("ascii") if not text.isprintable() else text
    return text if len(text) <= 60 else text[:57] + "…"


def read_table(path: Path, problems: Problems) -> Table | None:
    """Read a csv (.csv .tsv .txt, also .gz) or parquet file; None, and a problem, when it cannot be read."""
    if not path.is_file():
        problems.add(Problem(path.name, f"no such file: {path}", "check the path"))
        return None
    if path.stat().st_size == 0:
        problems.add(Problem(path.name, "the file is empty", "export it again, with a header line"))
        return None
    try:
        table = _read_parquet(path) if path.suffix in {".parquet", ".pq"} else _read_csv(path, problems)
    except (pa.ArrowException, csv.Error, OSError, UnicodeError, EOFError) as error:
        reason = str(error).strip().splitlines()[0]
        way_out = "give a csv (UTF-8, header line; also .csv.gz) or a parquet file"
        problems.add(Problem(path.name, f"the file cannot be read: {reason}", way_out))
        return None
    twice = sorted({name for name in table.data.column_names if table.data.column_names.count(name) > 1})
    if twice:
        what = f"columns listed twice: {', '.join(twice)}"
        problems.add(Problem(path.name, what, "rename or remove one of each"))
        return None
    if table.data.num_rows == 0:
        problems.add(Problem(path.name, "the table has a header but no rows", "export it again"))
        return None
    return table


def _read_parquet(path: Path) -> Table:
    data = pa.parquet.read_table(path)
    return Table(path.name, data, np.arange(1, data.num_rows + 1))


def _read_csv(path: Path, problems: Problems) -> Table:
    with pa.input_stream(path, compression="detect") as stream:
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
        # one thread, blank lines not skipped by the reader: only then do broken rows carry their number
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
    rows = np.setdiff1d(np.arange(2, data.num_rows + len(broken) + 2), [row.number for row in broken])
    blank = _blank_rows(data)
    table = Table(path.name, data.filter(pa.array(~blank)), rows[~blank], repaired)
    ragged = [row for row in broken if row.text.strip()]
    if ragged:
        problems.add(_ragged(path.name, ragged, delimiter))
    return table


def _header(content: bytes, delimiter: str) -> list[str]:
    text = io.TextIOWrapper(io.BytesIO(content[: 1 << 20]), encoding="utf-8", errors="replace", newline="")
    return next(csv.reader(text, delimiter=delimiter), [])


def _blank_rows(data: pa.Table) -> np.ndarray:
    """(n,) bool: rows without any value, which spreadsheets write by the hundred below the last one."""
    blank = np.ones(data.num_rows, dtype=bool)
    for column in data.columns:
        blank &= np.asarray(pc.binary_length(column.cast(pa.string())).fill_null(0)) == 0
    return blank


def _ragged(name: str, rows: list[pa.csv.InvalidRow], delimiter: str) -> Problem:
    expected = rows[0].expected_columns
    return Problem(
        name,
        f"rows without the {expected} cells of the header (delimiter {delimiter!r})",
        "put values that contain the delimiter in double quotes",
        tuple((row.number, f"{row.actual_columns} cells: {show(row.text)}") for row in rows[:SHOWN_ROWS]),
        len(rows),
    )


def sniff_delimiter(head: str) -> str:
    """The delimiter among , ; tab | that cuts the first lines into the most cells, equally many on each."""
    lines = [line for line in head.splitlines()[:20] if line.strip()]

    def cells(delimiter: str) -> tuple[bool, int]:
        counts = [len(row) for row in csv.reader(lines, delimiter=delimiter)]
        return counts[0] > 1 and len(set(counts)) == 1, counts[0]

    return max(DELIMITERS, key=cells) if lines else ","


def text_column(table: Table, name: str, missing: Collection[str], problems: Problems) -> pd.Series:
    """The column as (n,) str, stripped, missing values as NaN.

    Whole-number columns that went through a float ("123.0" beside missing values) become "123" again.
    """
    array, repaired = table.column(name), table.repaired
    if pa.types.is_binary(array.type) or pa.types.is_large_binary(array.type):
        array, repaired = _decoded(array)
    elif pa.types.is_floating(array.type):
        array = _whole_numbers(table, name, array, problems)
    elif pa.types.is_nested(array.type):
        what = f'column "{name}" holds {array.type} values'
        problems.add(Problem(table.name, what, "flatten it to one plain value per row"))
        array = pa.nulls(len(array))
    text = pc.utf8_trim_whitespace(array.cast(pa.large_string()))
    if repaired:
        bad = np.asarray(pc.match_substring(text, "\ufffd").fill_null(False))
        way_out = "save the file as UTF-8 (Excel: CSV UTF-8)"
        table.refuse(bad, text, f'column "{name}" is not valid UTF-8', way_out, problems)
    text = pc.if_else(pc.is_in(text, pa.array(["", *missing], pa.large_string())), None, text)
    if pc.all(pc.match_substring_regex(text, r"^-?[0-9]+\.0+$")).as_py():
        text = pc.replace_substring_regex(text, r"\.0+$", "")
    return pd.Series(text.to_pandas(), dtype="str")


def _decoded(array: pa.Array) -> tuple[pa.Array, bool]:
    """Bytes as text, and whether some were no UTF-8 and are now U+FFFD."""
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
    bits = EXACT_BITS[array.type.bit_width]
    bad = np.abs(values) >= 2**bits  # the power itself may be the next integer, rounded
    what = f'column "{name}" is a {array.type} column with values of 2^{bits} or more: last digits are lost'
    table.refuse(bad, array, what, "store ids as text or integers", problems)
    if bad.any():
        return pa.nulls(len(array), pa.large_string())
    values = pd.Series(values).where(np.isfinite(values))
    if (values.dropna() % 1 == 0).all():
        return pa.array(values.astype("Int64"))
    return pa.array(values.astype("str"))


def number_column(table: Table, name: str, problems: Problems) -> pd.Series:
    """The column as (n,) float64; empty cells and cells that are no finite number are reported, and NaN."""
    array = table.column(name)
    if pa.types.is_integer(array.type) or pa.types.is_floating(array.type) or pa.types.is_decimal(array.type):
        values = array.cast(pa.float64(), safe=False).to_pandas().astype(np.float64)
    else:
        values = pd.to_numeric(text_column(table, name, (), problems), errors="coerce").astype(np.float64)
    bad = ~np.isfinite(values.astype(np.float32).to_numpy())
    what = f'column "{name}" holds no number'
    table.refuse(bad, array, what, "write plain numbers, 1.5 and not 1,5; no empty cells", problems)
    return values.mask(bad)
