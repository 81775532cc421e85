"""Text whose meaning no other row changes: whole numbers and moments, which are stored as such.

What a column of text means can depend on all of its rows: "123.0" is 123 unless another id has a fraction.
`123` and `2024-01-31 18:05:00` mean the same in any company, and the text can be made of them again. Numbers
are a third of the work of texts for the database.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Literal

import pyarrow as pa
import pyarrow.compute as pc

from export_scripts.receipts.times import calendar

Kind = Literal["integer", "moment", "text"]

# Kind → SQL that makes the text of a stored value again; an empty cell is "" and not null in a csv.
AS_TEXT: Final[Mapping[Kind, str]] = {
    "integer": "coalesce({}::varchar, '')",
    "moment": "strftime(make_timestamp({} * 1000000), '%Y-%m-%d %H:%M:%S')",
    "text": "{}",
}


def kind_of(texts: pa.Array) -> Kind:
    """Choose a kind by the first texts of a column."""
    kinds: tuple[Kind, ...] = ("integer", "moment")
    return next((kind for kind in kinds if stored_as(kind, texts) is not None), "text")


def stored_as(kind: Kind, texts: pa.Array) -> pa.Array | None:
    """Return the texts as they are stored; None if one of them is of another kind."""
    return STORED[kind](texts)


def stored_type(kind: Kind) -> pa.DataType:
    return pa.string() if kind == "text" else pa.int64()


def _as_integers(texts: pa.Array) -> pa.Array | None:
    """Return whole numbers of up to 64 bits as a program writes them; null for an empty cell."""
    if texts.null_count:
        return None
    given = texts
    empty = pc.equal(pc.binary_length(texts), 0)
    if pc.any(empty).as_py():
        given = pc.if_else(empty, None, texts)
    return _same_when_written(given, pa.int64())


def _as_moments(texts: pa.Array) -> pa.Array | None:
    """Return 2024-01-31 18:05:00 as seconds since 1970, in the years of plausible receipts."""
    if texts.null_count or (moments := _same_when_written(texts, pa.timestamp("s"))) is None:
        return None
    seconds = moments.cast(pa.int64())
    ends = pc.min_max(seconds)
    if ends["min"].as_py() < calendar.EARLIEST or ends["max"].as_py() >= calendar.LATEST:
        return None
    return seconds


def _same_when_written(texts: pa.Array, kind: pa.DataType) -> pa.Array | None:
    """Return the texts as this type; None if one of them is written otherwise, such as 007."""
    try:
        values = texts.cast(kind)
    except pa.ArrowInvalid:
        return None
    return values if values.cast(texts.type).equals(texts) else None


STORED: Final[Mapping[Kind, Callable[[pa.Array], pa.Array | None]]] = {
    "integer": _as_integers,
    "moment": _as_moments,
    "text": lambda texts: texts,
}
