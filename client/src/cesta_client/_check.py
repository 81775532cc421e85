"""Checks a request before it is sent. Each broken rule raises InvalidRequest with a sentence."""

from __future__ import annotations

import math
import operator
import re
import struct
from collections.abc import Iterable
from typing import Any

from ._errors import InvalidRequest
from ._limits import MAX_AGE, MAX_HISTORY, MAX_ID_BYTES, MAX_K

_SESSION = re.compile(r"[!-~]{1,128}"), "1 to 128 printable ASCII characters without blanks"
_LABEL = re.compile(r"[A-Za-z0-9._:/-]{1,64}"), "1 to 64 of A-Z, a-z, 0-9 and ._:/-"
_PLURALS = {"item id": "item ids", "category": "categories"}


def ids(name: str, kind: str, values: Iterable[str] | None, *, most: int) -> tuple[str, ...]:
    """Return the ids sorted and unique, without empty ones. At most `most` are allowed."""
    if values is None:
        return ()
    if isinstance(values, str | bytes):
        raise InvalidRequest(f"{name} is a list of {_PLURALS[kind]}; got {_show(values)}; put it in [ ]")
    try:
        distinct = {_text(kind, value) for value in values}
    except TypeError:
        raise InvalidRequest(f"{name} is a list of {_PLURALS[kind]}; got {_show(values)}") from None
    distinct.discard("")
    if len(distinct) > most:
        raise InvalidRequest(f"{name} has {len(distinct)} {_PLURALS[kind]}; at most {most} are allowed")
    return tuple(sorted(distinct))


def history(values: Iterable[tuple[str, float]] | None) -> tuple[tuple[str, float], ...]:
    """Return the pairs (item id, age in days), newest first and unique, without empty ids.

    Ages are rounded to float32, as they are sent.
    """
    if values is None:
        return ()
    try:
        pairs = [(_text("item id", item), _age(age)) for item, age in values]
    except (TypeError, ValueError):
        raise InvalidRequest(
            f'history is a list of pairs such as ("1029743", 3.5); got {_show(values)}'
        ) from None
    distinct = {(age, item) for item, age in pairs if item}
    if len(distinct) > MAX_HISTORY:
        raise InvalidRequest(f"history has {len(distinct)} pairs; at most {MAX_HISTORY} are allowed")
    return tuple((item, age) for age, item in sorted(distinct))


def _age(value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_AGE:
        raise InvalidRequest(f"an age is a number of days from 0 to {MAX_AGE}; got {_show(value)}")
    (rounded,) = struct.unpack("<f", struct.pack("<f", value))
    return float(rounded)


def optional_id(name: str, value: str | None) -> str:
    return "" if value is None else _text(name, value)


def k(value: int) -> int:
    try:
        whole = operator.index(value)
    except TypeError:
        whole = 0
    if isinstance(value, bool) or not 1 <= whole <= MAX_K:
        raise InvalidRequest(f"k is a whole number from 1 to {MAX_K}; got {_show(value)}")
    return whole


def seconds(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise InvalidRequest(f"{name} is a number of seconds above 0; got {_show(value)}")
    return float(value)


def retries(value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidRequest(f"retries is a whole number, 0 or more; got {_show(value)}")
    return value


def request_id(value: str) -> str:
    return _text("request_id", value)


def context(session_id: str | None, placement: str | None, variant: str | None) -> dict[str, str]:
    """Return the headers of what is told beside a question. The gateway would leave out other values."""
    told = {"session_id": session_id, "placement": placement, "variant": variant}
    headers = {}
    for name, value in told.items():
        form, allowed = _SESSION if name == "session_id" else _LABEL
        if value is not None:
            if not isinstance(value, str) or not form.fullmatch(value):
                raise InvalidRequest(f"{name} is {allowed}; got {_show(value)}")
            headers[f"x-{name.replace('_', '-')}"] = value
    return headers


def _text(kind: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(f"{_expected(kind)}; got {_show(value)}")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidRequest(f"{kind} {value!r} has no UTF-8 form; it holds half a surrogate pair") from None
    if size > MAX_ID_BYTES:
        raise InvalidRequest(f"{kind} {value[:20]!r}… has {size} bytes; at most {MAX_ID_BYTES} are allowed")
    return value


def _expected(kind: str) -> str:
    return f"{_PLURALS[kind]} are strings" if kind in _PLURALS else f"{kind} is a string"


def _show(value: object) -> str:
    """The value with its type if it is short. A long one would fill the log."""
    kind, shown = type(value).__name__, repr(value)
    return f"{shown} ({kind})" if len(shown) <= 60 else f"a long {kind}"
