"""A table of the shop, which is one file or many: its columns, and its rows in a stream."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from export_scripts.receipts.problems import Problem, Problems
from export_scripts.receipts.reading.csv_rows import CsvFindings, csv_batches
from export_scripts.receipts.reading.headers import HeaderFindings, RepeatedHeaders
from export_scripts.receipts.reading.parquet_rows import parquet_batches
from export_scripts.receipts.reading.parts import Part
from export_scripts.receipts.reading.places import first_row, place
from export_scripts.receipts.reading.quotes import CLOSE_QUOTES, UnmatchedQuotes

Kind = Literal["csv", "parquet"]
Batches = Iterator[tuple[pa.RecordBatch, NDArray[np.int64]]]

UNREADABLE: Final = (  # what the libraries raise for a file that is no table
    pa.ArrowException,
    csv.Error,
    OSError,
    UnicodeError,
    EOFError,
    MemoryError,
    UnmatchedQuotes,
)


class Unreadable(Exception):  # noqa: N818 - "except Unreadable" reads
    """The table cannot be used. Its problem is in the `problems` that the reader was given."""


@dataclass
class Findings:
    """What parts of a table hold: how many rows, and what is no row of data."""

    rows: int = 0
    csv: CsvFindings = field(default_factory=CsvFindings)
    headers: HeaderFindings = field(default_factory=HeaderFindings)

    def join(self, later: Findings, index: int) -> None:
        """Add those of the part with this index, whose row numbers begin at 1."""
        self.rows += later.rows
        self.csv.join(later.csv, first_row(index))
        self.headers.join(later.headers, first_row(index))


class Source:
    """The files of one table in the order of their names, with the columns that all of them have."""

    def __init__(
        self,
        name: str,
        kind: Kind,
        parts: Sequence[Part],
        schema: pa.Schema,
        twice: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """`schema`: columns from csv and from folders are text; those of parquet have their stored types.

        `twice`: columns of files that their folders name, too, and such a file.
        """
        self.name = name  # of the file, the folder or the pattern, for messages
        self.kind, self.parts, self.schema = kind, tuple(parts), schema
        self._twice = twice
        self.repaired = (
            False  # after reading: bytes that are not UTF-8 became U+FFFD, so that rows can be reported
        )

    @property
    def size(self) -> int:
        """Return the bytes of all parts, for an estimate."""
        return sum(part.size for part in self.parts)

    @property
    def label(self) -> str:
        """Return the name, and the number of parts if there are several."""
        count = len(self.parts)
        if count == 1:
            return self.name
        return f"{self.name} ({count:,} files, {self.parts[0].name} to {self.parts[-1].name})"

    def place(self, row: int) -> int | str:
        """Return a row's number as `Problem.rows` takes it: 3, or "3 of part-0.csv" of several parts."""
        return place(row, [part.name for part in self.parts])

    def record_batches(self, problems: Problems, columns: Sequence[str] | None = None) -> Batches:
        """Yield (rows of the schema, or of the named `columns`, and their row numbers (n,), which only grow).

        The order is that of the parts and of their rows. A number is unique over all parts; `place` writes it
        for messages. Rows that are blank, ragged, or headers again are not among them. At the end the reader
        adds what it found to `problems` and `warn`s. Raises Unreadable if nothing of the table may be used,
        maybe after many batches: then no other problem of this table is worth a line.
        """
        found = Findings()
        for index, part in enumerate(self.parts):
            yield from self.part_batches(part, found, problems, columns, index)
        self.report(found, problems)

    def part_batches(
        self,
        part: Part,
        found: Findings,
        problems: Problems,
        columns: Sequence[str] | None = None,
        index: int = 0,
    ) -> Batches:
        """Yield the rows of one part; their numbers begin at 1, or where those of this `index` do.

        What is no row is added to `found`, for `report`. Raises Unreadable, with a problem added.
        """
        chosen = list(self.schema.names if columns is None else columns)
        schema = pa.schema([self.schema.field(name) for name in chosen])
        stored = self._stored(part, chosen)
        headers = RepeatedHeaders(stored, found.headers)
        try:
            for batch, rows in self._batches(part, index, stored, found.csv):
                batch, rows = headers.without(batch.select(stored), rows)
                if len(rows):
                    found.rows += len(rows)
                    yield _filled(batch, part, schema), rows
        except UNREADABLE as error:
            problems.add(problem_of(self._named(part), error))
            raise Unreadable(self.name) from None

    def stored_batches(
        self, part: Part, problems: Problems, columns: Sequence[str]
    ) -> Iterator[pa.RecordBatch]:
        """Yield all rows of a parquet part, headers among them. Raises Unreadable, with a problem added."""
        schema = pa.schema([self.schema.field(name) for name in columns])
        try:
            for batch, _ in parquet_batches(part, 0, self._stored(part, columns)):
                yield _filled(batch, part, schema)
        except UNREADABLE as error:
            problems.add(problem_of(self._named(part), error))
            raise Unreadable(self.name) from None

    def warn_of_keys(self, columns: Collection[str], problems: Problems) -> None:
        """Say which of these columns are both in files and in the names of their folders."""
        for name in (name for name in columns if name in self._twice):
            problems.warn(
                f'{self.name}: the column "{name}" is in {self._twice[name]} itself and in the name of its '
                "folder; the values in the files count. If those of the folders should, remove the column "
                "from the files"
            )

    def report(self, found: Findings, problems: Problems) -> None:
        """Add what all parts hold to `problems` and `warn`s. Raises Unreadable if there is no row."""
        self.repaired = found.csv.repaired
        found.csv.report(self.name, self.place, problems)
        found.headers.report(self.name, self.place, problems)
        if not found.rows:
            if all(problem.table != self.name for problem in problems.collected):  # else there are rows
                problems.add(problem_of_no_rows(self.name))
            raise Unreadable(self.name)

    def _stored(self, part: Part, columns: Sequence[str]) -> list[str]:
        """Return the columns to read from the part; others are in the names of its folders.

        A csv is read with all of its columns, because a header among the rows is recognised by them.
        """
        keys = {key for key, _ in part.keys}
        stored = [name for name in self.schema.names if name not in keys]
        if self.kind == "csv":
            return stored
        return [name for name in stored if name in columns] or stored[:1]

    def _batches(self, part: Part, index: int, columns: Sequence[str], found: CsvFindings) -> Batches:
        if self.kind == "csv":
            return csv_batches(part, index, found)
        return parquet_batches(part, index, columns)

    def _named(self, part: Part) -> str:
        return self.name if len(self.parts) == 1 else f"{self.name}: {part.name}"


def problem_of(name: str, error: BaseException) -> Problem:
    """Turn an error of UNREADABLE into the problem of the file of this name."""
    if isinstance(error, UnmatchedQuotes):
        return Problem(name, str(error), CLOSE_QUOTES)
    reason = (str(error).strip() or "it does not fit into memory").splitlines()[0]
    way_out = "give a csv (UTF-8, header line; also .csv.gz) or a parquet file"
    if isinstance(error, OSError) and error.errno:  # of the system, and not of the content
        way_out = "check its path and who may read it"
    return Problem(name, f"the file cannot be read: {reason}", way_out)


def problem_of_no_rows(name: str) -> Problem:
    return Problem(name, "the table has a header but no rows", "export it again")


def _filled(batch: pa.RecordBatch, part: Part, schema: pa.Schema) -> pa.RecordBatch:
    """Return the batch with the columns and types of the schema; keys of folders fill what it lacks."""
    keys = dict(part.keys)
    columns = [
        pa.repeat(pa.scalar(keys[field.name], field.type), batch.num_rows)
        if field.name in keys
        else batch.column(field.name).cast(field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
