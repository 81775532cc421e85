"""Reads times as [data] timestamp_format names them: a format of strptime, or a unit and its epoch."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from export_scripts.receipts.times.calendar import Floats
from export_scripts.receipts.times.numbers import NAMES, WIDTHS, Numbers, named_epoch


class UnusableFormat(ValueError):  # noqa: N818 - "except UnusableFormat" reads
    """The format cannot be used; the message says why."""


def read_named(text: pa.Array, numbers: Numbers, written_as: str) -> Floats:
    """Return distinct values (n,), given as text and as numbers, as seconds since 1970; NaN does not fit.

    Raises UnusableFormat.
    """
    try:
        if "%" in written_as:
            return _from_format(text, written_as)
        epoch = named_epoch(written_as)
    except (ValueError, re.error) as error:
        raise UnusableFormat(str(error)) from error
    if not epoch:
        units = '"UNIT since YYYY-MM-DD" (days to nanoseconds, ticks of 100 ns)'
        raise UnusableFormat(f"it has no % and is neither {units} nor one of {', '.join(NAMES)}")
    return epoch.read(numbers)


def _from_format(text: pa.Array, written_as: str) -> Floats:
    letters = re.findall("%([A-Za-z])", written_as)
    only_digits = written_as == "".join(f"%{letter}" for letter in letters) and set(letters) <= set(
        WIDTHS
    ) - {"f"}
    if only_digits:  # a column of numbers loses leading zeros: 1012024 would be 10 January
        text = pc.utf8_lpad(text, sum(WIDTHS[letter] for letter in letters), "0")
    times = pd.to_datetime(
        pd.Series(text.to_pandas(), dtype="str"), format=written_as, utc=True, errors="coerce"
    )
    seconds = (times - pd.Timestamp(0, tz="UTC")) // pd.Timedelta(seconds=1)
    return np.asarray(seconds, np.float64)
