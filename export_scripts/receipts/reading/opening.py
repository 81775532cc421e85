"""Opens a table: finds its files and compares their kinds and columns before a row is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from export_scripts.receipts.problems import SHOWN_ROWS, Problem, Problems, listed
from export_scripts.receipts.reading.csv_rows import csv_columns
from export_scripts.receipts.reading.parquet_rows import parquet_columns
from export_scripts.receipts.reading.parts import Part, Parts, find_parts
from export_scripts.receipts.reading.source import UNREADABLE, Kind, Source, problem_of, problem_of_no_rows
from operations.records.object_path import ObjectPath

FOREIGN = {  # first bytes → what a file is
    b"PK\x03\x04": "an Excel workbook or a zip file",
    b"\xd0\xcf\x11\xe0": "an Excel workbook",
    b"\xfd7zX": "compressed with xz",
    b"PARE": "an encrypted parquet file",
    b"7z\xbc\xaf": "a 7z archive",
    b"SQLi": "an SQLite database",
}
OPENED_AT_ONCE = 16  # files of a bucket: each takes a few requests
SAME_COLUMNS = "write all files with the same columns and types, or name those that agree by a pattern"
TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)


@dataclass(frozen=True)
class Opened:
    """A part whose columns are known; `rows` None: a csv does not tell."""

    part: Part
    kind: Kind
    columns: list[tuple[str, pa.DataType]]
    rows: int | None = None
    twice: tuple[str, ...] = ()  # columns that the names of folders have, too

    @property
    def is_empty(self) -> bool:
        return self.rows == 0 or not self.columns


def open_source(path: Path | str, problems: Problems) -> Source | None:
    """Find the files of a table and compare their columns; None and a problem if it cannot be read.

    Raises CestaError for a bucket that cannot be read.
    """
    try:
        found = find_parts(path, problems)
    except OSError as error:
        problems.add(problem_of(Path(path).name, error))
        return None
    opened = _opened(found, problems) if found else []
    if not found or not opened:
        return None
    if disagreement := _listed_twice(found.name, opened) or _mixed_kinds(found.name, opened):
        problems.add(disagreement)
        return None
    schema = _common_schema(found.name, opened, problems)
    if schema is None:
        return None
    twice = {column: one.part.name for one in reversed(opened) for column in one.twice}
    return Source(found.name, opened[0].kind, [one.part for one in opened], schema, twice)


def _opened(found: Parts, problems: Problems) -> list[Opened]:
    """Open the files that hold rows; none, and a problem, if one of them cannot be read."""
    name, files = found.name, found.files
    in_bucket = isinstance(files[0].path, ObjectPath)
    if in_bucket:
        with ThreadPoolExecutor(OPENED_AT_ONCE) as pool:
            outcomes = list(pool.map(_open, files))
    else:
        outcomes = [_open(part) for part in files]
    failed = [(part, one) for part, one in zip(files, outcomes, strict=True) if isinstance(one, Exception)]
    for part, error in failed[:SHOWN_ROWS]:
        problems.add(problem_of(name if len(files) == 1 else f"{name}: {part.name}", error))
    if len(failed) > SHOWN_ROWS:
        what = f"{len(failed) - SHOWN_ROWS:,} more files cannot be read"
        problems.add(Problem(name, what, "export them again, or name the readable ones by a pattern"))
    opened = [one for one in outcomes if isinstance(one, Opened) and (len(files) == 1 or not one.is_empty)]
    if not failed and not opened:
        problems.add(problem_of_no_rows(name))
    return [] if failed else opened


def _open(part: Part) -> Opened | Exception:
    try:
        with part.open() as file:
            first = file.read(4)
        if first in FOREIGN:
            raise OSError(f"it is {FOREIGN[first]}")
        # By the name or by the first bytes, because files get renamed.
        if first == b"PAR1" or part.name.lower().endswith((".parquet", ".pq")):
            columns, rows = parquet_columns(part)
            return _with_keys(Opened(part, "parquet", columns, rows))
        return _with_keys(Opened(part, "csv", [(name, pa.string()) for name in csv_columns(part) if name]))
    except UNREADABLE as error:
        return error


def _with_keys(opened: Opened) -> Opened:
    """Add the columns of folders such as date=2024-01-01, unless the file has them itself."""
    if opened.is_empty:
        return opened
    stored = {name for name, _ in opened.columns}
    keys = tuple(dict(pair for pair in opened.part.keys if pair[0] not in stored).items())
    columns = [*opened.columns, *((key, pa.string()) for key, _ in keys)]
    twice = tuple(key for key, _ in opened.part.keys if key in stored)
    return replace(opened, part=replace(opened.part, keys=keys), columns=columns, twice=twice)


def _listed_twice(name: str, opened: Sequence[Opened]) -> Problem | None:
    for one in opened:
        times = Counter(column for column, _ in one.columns)
        if repeated := sorted(column for column, count in times.items() if count > 1):
            where = f" in {one.part.name}" if len(opened) > 1 else ""
            return Problem(
                name, f"columns listed twice{where}: {listed(repeated)}", "rename or remove one of each"
            )
    return None


def _mixed_kinds(name: str, opened: Sequence[Opened]) -> Problem | None:
    first = opened[0]
    other = next((one for one in opened if one.kind != first.kind), None)
    if other is None:
        return None
    what = f"files of two kinds: {first.part.name} is {first.kind}, {other.part.name} is {other.kind}"
    return Problem(name, what, "keep one kind, or name the files of one kind by a pattern, such as *.parquet")


def _common_schema(name: str, opened: Sequence[Opened], problems: Problems) -> pa.Schema | None:
    """Return the columns of all parts, in the order of the first; None, and problems, if parts differ."""
    first, common = opened[0], dict(opened[0].columns)
    differing = [sentence for one in opened[1:] if (sentence := _difference(first, common, one))]
    if not differing:
        return pa.schema(list(common.items()))
    for sentence in differing[:SHOWN_ROWS]:
        problems.add(Problem(name, sentence, SAME_COLUMNS))
    if len(differing) > SHOWN_ROWS:
        what = f"{len(differing) - SHOWN_ROWS:,} more files have other columns than {first.part.name}"
        problems.add(Problem(name, what, SAME_COLUMNS))
    return None


def _difference(first: Opened, common: dict[str, pa.DataType], other: Opened) -> str:
    """Say how the columns of the other part differ from those of the first; widen `common` types."""
    columns = dict(other.columns)
    lacks, adds = [c for c in common if c not in columns], [c for c in columns if c not in common]
    if lacks or adds:
        has = [f"lacks {listed(lacks)}"] * bool(lacks) + [f"has {listed(adds)}"] * bool(adds)
        return f"{other.part.name} {' and '.join(has)}, unlike {first.part.name}"
    for column, kind in columns.items():
        if (wider := _wider(common[column], kind)) is None:
            kinds = f"{kind}, but {common[column]} in {first.part.name}"
            return f'{other.part.name} has another type in column "{column}": {kinds}'
        common[column] = wider
    return ""


def _wider(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Return the type that holds the values of both as they are; None if there is none."""
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    one, other = (kind.value_type if pa.types.is_dictionary(kind) else kind for kind in (one, other))
    if all(any(is_text(kind) for is_text in TEXTS) for kind in (one, other)):
        return pa.large_string()
    if all(pa.types.is_integer(kind) and kind != pa.uint64() for kind in (one, other)):
        return pa.int64()
    return one if one == other else None
