"""Reads the distinct values of a column of numbers or texts."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from export_scripts.receipts.times.calendar import Ints
from export_scripts.receipts.times.named import read_named
from export_scripts.receipts.times.numbers import Numbers, from_numbers
from export_scripts.receipts.times.readings import Reading
from export_scripts.receipts.times.texts import from_text
from export_scripts.receipts.written import bare_cells, without_apostrophes

NUMBER = r"^[+-]?[0-9]+([.,][0-9]+)?([eE][+-]?[0-9]+)?$"
WHOLE = r"^-?[0-9]{1,19}$"
ROUNDED = r"^[+-]?[0-9]([.,][0-9]{1,6})?[eE]"  # 1.70407E+09, as spreadsheets show large numbers
ALL_DIGITS = r"^[+-]?[0-9][.,][0-9]{7,}[eE]"  # programs write every digit of some value


def read_distinct(values: pa.Array, counts: Ints, written_as: str) -> list[Reading]:
    """Choose the reading of distinct values (n,) without nulls; `counts` (n,) says how many rows each has.

    `written_as` is a format, or "" to recognise it. Raises UnusableFormat.
    """
    text = None
    if not _holds_numbers(values):
        text = without_apostrophes(bare_cells(values.cast(pa.large_string())))
    numbers = _stored_numbers(values) if text is None else _written_numbers(text)
    if written_as:
        times = read_named(_digits(numbers) if text is None else text, numbers, written_as)
        return [Reading(written_as, times, ~np.isnan(times))]
    if text is None:
        return from_numbers(numbers, counts)
    counts = np.where(np.asarray(pc.equal(text, "")), 0, counts)
    if counts[~np.isnan(numbers)].sum() * 2 > counts.sum():
        return from_numbers(numbers, counts)
    return from_text(text, counts)


def _holds_numbers(values: pa.Array) -> bool:
    kind = values.type
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _stored_numbers(values: pa.Array) -> Numbers:
    """Return numbers (n,) as int64 if all of them fit, else as float64."""
    if not pa.types.is_floating(values.type):
        with suppress(pa.ArrowInvalid):  # a fraction, or over 64 bits
            return np.asarray(values.cast(pa.int64()))
    return np.asarray(values.cast(pa.float64(), safe=False))


def _written_numbers(text: pa.Array) -> Numbers:
    """Return numbers (n,) as int64 if all of them are whole, else as float64 with NaN for other text."""
    if pc.all(pc.match_substring_regex(text, WHOLE)).as_py():
        with suppress(pa.ArrowInvalid):  # over 64 bits
            return np.asarray(text.cast(pa.int64()))
    number = pc.match_substring_regex(text, NUMBER)
    if not pc.any(pc.match_substring_regex(text, ALL_DIGITS)).as_py():
        number = pc.and_not(number, pc.match_substring_regex(text, ROUNDED))
    plain = pc.replace_substring(pc.utf8_ltrim(text, "+"), ",", ".")
    return np.asarray(pc.if_else(number, plain, "nan").cast(pa.float64()))


def _digits(numbers: Numbers) -> pa.Array:
    """Write numbers (n,) as text, whole ones without a point."""
    whole = numbers.dtype == np.int64 or bool(np.all(numbers[np.isfinite(numbers)] % 1 == 0))
    return pa.array([_plain(number) if whole else str(number) for number in numbers], pa.large_string())


def _plain(number: float) -> str:
    return str(int(number)) if np.isfinite(number) else str(number)
