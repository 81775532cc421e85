"""Errors of the supervisor's app as problem details (RFC 9457), in the gateway's form.

Each has a code that programs read. docs/errors.md lists the codes; deploy/gateway/lua/problems.lua has the
gateway's own.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from fastapi.exceptions import HTTPException
from fastapi.responses import JSONResponse

CONTENT_TYPE: Final = "application/problem+json"
TYPE: Final = "urn:problem-type:cesta:"

TITLES: Final = {
    "invalid_body": "The body has a wrong value",
    "not_json": "The body is not JSON",
    "not_utf8": "The text is not UTF-8",
    "wrong_type": "A value has the wrong type",
    "unknown_field": "A field is unknown",
    "missing_field": "A field is missing",
    "wrong_form": "A text has the wrong form",
    "out_of_range": "A number is outside its range",
    "too_many_ids": "A list has too many ids",
    "id_too_long": "An id is too long",
    "event_in_future": "The event is said to happen in the future",
    "event_before_receipts": "The event is older than the receipts of the active release",
    "event_changed": "Another event has this id",
    "events_queue_full": "Too many events wait for the disk",
    "events_not_kept": "The events could not be kept",
    "not_allowed": "This key may not do that",
    "no_such_path": "There is no such path",
    "wrong_method": "The path does not know the method",
    "change_refused": "The change was refused or failed, and nothing has changed",
    "idempotency_key_reused": "The Idempotency-Key belongs to another request",
    "no_such_operation": "There is no such operation",
    "change_in_progress": "Other changes are in progress",
    "not_ready": "The recommender is not ready",
    "repository_unreadable": "The repository cannot be read now",
    "explainer_busy": "Another question is being explained",
    "not_explained": "The answer cannot be explained",
    "older_version": "A version that is as new or newer is known",
    "too_many_pairs": "The table of the stock is full",
    "stock_not_kept": "The change of the stock was not kept",
    "not_watched": "This supervisor does not watch for drift",
    "supervisor_failed": "The supervisor failed",
    "refused": "The request cannot be served",
}
_BY_STATUS: Final = {
    400: "invalid_body",
    403: "not_allowed",
    404: "no_such_path",
    405: "wrong_method",
    409: "change_refused",
    500: "supervisor_failed",
    503: "not_ready",
}
RETRY_S: Final = 1  # the watchdog looks every second; nobody knows how long another change takes


class Problem(HTTPException):
    """Ends a request with a status, a sentence and one of TITLES' codes.

    Args:
        pointer: a JSON pointer (RFC 6901) to the field of the body that the sentence is about.
        retry_s: when to try again; a 503 has RETRY_S unless it is given.
    """

    def __init__(
        self, status: int, sentence: str, code: str, *, pointer: str | None = None, retry_s: int | None = None
    ) -> None:
        super().__init__(status, sentence)
        self.code, self.pointer, self.retry_s = code, pointer, retry_s


def problem_response(
    request_id: str, status: int, sentence: str, headers: Mapping[str, str] | None = None, **known: Any
) -> JSONResponse:
    """Return an error as problem details. ``known``: ``code``, ``pointer`` and ``retry_s`` of a `Problem`."""
    sentence = sentence.encode(errors="backslashreplace").decode()  # it may quote half a surrogate pair
    code = known.get("code") or _BY_STATUS.get(status, "refused")
    body = {
        "type": f"{TYPE}{code}",
        "title": TITLES[code],
        "status": status,
        "detail": sentence,
        "code": code,
        **({"pointer": known["pointer"]} if known.get("pointer") is not None else {}),
        "error": sentence,  # what older clients read
        "request_id": request_id,
    }
    retry_s = known.get("retry_s") or (RETRY_S if status == 503 else None)
    retry = {"Retry-After": str(retry_s)} if retry_s else {}
    return JSONResponse(body, status, headers={**retry, **(headers or {})}, media_type=CONTENT_TYPE)


def pointer_to(place: Iterable[str | int]) -> str:
    """Return the JSON pointer to a place in a body: ``("queries", 0)`` → ``/queries/0``."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in place)
