"""Baskets as groups of lines: two users or stores, too long, or two receipts that became one basket."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from export_scripts.receipts.problems import SHOWN_ROWS, Problem, Problems, show
from export_scripts.receipts.tables import Cells, Table

LINES_TOGETHER = (
    1.5  # lines of a basket in one place of the file; near 1 a file is not in the order of baskets
)


@dataclass(frozen=True)
class Owners:
    """The cells that are one value for all lines of a basket, or null; None without such a column."""

    user: Cells | None
    store: Cells | None

    def cells(self) -> dict[str, Cells]:
        """Return the columns that the receipts have, by role."""
        return {role: cells for role, cells in vars(self).items() if cells}


@dataclass(frozen=True)
class _Baskets:
    """The lines with their basket, user, store, time and places, and the table of the baskets.

    Its columns: basket, lines, seen and until (first and last position); if there are users, first_user and
    last_user in the order of ids; likewise first_store and last_store; if there are times, first and last in
    seconds; the least and the most of each place.
    """

    table: Table
    lines: str  # SQL
    name: str

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self.table.database.rows(sql)

    def count(self, chosen: str) -> int:
        """Return the number of baskets with this property."""
        return int(self.rows(f"select count(*) from {self.name} where {chosen}")[0][0])


def check_baskets(
    table: Table,
    names: Mapping[str, tuple[str, ...]],
    basket: Cells,
    owners: Owners,
    time: Cells | None,
    places: Sequence[str],
    hours: float,
    problems: Problems,
) -> str:
    """Return the table of baskets. Reports baskets of two users or stores, and baskets that last too long.

    Warns of those that look like two.
    """
    cells = {"basket": basket}
    measures = ["count(*) as lines", "min(position) as seen", "max(position) as until"]
    for role, column in owners.cells().items():
        cells[f"of_{role}"] = column
        measures += [f"min(of_{role}) as first_{role}", f"max(of_{role}) as last_{role}"]
    if time:
        cells["time"] = time
        measures += ["min(time) as first", "max(time) as last"]
    for number, place in enumerate(places):
        cells[f"place_{number}"] = _known(table, place)
        measures += [f"min(place_{number}) as least_{number}", f"max(place_{number}) as most_{number}"]
    lines = f"(select * from ({table.select(**cells)}) where basket is not null)"
    group = f"select basket, {', '.join(measures)} from {lines} group by basket"
    database = table.database
    with database.steps.step("checking baskets", database.done):
        baskets = _Baskets(table, lines, database.create("table", "receipts", group))
    for role in owners.cells():
        _check_one_owner(baskets, role, names, problems)
    if time:
        _check_duration(baskets, hours, problems)
    _warn_of_shared_numbers(baskets, names["basket_id"], places, time is not None, problems)
    return baskets.name


def _known(table: Table, place: str) -> Cells:
    """Return the cells of a place, null where they are empty."""
    kind, stored = table.schema.field(place).type, table.as_stored(place)
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if place in table.dictionaries or not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return stored
    return Cells(f"case when trim({stored.sql}) <> '' then {stored.sql} end", stored.joins)


def _check_one_owner(
    baskets: _Baskets, role: str, names: Mapping[str, tuple[str, ...]], problems: Problems
) -> None:
    """Report lines whose user or store differs from the first one of their basket. An empty cell is none."""
    if not baskets.count(f"first_{role} <> last_{role}"):
        return
    mixed = f"(select basket from {baskets.name} where first_{role} <> last_{role})"
    known = f"(select * from {baskets.lines} where of_{role} is not null and basket in {mixed})"
    first = f"(select basket, arg_min(of_{role}, position) as first from {known} group by basket)"
    other = f"from {known} join {first} using (basket) where of_{role} <> first"
    values = f"position, basket::varchar, of_{role}::varchar"
    found = baskets.rows(f"select {values} {other} order by position limit {SHOWN_ROWS}")
    shown = [f"basket {basket}, {role} {owner}" for _, basket, owner in found]
    key = ", ".join(f'"{name}"' for name in (*names["basket_id"], *names[f"{role}_id"]))
    way_out = (
        f"a basket is one receipt of one {role}: name the columns of the date and the till, too, or set "
        f"[data.columns] basket_id = [{key}]"
    )
    what = f"baskets of two {role}s; the second {role} is in"
    _refuse(baskets, other, [row[0] for row in found], shown, what, way_out, problems)


def _check_duration(baskets: _Baskets, basket_hours: float, problems: Problems) -> None:
    """Report lines more than `basket_hours` after the first of their basket."""
    late = f"last - first > {basket_hours * 3600!r}"
    if not baskets.count(late):
        return
    long = f"(select basket, first from {baskets.name} where {late})"
    lines = f"from {baskets.lines} join {long} using (basket) where time - first > {basket_hours * 3600!r}"
    values = "position, basket::varchar, time - first"
    found = baskets.rows(f"select {values} {lines} order by position limit {SHOWN_ROWS}")
    shown = [f"basket {basket}, {np.round(seconds / 3600, 1)} hours after" for _, basket, seconds in found]
    what = f"baskets that last over {basket_hours:g} hours; late lines are in"
    way_out = (
        "basket_id seems to be reused: name the column of the till or the date, too, "
        'as in [data.columns] basket_id = ["date", "till", "receipt"], or raise [etl] basket_hours'
    )
    _refuse(baskets, lines, [row[0] for row in found], shown, what, way_out, problems)


def _refuse(
    baskets: _Baskets,
    lines: str,
    first: Sequence[int],
    shown: Sequence[str],
    what: str,
    way_out: str,
    problems: Problems,
) -> None:
    (count,) = baskets.rows(f"select count(*) {lines}")[0]
    rows = tuple(zip(baskets.table.places(first), map(show, shown), strict=True))
    problems.add(Problem(baskets.table.name, what, way_out, rows, count))


def _warn_of_shared_numbers(
    baskets: _Baskets, names: Sequence[str], places: Sequence[str], has_time: bool, problems: Problems
) -> None:
    """Warn if the lines of one basket look like two receipts, as when two tills use the same numbers."""
    for number, place in enumerate(places):
        other = f"least_{number} <> most_{number}"
        if count := baskets.count(other):
            basket, values = _first_two(baskets, f"place_{number}", other, place)
            key = ", ".join(f'"{name}"' for name in (place, *names))
            what = f'have lines of more than one "{place}" (basket {show(basket)}: {values})'
            way_out = f"if each numbers its own receipts, set [data.columns] basket_id = [{key}]"
            _warn(baskets, count, what, way_out, problems)
            return
    _warn_of_places_in_the_file(baskets, has_time, problems)


def _first_two(baskets: _Baskets, place: str, other: str, name: str) -> tuple[str, str]:
    """Return the first basket with a line of another place, and both places as messages show them."""
    mixed = f"(select basket from {baskets.name} where {other})"
    known = f"(select * from {baskets.lines} where {place} is not null and basket in {mixed})"
    first = f"(select basket, arg_min({place}, position) as home from {known} group by basket)"
    line = f"select basket, home, {place} from {known} join {first} using (basket) where {place} <> home"
    found = baskets.table.database.arrow(f"{line} order by position limit 1")
    dictionary = baskets.table.dictionaries.get(name)
    values = [found[column][0].as_py() for column in ("home", place)]
    if dictionary is not None:
        values = [dictionary[number].as_py() for number in values]
    return str(found["basket"][0].as_py()), " and ".join(map(show, values))


def _warn_of_places_in_the_file(baskets: _Baskets, has_time: bool, problems: Problems) -> None:
    """In a file in the order of baskets, a basket in two places, at two times, is often two receipts."""
    scattered = "until - seen + 1 <> lines"
    (lines, together, apart) = baskets.rows(
        f"select coalesce(sum(lines), 0)::bigint, count(*) filter (not {scattered}),"
        f" count(*) filter ({scattered}) from {baskets.name}"
    )[0]
    if not apart or lines < LINES_TOGETHER * (together + 2 * apart):
        return
    of_them = f"select basket from {baskets.name} where {scattered}"
    chosen = f"(select * from {baskets.lines} where basket in ({of_them}))"
    before = "lag(position) over (partition by basket order by position) as before"
    starts = baskets.table.database.create(
        "table",
        "starts",
        f"select * from (select *, {before} from {chosen}) where before is null or position > before + 1",
    )
    (count,) = baskets.rows(f"select count(*) from {starts}")[0]
    if lines < LINES_TOGETHER * (together + count):
        return
    moment = "time" if has_time else "position"
    first = f"select basket, min(position) as seen, arg_min({moment}, position) as home from {starts}"
    again = f"from {starts} join ({first} group by basket) using (basket) where {moment} <> home"
    (count,) = baskets.rows(f"select count(distinct basket) {again}")[0]
    if not count:
        return
    ((basket, *two),) = baskets.rows(
        f"select basket::varchar, seen, position {again} order by position limit 1"
    )
    rows = baskets.table.places(two)
    apart_in_time = ", at different times" if has_time else ""
    what = f"have lines in separate places of the file{apart_in_time}"
    what += f" (basket {show(basket)}: rows {rows[0]} and {rows[1]})"
    way_out = (
        "if tills or days use the same numbers, name all columns of the key, "
        'for example [data.columns] basket_id = ["till", "receipt"]'
    )
    _warn(baskets, count, what, way_out, problems)


def _warn(baskets: _Baskets, count: int, what: str, way_out: str, problems: Problems) -> None:
    share = f"{count:,} of {baskets.count('true'):,} baskets"
    problems.warn(f"{baskets.table.name}: {share} {what}: {way_out}")
