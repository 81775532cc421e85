"""Reads one file of a table into one part: a parquet file of the wanted columns, with what is known of it.

A csv becomes numbers, moments and text (`kinds.py`), with the number of each row. The rows of a parquet file
in a bucket become the same rows on this machine's disk.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from export_scripts.receipts.kept.kinds import Kind, kind_of, stored_as, stored_type
from export_scripts.receipts.problems import BadRows, Problem, Problems
from export_scripts.receipts.reading.headers import HeaderFindings
from export_scripts.receipts.reading.source import Findings, Source, Unreadable

FACTS: Final = b"cesta"  # key of what is known of a part, in its footer
GROUP_ROWS: Final = 1 << 18  # so that several threads read a part
LOOKED_AT: Final = 1000  # rows, to choose a kind
ROW: Final = "row"  # column of the rows' numbers in their file


@dataclass(frozen=True)
class Ends:
    """What a column of whole numbers holds."""

    nulls: int
    least: int | None  # None if all are null
    most: int | None

    def join(self, other: Ends) -> Ends:
        least = [end for end in (self.least, other.least) if end is not None]
        most = [end for end in (self.most, other.most) if end is not None]
        return Ends(self.nulls + other.nulls, min(least, default=None), max(most, default=None))


@dataclass(frozen=True)
class PartFacts:
    """What the footer of a part tells: columns are numbered as they were wanted."""

    rows: int
    kinds: list[Kind] = field(default_factory=list)  # of the columns of a csv
    ends: list[Ends | None] = field(default_factory=list)  # of those that are whole numbers
    repaired: bool = False  # bytes that are not UTF-8 became U+FFFD
    rules: list[int] = field(default_factory=lambda: [0])  # rows that were passed over; the first of them
    repeated: list[int] = field(default_factory=lambda: [0])

    def findings(self) -> Findings:
        """Return what the reading of the file had found; a file with problems has no part."""
        found = Findings(self.rows)
        found.csv.repaired = self.repaired
        found.headers = HeaderFindings(_bad_rows(self.rules), _bad_rows(self.repeated))
        return found


class Task(NamedTuple):
    """One file of the shared source to read, and the name of its part."""

    file: int  # its index in the source
    name: str


class Reading(NamedTuple):
    """What the workers of a table share."""

    source: Source
    columns: list[str]
    folder: Path | None  # for the parts; None sends their content, for workers of other machines


class Made(NamedTuple):
    """What became of a file: a part in the folder or its content, or a problem; neither if it has no rows."""

    findings: Findings
    problem: Problem | None = None
    content: bytes | None = None


def make_part(reading: Reading, task: Task, report: Callable[[int], None] = lambda size: None) -> Made:
    """Read one file; `report` takes the bytes that were read so far."""
    with ExitStack() as stack:
        folder = reading.folder or Path(stack.enter_context(TemporaryDirectory(prefix="cesta-part-")))
        path = folder / task.name
        made = _write(reading, task, path, report)
        if reading.folder is None and path.exists():
            return made._replace(content=path.read_bytes())
        return made


def read_facts(path: Path) -> PartFacts:
    """Return what the footer of a part tells. Raises OSError or ArrowInvalid if it is none."""
    stored = json.loads(pq.read_metadata(path).metadata[FACTS])
    stored["ends"] = [end and Ends(**end) for end in stored["ends"]]
    return PartFacts(**stored)


def _write(reading: Reading, task: Task, path: Path, report: Callable[[int], None]) -> Made:
    texts: set[str] = set()
    while True:
        found, problems = Findings(), Problems()
        try:
            if reading.source.kind == "csv":
                _write_csv(reading, task, path, texts, found, problems, report)
            else:
                _write_parquet(reading, task, path, found, problems, report)
        except _IsText as error:
            texts.add(str(error))
            continue
        except Unreadable:
            return Made(found, problems.collected[-1])
        return Made(found)


class _IsText(Exception):  # noqa: N818 - a signal
    """A column of numbers or moments goes on with other text."""


def _write_csv(
    reading: Reading,
    task: Task,
    path: Path,
    texts: set[str],
    found: Findings,
    problems: Problems,
    report: Callable[[int], None],
) -> None:
    """Write the rows of a csv. Raises _IsText for a column that must be among `texts`."""
    source, columns = reading.source, reading.columns
    kinds: list[Kind] = []
    ends: list[Ends | None] = []
    size = 0
    with ExitStack() as stack:
        writer = None
        for batch, rows in source.part_batches(source.parts[task.file], found, problems, columns or None):
            arrays = [batch.column(name) for name in columns]
            if writer is None:
                kinds = [
                    "text" if name in texts else kind_of(a.slice(0, LOOKED_AT))
                    for name, a in zip(columns, arrays, strict=True)
                ]
                ends = [None if kind != "integer" else Ends(0, None, None) for kind in kinds]
                writer = stack.enter_context(_open_writer(path, kinds))
            stored = []
            for number, (name, array) in enumerate(zip(columns, arrays, strict=True)):
                values = stored_as(kinds[number], array)
                if values is None:
                    raise _IsText(name)
                if end := ends[number]:
                    ends[number] = end.join(_ends(values))
                stored.append(values)
            writer.write_table(_table(rows, stored, kinds), GROUP_ROWS)
            size += batch.nbytes
            report(size)
        if writer is not None:
            facts = PartFacts(
                found.rows,
                kinds,
                ends,
                found.csv.repaired,
                _numbers(found.headers.rules),
                _numbers(found.headers.repeated),
            )
            writer.add_key_value_metadata({FACTS: json.dumps(asdict(facts))})


def _open_writer(path: Path, kinds: list[Kind]) -> pq.ParquetWriter:
    names = [f"v{number}" for number in range(len(kinds))]
    return pq.ParquetWriter(
        path,
        _table(np.zeros(0, np.int64), [pa.array([], stored_type(kind)) for kind in kinds], kinds).schema,
        compression="lz4",
        use_dictionary=names,
        column_encoding={ROW: "DELTA_BINARY_PACKED"},
    )


def _table(rows: NDArray[np.int64], stored: list[pa.Array], kinds: list[Kind]) -> pa.Table:
    names = [ROW, *(f"v{number}" for number in range(len(kinds)))]
    return pa.Table.from_arrays([pa.array(rows), *stored], names)


def _ends(values: pa.Array) -> Ends:
    ends = pc.min_max(values)
    return Ends(values.null_count, ends["min"].as_py(), ends["max"].as_py())


def _write_parquet(
    reading: Reading,
    task: Task,
    path: Path,
    found: Findings,
    problems: Problems,
    report: Callable[[int], None],
) -> None:
    """Write all rows as they are: what reads them later decides which of them are headers."""
    source = reading.source
    schema, size = pa.schema([source.schema.field(name) for name in reading.columns]), 0
    with pq.ParquetWriter(path, schema, compression="lz4") as writer:
        for batch in source.stored_batches(source.parts[task.file], problems, reading.columns):
            writer.write_batch(batch, GROUP_ROWS)
            found.rows += batch.num_rows
            size += batch.nbytes
            report(size)
        writer.add_key_value_metadata({FACTS: json.dumps(asdict(PartFacts(found.rows)))})


def _numbers(found: BadRows) -> list[int]:
    return [found.count, *(row for row, _ in found.first)]


def _bad_rows(numbers: list[int]) -> BadRows:
    return BadRows(numbers[0], [(row, "") for row in numbers[1:]])
