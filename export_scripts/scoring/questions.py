"""Who is asked for: all users of a release, those of a list, or baskets of a file; sorted, in partitions.

A list may be longer than memory: DuckDB reads, sorts and spills it. The digest of the questions decides
whether a partition of an interrupted run belongs to this one.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal, NamedTuple

import duckdb

from ensemble.candidate_sampler.arrays import SamplerArrays
from export_scripts.receipts.database import Database, literal, open_database
from operations.errors import CestaError
from operations.records.object_path import ObjectPath

Kind = Literal["users", "baskets"]

FEWEST: Final = 100  # questions of a partition; fewer would be files of a few kilobytes
MOST_PARTITIONS: Final = 200  # until a partition holds MOST_ROWS
MOST_ROWS: Final = 200_000  # of a partition's answers: a few megabytes
CSV: Final = "header = true, all_varchar = true, delim = ',', quote = '\"', escape = '\"'"
COLUMNS: Final = {"users": ("user_id",), "baskets": ("basket_id", "item_id")}  # that a file must have

FRACTIONS: Final = ("FLOAT", "DOUBLE")
NESTED: Final = ("STRUCT", "MAP", "UNION")


class Asked(NamedTuple):
    """A partition of the questions, sorted by ``keys``: the ids of its users, or of its baskets."""

    number: int
    keys: list[str]
    users: list[str]  # "": no user
    baskets: list[list[str]]


class Questions(NamedTuple):
    """All questions of one run. ``batches`` yields keys, users and baskets in order, any number at once."""

    kind: Kind
    source: str  # "all users", or the file
    total: int
    digest: str
    batches: Callable[[], Iterator[tuple[list[str], list[str], list[list[str]]]]]

    def partitions(self, k: int) -> Iterator[Asked]:
        """Yield the questions in partitions, which depend on their number and on ``k`` only."""
        size = self.size(k)
        keys: list[str] = []
        users: list[str] = []
        baskets: list[list[str]] = []
        number = 0
        for more_keys, more_users, more_baskets in self.batches():
            keys, users, baskets = keys + more_keys, users + more_users, baskets + more_baskets
            while len(keys) >= size:
                yield Asked(number, keys[:size], users[:size], baskets[:size])
                keys, users, baskets = keys[size:], users[size:], baskets[size:]
                number += 1
        if keys:
            yield Asked(number, keys, users, baskets)

    def size(self, k: int) -> int:
        """Questions of a partition."""
        return min(max(-(-self.total // MOST_PARTITIONS), FEWEST), max(MOST_ROWS // k, 1))


def all_users(arrays: SamplerArrays, release_digest: str, batch: int = 10_000) -> Questions:
    """Every user of a release, in the order of their rows, which etl sorted by id."""
    ids, rows = arrays.user_ids, len(arrays.user_ids.offsets) - 1

    def batches() -> Iterator[tuple[list[str], list[str], list[list[str]]]]:
        for start in range(1, rows, batch):
            ends = ids.offsets[start : min(start + batch, rows) + 1].tolist()
            whole = ids.blob[ends[0] : ends[-1]].tobytes()
            users = [whole[a - ends[0] : b - ends[0]].decode() for a, b in pairwise(ends)]
            yield users, users, [[] for _ in users]

    digest = hashlib.sha256(f"all users of {release_digest}".encode()).hexdigest()
    return Questions("users", "all users", rows - 1, digest, batches)


@contextmanager
def open_file(kind: Kind, place: str, memory: str, spill: Path) -> Iterator[Questions]:
    """Read the users or baskets of a csv or parquet file. What exceeds ``memory`` is spilled to a folder.

    ``place`` is a path, a pattern, or an object of a bucket, which is downloaded into ``spill``. Raises
    CestaError for a file that cannot be read, or lacks a column.
    """
    path = _downloaded(place, spill) if "://" in place else Path(place)
    with open_database(memory, spill) as database:
        table = _read(database, kind, path, place)
        count, digest = 0, hashlib.sha256(kind.encode())
        for batch in database.batches(f"select * from {table}"):
            count += len(batch)
            for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                digest.update(repr(row).encode())
        if not count:
            raise CestaError(f"{place} has no {kind[:-1]}; give a file with at least one line")

        def batches() -> Iterator[tuple[list[str], list[str], list[list[str]]]]:
            for batch in database.batches(f"select * from {table}"):
                columns = [column.to_pylist() for column in batch.columns]
                if kind == "users":
                    yield columns[0], columns[0], [[] for _ in columns[0]]
                else:
                    yield columns[0], columns[1], columns[2]

        yield Questions(kind, place, count, digest.hexdigest(), batches)


def _downloaded(url: str, folder: Path) -> Path:
    parent, _, name = url.rpartition("/")
    path = folder / name
    (ObjectPath.at(parent) / name).download(path)
    return path


def _read(database: Database, kind: Kind, path: Path, place: str) -> str:
    """The table of the distinct questions of a file, sorted by key; errors name its ``place``."""
    name = literal(str(path))
    reader = f"read_csv({name}, {CSV})" if path.suffix.lower() == ".csv" else f"read_parquet({name})"
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise CestaError(f"{place} is neither .csv nor .parquet; name it by what it is")
    try:
        lines = database.create("view", "lines", f"select * from {reader}")
        found = {row[0]: row[1] for row in database.rows(f"describe {lines}")}
        if missing := [column for column in COLUMNS[kind] if column not in found]:
            raise CestaError(
                f"{place} has the columns {', '.join(found)}; --{kind} needs {' and '.join(missing)}"
            )
        _refuse_nested(found, place)
        if kind == "users":
            return database.create("table", "questions", _distinct_users(lines, found["user_id"]))
        basket, item = (_text(name, found[name]) for name in COLUMNS[kind])
        user = _text("user_id", found["user_id"]) if "user_id" in found else "null::varchar"
        given = database.create(
            "view",
            "given",
            f"select {basket} as basket_id, {user} as user_id, {item} as item_id from {lines}",
        )
        _refuse_two_users(database, given, place)
        return database.create("table", "questions", _baskets(given))
    except duckdb.OutOfMemoryException as error:
        raise CestaError(f"{place} was not sorted: {error}; raise etl.memory, or free some space") from None
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        raise CestaError(
            f"{place} cannot be read: {reason}; give parquet, or a csv in UTF-8 with commas and a header line"
        ) from None


def _refuse_nested(columns: Mapping[str, str], place: str) -> None:
    for name in ("user_id", "basket_id", "item_id"):
        kind = columns.get(name, "")
        if kind.endswith("]") or kind.startswith(NESTED):
            raise CestaError(f"{place}: the column {name} is {kind}; give one id in each line")


def _text(column: str, kind: str) -> str:
    """SQL of ids as text. pandas makes 7 to 7.0 in a column with empty cells, which etl reads as 7, too."""
    if kind not in FRACTIONS:
        return f"{column}::varchar"
    return (
        f"case when isnan({column}) then null when {column} = trunc({column}) and abs({column}) < 9e15 "
        f"then try_cast({column} as bigint)::varchar else {column}::varchar end"
    )


def _distinct_users(lines: str, kind: str) -> str:
    known = f"select distinct {_text('user_id', kind)} as user_id from {lines}"
    return f"select user_id from ({known}) where user_id <> '' order by user_id"


def _baskets(given: str) -> str:
    """A row for each basket; one without items asks for its user alone."""
    items = "list(distinct item_id order by item_id) filter (where item_id <> '')"
    return (
        f"select basket_id, coalesce(max(user_id), '') as user_id, coalesce({items}, []) as items "
        f"from {given} where basket_id <> '' group by basket_id order by basket_id"
    )


def _refuse_two_users(database: Database, given: str, place: str) -> None:
    two = database.rows(
        f"select basket_id, min(user_id), max(user_id) from {given} where user_id <> '' "
        "group by basket_id having min(user_id) <> max(user_id) order by basket_id limit 1"
    )
    if two:
        basket, one, other = two[0]
        raise CestaError(f'{place}: basket "{basket}" has the users {one} and {other}; a basket has one user')
