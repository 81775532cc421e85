"""How cells are written around their value: blanks, quotes, and the words for an empty cell."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ensemble.candidate_sampler.blanks import trimmed

# A first or last letter that is no plain ASCII, or a first one that may open a quote.
STRANGE_ENDS = r"""^[^\x21-\x7e]|[^\x21-\x7e]$|^[='"]"""
QUOTED = re.compile(r'=?"((?:[^"]|"")*)"|[“„”]([^“„”]*)[“”]|«([^«»]*)»', re.DOTALL)
DEEPEST = 4  # quotes around quotes
LONGEST_QUOTED = 10_000  # letters; no id and no name is longer
MARKS = "['`\u00b4\u2018\u2019]"  # before an id, for a spreadsheet to keep it as text
# What Excel, its translations and LibreOffice show when a formula fails, and when a column is too narrow.
ERROR_CELL = r"(?i)^(#[¡¿]?\p{L}[\p{L}0-9/_]*[!?]|#\p{L}/\p{L}( N/A)?|#NV|#GETTING_DATA|###+|Err:5[0-9]{2})$"
POINT_ZERO = r"(\.0+|,00?)$"  # ,000 may end a thousand
WHOLE_WITH_POINT = rf"^-?[0-9]+{POINT_ZERO}"
FRACTION = r"^-?[0-9]*[.,][0-9]*[1-9][0-9]*$"

Bools = NDArray[np.bool_]


def bare(text: str) -> str:
    """Return what a cell means: without blanks around it, without quotes around it, without ="…"."""
    text = trimmed(text)
    for _ in range(DEEPEST):
        quoted = QUOTED.fullmatch(text) if len(text) <= LONGEST_QUOTED else None
        if not quoted:
            break
        text = trimmed(next(inner for inner in quoted.groups() if inner is not None).replace('""', '"'))
    return text


def bare_cells(texts: pa.Array) -> pa.Array:
    """Apply `bare` to each cell, fast for those that need nothing."""
    return changed(texts, matches(texts, STRANGE_ENDS), bare)


def without_apostrophes(texts: pa.Array) -> pa.Array:
    """Take off the apostrophe by which a program marks text, and apostrophes used as quotes.

    A cell loses it before a digit or a sign; all cells lose it if all have it.
    """
    marked = matches(texts, f"^{MARKS}")
    if not marked.any():
        return texts
    if not (marked | np.asarray(texts.is_null())).all():
        marked = matches(texts, f"^{MARKS}[0-9=+@-]|^{MARKS}.+{MARKS}$")
    return changed(texts, marked, _without_apostrophe)


def _without_apostrophe(text: str) -> str:
    quoted = len(text) > 2 and text[-1] in MARKS[1:-1]
    return bare(text[1:-1] if quoted else text[1:])


def changed(texts: pa.Array, chosen: Bools, change: Callable[[str], str]) -> pa.Array:
    """Replace the chosen texts (n,) by what `change` makes of them."""
    if not chosen.any():
        return texts
    found = [change(text) for text in texts.filter(pa.array(chosen)).to_pylist()]
    return pc.replace_with_mask(texts, pa.array(chosen), pa.array(found, texts.type))


def matches(texts: pa.Array, pattern: str) -> Bools:
    """Return (n,): does the pattern match? Null does not."""
    return np.asarray(pc.match_substring_regex(texts, pattern).fill_null(False))


def emptied(texts: pa.Array, missing: Collection[str]) -> pa.Array:
    """Return the texts with null for empty cells, the words in `missing` and the errors of spreadsheets."""
    empty = np.asarray(pc.is_in(texts, pa.array(["", *missing], texts.type)))
    return pc.if_else(pa.array(empty | matches(texts, ERROR_CELL)), None, texts)


def without_point_zero(texts: pa.Array, chosen: Bools) -> pa.Array:
    """Turn the chosen "123.0" into "123"."""
    return pc.if_else(pa.array(chosen), pc.replace_substring_regex(texts, POINT_ZERO, ""), texts)
