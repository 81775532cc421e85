"""Lists that need no basket, as bodies of the gateway's `POST /v1/lists`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Literal

from . import _check
from ._errors import InvalidRequest, ServerError
from ._transports.interface import JsonObject
from ._transports.status import error_of_http
from ._values import AnswerWarning, Reason, Recommendation, Recommendations

PATH = "/v1/lists"
MAX_LIMIT = 100
Kind = Literal["similar", "together", "substitutes", "popular"]


def body(
    kind: Kind,
    item_id: str | None,
    limit: int,
    exclude: Iterable[str] | None,
    categories: Iterable[str] | None,
    store_id: str | None,
    days: int | None = None,
) -> JsonObject:
    """The body that asks for one list.

    Raises:
        InvalidRequest: an id is not valid, or limit is not 1 to 100.
    """
    item = _check.optional_id("item_id", item_id)
    if kind != "popular" and not item:
        raise InvalidRequest("item_id is empty")
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_LIMIT:
        raise InvalidRequest(f"limit is a whole number from 1 to {MAX_LIMIT}; got {limit!r}")
    wish: JsonObject = {
        "kind": kind,
        "item_id": item,
        "limit": limit,
        "exclude": list(_check.ids("exclude", "exclude", exclude, most=1000)),
        "categories": list(_check.ids("categories", "category", categories, most=100)),
        "store_id": _check.optional_id("store_id", store_id),
        "days": days,
    }
    return {"lists": [{name: value for name, value in wish.items() if value}]}


def list_in(told: JsonObject, address: str = "the gateway") -> Recommendations:
    """The one list of an answer.

    Raises:
        CestaError: the server refused the list, or its answer cannot be read.
    """
    try:
        (entry,) = told["lists"]
        if problem := entry.get("problem"):
            raise error_of_http(int(problem["status"]), {}, json.dumps(problem).encode(), address)
        return Recommendations(
            [_item(item, rank) for rank, item in enumerate(entry["items"], start=1)],
            release=int(entry["release"]),
            warnings=[AnswerWarning(each["code"], each["value"]) for each in entry.get("warnings", ())],
        )
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise ServerError(f"the server's answer cannot be read: {error!r}") from error


def _item(item: JsonObject, rank: int) -> Recommendation:
    known = tuple(reason for reason in Reason if str(reason.name).lower() in item["reasons"])
    return Recommendation(item["item_id"], float(item["score"]), rank, known)
