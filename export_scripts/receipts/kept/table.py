"""A table of the shop over the parts of its files."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path

import numpy as np

from export_scripts.receipts.database import Database, literals
from export_scripts.receipts.kept.kinds import AS_TEXT
from export_scripts.receipts.kept.part import Ends, PartFacts
from export_scripts.receipts.problems import Problems
from export_scripts.receipts.reading.places import first_row
from export_scripts.receipts.reading.source import Source, Unreadable
from export_scripts.receipts.tables import Facts, Table

Numbered = tuple[int, Path, PartFacts]  # the index of a file, its part, and what is known of it


def table_of_csv(
    source: Source, names: Sequence[str], database: Database, problems: Problems
) -> Table | None:
    """Return these columns of a csv; None if it cannot be used, with a problem added."""
    if (parts := parts_of(source, names, database, problems)) is None:
        return None
    starts = np.cumsum([0, *(facts.rows for _, _, facts in parts)]).tolist()
    columns = {name: f"c{number}" for number, name in enumerate(names)}
    kinds = [{facts.kinds[number] for _, _, facts in parts} for number in range(len(names))]
    alike = {name: next(iter(kind)) for name, kind in zip(names, kinds, strict=True) if len(kind) == 1}
    typed = {name: f"n{names.index(name)}" for name, kind in alike.items() if kind != "text"}
    relation = database.create("view", "lines", _union(parts, starts, [int(n[1:]) for n in typed.values()]))

    def places(positions: Sequence[int]) -> list[int | str]:
        return [source.place(_row(parts, starts, position, database)) for position in positions]

    return Table(
        source.name,
        database,
        relation,
        columns,
        source.schema,
        starts[-1],
        places,
        facts={n: _facts(parts, names.index(n)) for n in typed if alike[n] == "integer"},
        integers={name: column for name, column in typed.items() if alike[name] == "integer"},
        moments={name: column for name, column in typed.items() if alike[name] == "moment"},
        repaired=source.repaired,
    )


def copy_of_parquet(
    source: Source, names: Sequence[str], database: Database, problems: Problems
) -> Source | None:
    """Return a source with these columns of the files on this machine's disk; None as above."""
    if (parts := parts_of(source, names, database, problems)) is None:
        return None
    copies = [
        replace(source.parts[index], path=path, size=path.stat().st_size, keys=()) for index, path, _ in parts
    ]
    schema = source.schema.empty_table().select(list(names)).schema
    return Source(source.name, source.kind, copies, schema)


def parts_of(
    source: Source, names: Sequence[str], database: Database, problems: Problems
) -> list[Numbered] | None:
    with database.steps.step("copying") as report:
        try:
            return database.parts.of(source, names, database.folder, problems, report)
        except Unreadable:
            return None


def _union(parts: Sequence[Numbered], starts: Sequence[int], typed: Sequence[int]) -> str:
    """Return SQL of the lines of all parts: position, each column as text, and those that are typed."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for number, (_, _, facts) in enumerate(parts):
        groups.setdefault(tuple(facts.kinds), []).append(number)
    selects = []
    for kinds, numbers in groups.items():
        first = [starts[number] for number in numbers]
        position = f"({first}::bigint[])[file_index::bigint + 1] + file_row_number as position"
        texts = [f"{AS_TEXT[kind].format(f'v{n}')} as c{n}" for n, kind in enumerate(kinds)]  # type: ignore[index]
        files = literals([str(parts[number][1]) for number in numbers])[1:-1]
        chosen = ", ".join([position, *texts, *(f"v{number} as n{number}" for number in typed)])
        selects.append(f"select {chosen} from read_parquet([{files}], hive_partitioning = false)")
    return " union all ".join(selects)


def _row(parts: Sequence[Numbered], starts: Sequence[int], position: int, database: Database) -> int:
    """Return the number of a row, as `Source.place` takes it."""
    number = bisect_right(starts, position) - 1
    index, path, _ = parts[number]
    scan = f"read_parquet({literals([str(path)])[1:-1]})"
    sql = f"select row from {scan} where file_row_number = {position - starts[number]}"
    return first_row(index) + int(database.rows(sql)[0][0])


def _facts(parts: Sequence[Numbered], column: int) -> Facts:
    ends = reduce(Ends.join, (end for _, _, facts in parts if (end := facts.ends[column])))
    return Facts(ends.nulls, ends.least, ends.most, whole=True)
