"""Reads columns of ids: each id as the shop writes it, and refuses what cannot be an id."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ensemble.candidate_sampler.blanks import BLANKS
from export_scripts.receipts.problems import Problems
from export_scripts.receipts.tables import Cells, Column, Table, as_text, is_plain_integers
from export_scripts.receipts.written import (
    FRACTION,
    MARKS,
    WHOLE_WITH_POINT,
    Bools,
    emptied,
    matches,
    without_apostrophes,
    without_point_zero,
)

# 4.00638E+12, as a spreadsheet shows an EAN, and 4.006381333931E12, as programs write a float.
SCIENTIFIC = r"^-?[0-9]{1,3}(([.,][0-9]+)?[eE]\+|[.,][0-9]+[eE])[0-9]+$"
TRUTH_VALUE = "(?i)^(true|false)$"
NO_IDS = "store ids as text or integers; is it the right column?"
CONTROL = r"[\x00-\x1f\x7f]"
LARGEST_FLOAT = 2**53  # larger integers are rounded in a float column of 64 bits
MAX_ID_BYTES = 128  # the server refuses longer ids, so no release may hold one
_INVISIBLE = dict.fromkeys(
    ord(letter) for letter in BLANKS if not letter.isspace() and letter not in "\u200c\u200d"
)
_INVISIBLE |= dict.fromkeys(range(0xFE00, 0xFE10))  # variation selectors
# Joiners count between letters that they join, and not beside ASCII.
_LOOSE_JOINERS = re.compile("(?<=[\x20-\x7e])[\u200c\u200d]+|[\u200c\u200d]+(?=[\x20-\x7e])")
_SPACES = {ord(letter): " " for letter in BLANKS if letter.isspace()}


def id_column(
    table: Table, name: str, missing: Collection[str], problems: Problems, *, required: bool = True
) -> Cells:
    """Return the column as ids, null for missing ones: integers as they are stored, all else as text.

    Adds to `problems` what cannot be an id; missing ones if they are `required`.
    """
    facts = table.facts.get(name)
    if facts and is_plain_integers(table, name, missing) and not (required and facts.nulls):
        return table.as_number(name)
    column = table.distinct(name)
    _refuse_fractions(column, problems)
    written = as_text(column, problems)
    texts = emptied(without_apostrophes(written), missing)
    texts = _without_points(column, texts, problems)
    if required:
        what, way_out = f'column "{name}" is empty', "every row needs one; fill it in or remove the rows"
        column.refuse(np.append(np.asarray(texts.is_null()), True), written, what, way_out, problems)
    check_ids(column, texts, problems)
    _refuse_truth_values(column, texts, problems)
    return table.meaning(column, texts)


def _refuse_fractions(column: Column, problems: Problems) -> None:
    """Report fractions in a column of floats."""
    kind, bad = column.distinct.type, np.zeros(len(column.distinct), dtype=bool)
    if pa.types.is_floating(kind):
        values = column.distinct.to_numpy(zero_copy_only=False).astype(np.float64)
        bad = np.where(np.isfinite(values), values, 0) % 1 != 0
    what = f'column "{column.name}" is a {kind} column: its values are no ids'
    column.refuse(bad, column.distinct, what, NO_IDS, problems)


def _refuse_truth_values(column: Column, texts: pa.Array, problems: Problems) -> None:
    """Report a column that holds nothing but truth values."""
    true = matches(texts, TRUTH_VALUE)
    if (true | np.asarray(texts.is_null())).all():
        kind = "bool" if pa.types.is_boolean(column.distinct.type) else "text"
        what = f'column "{column.name}" is a {kind} column of truth values, which are no ids'
        column.refuse(true, column.distinct, what, NO_IDS, problems)


def _without_points(column: Column, texts: pa.Array, problems: Problems) -> pa.Array:
    """Turn "123.0" into "123", which a float column left; not if other ids have fractions."""
    pointed = matches(texts, WHOLE_WITH_POINT)
    if not pointed.any():
        return texts
    whole = without_point_zero(texts, pointed)
    if not matches(texts, FRACTION).any():
        large = pointed & matches(whole, "[0-9]{16}")
        large[large] = [abs(int(text)) >= LARGEST_FLOAT for text in whole.filter(pa.array(large)).to_pylist()]
        what = f'column "{column.name}" has ids that a float column rounded: last digits are lost'
        column.refuse(large, texts, what, "store ids as text or integers before the export", problems)
        others = ~pointed & ~np.asarray(texts.is_null())
        reading = "both are read as whole numbers"
        if others.any():
            _warn_of_points(
                column, pointed, texts, f'some ids end with ".0", others do not; {reading}', problems
            )
        return whole
    twins = pointed & np.asarray(pc.is_in(whole, texts))
    if twins.any():
        what = 'ids occur with and without ".0" and stay different, since other ids have fractions'
        _warn_of_points(column, twins, texts, what, problems)
    return texts


def _warn_of_points(column: Column, chosen: Bools, texts: pa.Array, what: str, problems: Problems) -> None:
    row, value = column.first_rows(chosen, texts)[0]
    where = f"{column.count(chosen):,} rows with it, the first is row {row}: {value}"
    problems.warn(f'{column.table.name}: column "{column.name}": {what} ({where})')


def check_ids(column: Column, texts: pa.Array, problems: Problems) -> None:
    """Report ids (distinct,) that are too long for the server, rounded, or that look like another one."""
    name = column.name
    long = np.asarray(pc.binary_length(texts).fill_null(0)) > MAX_ID_BYTES
    what = f'column "{name}" has ids over {MAX_ID_BYTES} bytes of UTF-8'
    column.refuse(long, texts, what, "use shorter ids; is it the right column?", problems)
    what = f'column "{name}" has line breaks or control characters within ids'
    way_out = "close each quote, and remove these characters"
    column.refuse(matches(texts, CONTROL), texts, what, way_out, problems)
    what = f'column "{name}" has formulas'
    column.refuse(matches(texts, "^="), texts, what, "save their values as text", problems)
    what = f'column "{name}" has ids that a spreadsheet rounded: last digits are lost'
    way_out = "format the column as text before the export"
    column.refuse(matches(texts, SCIENTIFIC), texts, what, way_out, problems)
    twins, shown = _look_alikes(texts)
    what = f'column "{name}" has ids that look like another id of it'
    way_out = "write each id in one way: Unicode NFC, no invisible letters, no apostrophe before it"
    column.refuse(twins, shown, what, way_out, problems)


def _look_alikes(texts: pa.Array) -> tuple[Bools, pa.Array]:
    """Mark texts (n,) that look like another one, and return them with escapes for what is not ASCII."""
    odd = matches(texts, rf"[^\x20-\x7e]|^{MARKS}|  ")
    twins = np.zeros(len(texts), dtype=bool)
    if not odd.any():
        return twins, texts
    found = texts.filter(pa.array(odd)).to_pylist()
    looks = [_look(text) for text in found]
    plain = pc.is_in(pa.array(looks, texts.type), texts.filter(pa.array(~odd)))
    counts = Counter(dict.fromkeys(zip(looks, found, strict=True)))
    by_look = Counter(look for look, _ in counts)
    twins[odd] = np.asarray(plain) | np.array([by_look[look] > 1 for look in looks])
    if twins.any():
        escaped = [text.encode("unicode_escape").decode("ascii") for text in found]
        texts = pc.replace_with_mask(texts, pa.array(odd), pa.array(escaped, texts.type))
    return twins, texts


def _look(text: str) -> str:
    """Return what is left of a text for the eye."""
    seen = unicodedata.normalize("NFC", _LOOSE_JOINERS.sub("", text.translate(_INVISIBLE | _SPACES)))
    return re.sub(f"^{MARKS}", "", " ".join(seen.split()))
