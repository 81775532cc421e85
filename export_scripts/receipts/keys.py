"""The key of a basket: one column or several; and signs that two receipts became one basket."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from export_scripts.receipts.ids import id_column
from export_scripts.receipts.problems import Problems, show
from export_scripts.receipts.tables import Table
from export_scripts.receipts.written import Bools, matches
from export_scripts.settings import DataSettings

Ids = pd.Series  # (n,) category of str
# Words that tell where a receipt was written, in the languages of many exports.
PLACE = re.compile(
    "(store|shop|branch|outlet|market|location|till|register|cashregister|cashdesk|terminal|pos|lane|checkout"
    "|station|workstation|device|filiale?|laden|geschäft|markt|kassen?|kassa|magasin|boutique|caisse|tienda"
    "|sucursal|caja|negozio|cassa|loja|caixa|winkel|vestiging|butik|sklep|kasa|obchod|pokladna)"
    "s?(id|nr|no|num|number|nummer|code|key|name)?"
)
WORD = re.compile(r"[^\W\d_]+")
LINES_TOGETHER = (
    1.5  # lines of a basket in one place of the file; near 1 a file is not in the order of baskets
)


def basket_column(
    table: Table, names: Sequence[str], user: str | None, data: DataSettings, problems: Problems
) -> Ids:
    """Return (n,) category of str, the basket of each line: its receipt, or "till/receipt" for two columns.

    A part may be empty only in the column of users, where it stands for unknown customers.
    """
    parts = [
        id_column(table, name, data.missing, problems, required=len(names) == 1 or name != user)
        for name in names
    ]
    if len(parts) == 1:
        return parts[0]
    first, *more = [part.cat.rename_categories(_escaped) for part in parts]
    for part in more:
        first = _pairs(first, part)
    return first


def _escaped(part: str) -> str:
    """Different pairs get different names: a/b with c is not a with b/c."""
    return part.replace("\\", "\\\\").replace("/", "\\/")


def _pairs(first: Ids, second: Ids) -> Ids:
    """Give each pair of two columns its id; an empty value pairs like any other."""
    width = len(second.cat.categories) + 1
    numbers = (first.cat.codes.to_numpy(np.int64) + 1) * width + second.cat.codes.to_numpy(np.int64) + 1
    codes, unique = pd.factorize(numbers)
    left, right = (np.array(["", *part.cat.categories], dtype=object) for part in (first, second))
    labels = left[unique // width] + "/" + right[unique % width]
    return pd.Series(pd.Categorical.from_codes(codes, pd.Index(labels, dtype="str")))


def warn_of_shared_numbers(
    table: Table, names: Sequence[str], baskets: Ids, times: pd.Series[float] | None, problems: Problems
) -> None:
    """Warn if the lines of one basket look like two receipts, as when two tills use the same numbers."""
    codes = baskets.cat.codes.to_numpy()
    for place in table.data.column_names:
        if place in names or not _is_place(place) or pa.types.is_nested(table.data.schema.field(place).type):
            continue
        values = table.coded(place)
        known, other = values.rows(_not_empty(values.distinct)), np.zeros(len(codes), dtype=bool)
        if known.any():
            other[known] = differs_from_first(codes[known], values.codes[known])
        if other.any():
            line = np.flatnonzero(other)[:1]
            first = np.flatnonzero(known & (codes == codes[line]))[:1]
            two = np.isin(np.arange(len(codes)), np.append(first, line))
            both = " and ".join(value for _, value in values.first_rows(two, values.distinct))
            key = ", ".join(f'"{name}"' for name in (place, *names))
            what = f'have lines of more than one "{place}" ({_shown(baskets, line)}: {both})'
            way_out = f"if each numbers its own receipts, set [data.columns] basket_id = [{key}]"
            _warn(table, codes, other, what, way_out, problems)
            return
    _warn_of_places_in_the_file(table, baskets, times, problems)


def _not_empty(values: pa.Array) -> Bools:
    if not pa.types.is_string(values.type):
        return np.ones(len(values), dtype=bool)
    return ~matches(values, "^ *$")


def _warn_of_places_in_the_file(
    table: Table, baskets: Ids, times: pd.Series[float] | None, problems: Problems
) -> None:
    """In a file in the order of baskets, a basket in two places, at two times, is often two receipts."""
    codes = baskets.cat.codes.to_numpy()
    starts = np.flatnonzero(np.append(True, codes[1:] != codes[:-1]))
    if len(codes) < LINES_TOGETHER * len(starts):
        return
    moments = np.arange(len(codes)) if times is None else times.to_numpy()
    again = differs_from_first(codes[starts], moments[starts])
    if not again.any():
        return
    line = starts[again][:1]
    rows = table.places(np.append(np.flatnonzero(codes == codes[line])[:1], line))
    apart = "" if times is None else ", at different times"
    what = f"have lines in separate places of the file{apart}"
    what += f" ({_shown(baskets, line)}: rows {rows[0]} and {rows[1]})"
    way_out = (
        "if tills or days use the same numbers, name all columns of the key, "
        'for example [data.columns] basket_id = ["till", "receipt"]'
    )
    _warn(table, codes[starts], again, what, way_out, problems)


def differs_from_first(baskets: NDArray[np.integer], values: NDArray[np.generic]) -> Bools:
    """Mark lines (n,) whose value is not that of the first line of their basket (n,)."""
    first = np.zeros(baskets.max() + 1, dtype=values.dtype)
    first[baskets[::-1]] = values[::-1]  # the last of equal indices remains
    different: Bools = values != first[baskets]
    return different


def _is_place(name: str) -> bool:
    """Does a word of the name tell of a store or a till?"""
    spaced = re.sub("(?<=[a-z])(?=[A-Z])", " ", name)
    return any(PLACE.fullmatch(word.casefold()) for word in WORD.findall(spaced))


def _shown(baskets: Ids, line: NDArray[np.integer]) -> str:
    return f"basket {show(baskets.iloc[line[0]])}"


def _warn(
    table: Table, baskets: NDArray[np.integer], other: Bools, what: str, way_out: str, problems: Problems
) -> None:
    share = f"{len(np.unique(baskets[other])):,} of {len(np.unique(baskets)):,} baskets"
    problems.warn(f"{table.name}: {share} {what}: {way_out}")
