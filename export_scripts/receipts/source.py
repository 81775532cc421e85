"""A table of the shop before it is read: its files, its columns, and its rows in a stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from export_scripts.receipts.places import place
from export_scripts.receipts.problems import Problems


class Unreadable(Exception):  # noqa: N818 - "except Unreadable" reads
    """The table cannot be used. Its problem is in the `problems` that the reader was given."""


@dataclass(frozen=True)
class Part:
    """One file of a table: on this machine, or in a store."""

    name: str  # below the folder or the pattern; the file's own name if it is the only one
    path: Path
    size: int  # bytes
    version: str  # another one after a change
    keys: tuple[tuple[str, str | None], ...] = ()  # columns from folders such as date=2024-01-01


class Source:
    """The files of one table, in the order of their names, with the columns that all of them have."""

    name: str  # of the file, the folder or the pattern, for messages
    kind: Literal["csv", "parquet"]
    parts: tuple[Part, ...]
    schema: pa.Schema  # all columns from csv and from folders are text; those of parquet have their stored types
    repaired: bool  # after reading: some bytes were not UTF-8 and became U+FFFD, so that their rows can be reported

    @property
    def size(self) -> int:
        """Return the bytes of all parts, for an estimate."""
        return sum(part.size for part in self.parts)

    def place(self, row: int) -> int | str:
        """Return a row's number as `Problem.rows` takes it: 3, or "3 of part-0.csv" of several parts."""
        return place(row, [part.name for part in self.parts])

    def record_batches(
        self, problems: Problems, columns: Sequence[str] | None = None
    ) -> Iterator[tuple[pa.RecordBatch, NDArray[np.int64]]]:
        """Yield (rows of the schema, or of the named `columns`, and their row numbers (n,), which only grow).

        The order is that of the parts and of their rows. A number is unique over all parts; `place` writes it
        for messages. Rows that are blank, ragged, or headers again are not among them. At the end the reader
        adds what it found to `problems` and `warn`s. Raises Unreadable if nothing of the table may be used,
        maybe after many batches: then no other problem of this table is worth a line.
        """
        raise NotImplementedError


def open_source(path: Path | str, problems: Problems) -> Source | None:
    """Find the parts and compare their columns; None if there is a problem, which is added to `problems`."""
    raise NotImplementedError
