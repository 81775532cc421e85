"""Brings a table of the shop into the database.

Parquet files of plain types stay where they are, and those of other types are copied. A csv becomes parts
(`kept/`), and so does parquet in a bucket.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Sequence
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from export_scripts.receipts.database import Database, literal, literals, quoted
from export_scripts.receipts.kept.table import copy_of_parquet, table_of_csv
from export_scripts.receipts.problems import Problems
from export_scripts.receipts.reading.headers import LOOKED_AT, names_as_written
from export_scripts.receipts.reading.places import ROWS_OF_A_PART, first_row
from export_scripts.receipts.reading.source import Source, Unreadable
from export_scripts.receipts.tables import Facts, Table, are_plausible_moments, plain
from export_scripts.receipts.written import bare

GROUP_ROWS = 1 << 18  # of a staged file, so that several threads read it
TEXT = (pa.types.is_string, pa.types.is_large_string)
NUMBERS = (pa.types.is_integer, pa.types.is_float32, pa.types.is_float64)


class _NotText(Exception):  # noqa: N818 - a signal
    """A column of text holds bytes that are not UTF-8."""


def stage(
    source: Source, wanted: Collection[str], moments: Collection[str], database: Database, problems: Problems
) -> Table | None:
    """Return the wanted columns as a table; `moments` are those that may hold times.

    Returns None if the source cannot be used, with a problem added.
    """
    names = [name for name in source.schema.names if name in set(wanted)]
    source.warn_of_keys(names, problems)
    if source.kind == "csv":
        return table_of_csv(source, names, database, problems)
    if names and database.parts.are_kept and not all(part.is_local for part in source.parts):
        if (copy := copy_of_parquet(source, names, database, problems)) is None:
            return None
        source = copy
    if table := _in_place(source, names, moments, database):
        return table
    numbered: set[str] = set()
    while True:
        try:
            return _copied(source, names, numbered, database, problems)
        except _NotText as error:
            numbered.add(str(error))
        except Unreadable:
            return None


def _in_place(
    source: Source, names: Sequence[str], moments: Collection[str], database: Database
) -> Table | None:
    """Return the table as the files hold it, or None if the database reads them otherwise than Arrow."""
    if source.kind != "parquet" or not all(
        _is_known(source.schema.field(name).type, name in moments) for name in names
    ):
        return None
    in_files = _names_in_files(source, names)
    if in_files is None:
        return None
    rows = [pq.read_metadata(str(part.path)).num_rows for part in source.parts]
    starts = np.cumsum([0, *rows]).tolist()
    position = "file_row_number"
    if len(rows) > 1:
        position += f" + ({starts[:-1]}::bigint[])[file_index::bigint + 1]"
    columns = {name: f"c{number}" for number, name in enumerate(names)}
    read = "".join(f", {quoted(in_files[name])} as {column}" for name, column in columns.items())
    files = literals([str(part.path) for part in source.parts])[1:-1]
    scan = f"read_parquet([{files}], hive_partitioning = false)"
    try:
        if _holds_headers(source, in_files, scan, database):
            return None
        relation = database.create("view", "lines", f"select {position} as position{read} from {scan}")
        with database.steps.step("checking columns", database.done):
            facts = _facts(database, relation, columns, source.schema)
        stored = [name for name in facts if pa.types.is_timestamp(source.schema.field(name).type)]
        if not all(are_plausible_moments(facts[name]) for name in stored):
            return None  # messages show a moment as Arrow holds it
    except duckdb.OutOfMemoryException:
        raise
    except duckdb.Error:  # a value that only Arrow can hold, or a damaged file: Arrow finds it again
        return None

    def places(positions: Sequence[int]) -> list[int | str]:
        parts = [bisect_right(starts, position) - 1 for position in positions]
        numbers = zip(parts, positions, strict=True)
        return [source.place(first_row(part) + position - starts[part] + 1) for part, position in numbers]

    return Table(source.name, database, relation, columns, source.schema, starts[-1], places, {}, facts)


def _is_known(kind: pa.DataType, may_be_moment: bool) -> bool:
    """Does the database hold this type as Arrow does?"""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    is_moment = may_be_moment and pa.types.is_timestamp(kind)
    return is_moment or any(is_kind(kind) for is_kind in (*TEXT, *NUMBERS))


def _names_in_files(source: Source, names: Sequence[str]) -> dict[str, str] | None:
    """Return name of a column → as the files write it; None if the files are not alike to the database."""
    written: dict[str, str] = {}
    for part in source.parts:
        if not isinstance(part.path, Path) or set("*?[") & set(str(part.path)):  # a pattern for the database
            return None
        schema = pq.read_metadata(part.path).schema
        stored = schema.to_arrow_schema()
        folded = {name.casefold() for name in stored.names}
        if len(folded) < len(stored.names) or folded & {"file_row_number", "file_index", "filename"}:
            return None
        here = {bare(name): name for name in stored.names}
        if any(name not in here for name in names):  # the name of a folder tells it
            return None
        if any(here[name] != written.setdefault(name, here[name]) for name in here):
            return None
        if any(stored.field(here[name]).type != source.schema.field(name).type for name in names):
            return None
        if any(schema.column(number).physical_type == "INT96" for number in range(len(schema))):
            return None
    return written


def _holds_headers(source: Source, in_files: dict[str, str], scan: str, database: Database) -> bool:
    """May a row be a header? Those who read row by row decide it."""
    texts = [name for name in in_files if pa.types.is_string(source.schema.field(name).type)]
    if not texts:
        return False
    names = literals(names_as_written(list(in_files)))
    tests = [f"{quoted(in_files[name])} in {names}" for name in texts[:LOOKED_AT]]
    if texts[0] == next(iter(in_files)):
        first = quoted(in_files[texts[0]])
        tests += [f"starts_with({first}, '--')", f"starts_with({first}, '==')"]
    return bool(database.rows(f"select 1 from {scan} where {' or '.join(tests)} limit 1"))


def _facts(database: Database, relation: str, columns: dict[str, str], schema: pa.Schema) -> dict[str, Facts]:
    """Look once at all columns of numbers and moments. Raises duckdb.Error for text that is not UTF-8."""
    asked, looks = [], []
    for name, column in columns.items():
        kind = schema.field(name).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if any(is_kind(kind) for is_kind in TEXT):
            looks.append(f"max(unicode({column}))")
            continue
        ends = [f"{end}({column})" for end in ("min", "max")]
        if pa.types.is_timestamp(kind):
            ends = [f"epoch_us({end})" for end in ends]
        whole = f"bool_and({column} = trunc({column}))" if pa.types.is_floating(kind) else "true"
        asked += [(name, (f"count(*) - count({column})", *ends, whole))]
    found = [value for _, look in asked for value in look] + looks
    if not found:
        return {}
    (row,) = database.rows(f"select {', '.join(found)} from {relation}")
    return {name: Facts(*row[4 * number : 4 * number + 4]) for number, (name, _) in enumerate(asked)}


def _copied(
    source: Source, names: Sequence[str], numbered: Collection[str], database: Database, problems: Problems
) -> Table:
    """Copy the wanted columns to a parquet file of this run, as types that the database knows."""
    columns = {name: f"c{number}" for number, name in enumerate(names)}
    stores = [_store(name, source.schema.field(name).type, name in numbered) for name in names]
    kinds = [(column, store.kind) for column, store in zip(columns.values(), stores, strict=True)]
    schema = pa.schema([("row", pa.int64()), *kinds])
    path, rows, size = database.new_file(), 0, 0
    already = len(problems.collected), len(problems.warnings)
    try:
        with (
            database.steps.step("copying") as report,
            pq.ParquetWriter(path, schema, compression="lz4") as writer,
        ):
            for batch, numbers in source.record_batches(problems, names or None):
                stored = [store.add(batch.column(name)) for name, store in zip(names, stores, strict=True)]
                table = pa.Table.from_arrays([pa.array(numbers), *stored], schema=schema)
                writer.write_table(table, GROUP_ROWS)
                rows, size = rows + len(numbers), size + table.nbytes
                report(_part_of(source, int(numbers[-1]), size))
    except _NotText:
        del problems.collected[already[0] :], problems.warnings[already[1] :]  # it is read again
        raise
    scan = f"read_parquet({literal(str(path))})"
    read = "".join(f", {column}" for column in columns.values())
    relation = database.create("view", "lines", f"select file_row_number as position{read} from {scan}")
    dictionaries = {s.name: s.values for s in stores if isinstance(s, _NumberedValues)}
    kept = {name: column for name, column in columns.items() if name not in dictionaries}

    def places(positions: Sequence[int]) -> list[int | str]:
        wanted = ", ".join(map(str, positions))
        sql = f"select file_row_number, row from {scan} where file_row_number in ({wanted})"
        found: dict[int, int] = dict(database.rows(sql)) if positions else {}
        return [source.place(found[position]) for position in positions]

    with database.steps.step("checking columns", database.done):
        facts = _facts(database, relation, kept, source.schema) if rows else {}
    return Table(source.name, database, relation, columns, source.schema, rows, places, dictionaries, facts)


def _part_of(source: Source, row: int, size: int) -> float:
    """Return about how much of a source was read: up to this row, in so many bytes of its columns."""
    files = len(source.parts)
    return (row // ROWS_OF_A_PART + 0.5) / files if files > 1 else size / max(source.size, 1)


class _PlainValues:
    """Stores text and numbers as they are."""

    def __init__(self, name: str, kind: pa.DataType):
        self.name, self.kind = name, kind

    def add(self, array: pa.Array) -> pa.Array:
        array = plain(array.dictionary_decode() if pa.types.is_dictionary(array.type) else array)
        if pa.types.is_string(self.kind) and not any(is_text(array.type) for is_text in TEXT):
            raise _NotText(self.name)
        return array.cast(self.kind)


class _NumberedValues:
    """Stores values of other types as numbers; keeps the values, in the order of their first rows."""

    kind = pa.int32()

    def __init__(self, name: str):
        self.name, self.values = name, pa.array([], pa.null())

    def add(self, array: pa.Array) -> pa.Array:
        array = plain(array.dictionary_decode() if pa.types.is_dictionary(array.type) else array)
        if pa.types.is_null(self.values.type):
            self.values = array.slice(0, 0)
        if array.type != self.values.type:  # text and, where it is not UTF-8, bytes
            array, self.values = array.cast(pa.large_binary()), self.values.cast(pa.large_binary())
        numbers, distinct = self._encoded(array)
        known = self._known(distinct)
        new = np.flatnonzero(known < 0)
        known[new] = np.arange(len(new)) + len(self.values)
        self.values = pa.concat_arrays([self.values, distinct.take(pa.array(new))])
        return pa.array(np.append(known, -1)[numbers].astype(np.int32), mask=numbers < 0)

    def _encoded(self, array: pa.Array) -> tuple[NDArray[np.int64], pa.Array]:
        """Return the number of each row's value, -1 for null, and the values."""
        if pa.types.is_null(array.type):
            return np.full(len(array), -1), array.slice(0, 0)
        try:
            encoded = array.dictionary_encode()
        except pa.ArrowNotImplementedError:  # rare types, whose values cannot be compared
            given = np.asarray(array.is_valid())
            return np.where(given, np.cumsum(given) - 1, -1), array.filter(pa.array(given))
        return np.asarray(encoded.indices.cast(pa.int64()).fill_null(-1)), encoded.dictionary

    def _known(self, distinct: pa.Array) -> NDArray[np.int64]:
        """Return the numbers that values have already, -1 for new ones."""
        try:
            found = pc.index_in(distinct, value_set=self.values)
        except pa.ArrowNotImplementedError:
            return np.full(len(distinct), -1)
        return np.asarray(found.cast(pa.int64()).fill_null(-1)).copy()


def _store(name: str, kind: pa.DataType, is_numbered: bool) -> _PlainValues | _NumberedValues:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if is_numbered or (isinstance(kind, pa.BaseExtensionType) and kind != pa.uuid()):
        return _NumberedValues(name)
    if kind == pa.uuid() or any(is_text(kind) for is_text in (*TEXT, pa.types.is_string_view)):
        return _PlainValues(name, pa.string())
    if any(is_number(kind) for is_number in NUMBERS):
        return _PlainValues(name, kind)
    return _NumberedValues(name)
