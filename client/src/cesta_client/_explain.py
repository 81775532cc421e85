"""The body of `POST /v1/explain`."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

from . import _check
from ._errors import InvalidRequest
from ._values import Query

EXPLAIN_S = 30.0  # the first explanation starts a process at the server
MAX_EXPLAINED = 20


def explain_request(query: Query, k: int | None, item_ids: Iterable[str] | None) -> dict[str, Any]:
    """The body that asks to explain the answer to a query.

    Raises:
        InvalidRequest: `item_ids` is no list of at most 20 ids, or `k` is not 0 to 20.
    """
    named = _check.ids("item_ids", "item id", item_ids, most=MAX_EXPLAINED)
    asked: dict[str, Any] = {
        "basket": list(query.basket),
        "user_id": query.user_id,
        "exclude": list(query.exclude),
        "categories": list(query.categories),
        "item_ids": list(named),
    }
    further = {
        "store_id": query.store_id,
        "exclude_categories": list(query.exclude_categories),
        "items": list(query.items),
        "history": [item_id for item_id, _ in query.history],
        "history_ages": [age for _, age in query.history],
    }
    asked |= {name: value for name, value in further.items() if value}
    return asked if k is None else asked | {"k": _checked(k)}


def _checked(k: int) -> int:
    try:
        whole = operator.index(k)
    except TypeError:
        whole = -1
    if isinstance(k, bool) or not 0 <= whole <= MAX_EXPLAINED:
        raise InvalidRequest(f"k is a whole number from 0 to {MAX_EXPLAINED}; got {k!r}")
    return whole
