"""The database of one run of etl: DuckDB, which works within a memory limit and spills to a folder."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from export_scripts.receipts.kept.folder import Parts
from export_scripts.receipts.steps import Steps

BATCH_ROWS = 1 << 16  # of one record batch: a megabyte for two columns


class Database:
    """Tables of one run: SQL in, rows or Arrow out."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, folder: Path, steps: Steps, parts: Parts
    ) -> None:
        self._connection, self._numbers, self.steps = connection, itertools.count(1), steps
        self.folder = folder  # for files of this run; removed at its end
        self.parts = parts  # of files that are not read in their place

    def done(self) -> float:
        """Return the finished part of the query that another thread waits for."""
        return self._connection.query_progress() / 100

    def run(self, sql: str) -> None:
        self._connection.execute(sql)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:  # Any: whatever the columns of the query hold
        found: list[tuple[Any, ...]] = self._connection.execute(sql).fetchall()
        return found

    def arrow(self, sql: str) -> pa.Table:
        return self._connection.sql(sql).to_arrow_table()

    def batches(self, sql: str) -> Iterator[pa.RecordBatch]:
        """Yield the result in its order; sorted results are read back from the spill."""
        yield from self._connection.sql(sql).to_arrow_reader(BATCH_ROWS)

    def add(self, table: pa.Table) -> str:
        """Make an Arrow table known, without a copy, and return its name in SQL."""
        name = f"given_{next(self._numbers)}"
        self._connection.register(name, table)
        return name

    def new_file(self) -> Path:
        """Return the path of a file of this run that is not there yet."""
        return self.folder / f"{next(self._numbers)}.parquet"

    def create(self, kind: str, what: str, sql: str) -> str:
        """Create a "table" or "view" of this query and return its name, `what` with a number."""
        name = f"{what}_{next(self._numbers)}"
        self.run(f"create {kind} {name} as {sql}")
        return name


@contextmanager
def open_database(
    memory: str, folder: Path, steps: Steps | None = None, parts: Parts | None = None
) -> Iterator[Database]:
    """Open an empty database that holds at most `memory`, as in "2GB", and spills to `folder`."""
    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": memory,
        "temp_directory": str(folder),
        "autoinstall_known_extensions": False,  # nothing is fetched from anywhere
        "autoload_known_extensions": False,
        "python_enable_replacements": False,  # a table is what SQL created, never a variable of Python
    }
    with duckdb.connect(":memory:", config=settings) as connection:
        connection.execute("set enable_progress_bar = false")
        yield Database(connection, folder, steps or Steps(copies=True), parts or Parts())


def quoted(name: str) -> str:
    """Write the name of a column for SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Write a text for SQL."""
    return "'" + text.replace("'", "''") + "'"


def literals(texts: Sequence[str]) -> str:
    return "(" + ", ".join(map(literal, texts)) + ")"
