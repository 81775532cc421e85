"""Turns the server's status codes into the errors of this client."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TypedDict

from .._errors import (
    CestaError,
    InvalidRequest,
    ServerError,
    Throttled,
    TimedOut,
    Unauthorized,
    Unavailable,
)

_BY_GRPC_CODE: dict[str, type[CestaError]] = {
    "INVALID_ARGUMENT": InvalidRequest,
    "UNAUTHENTICATED": Unauthorized,
    "PERMISSION_DENIED": Unauthorized,
    "RESOURCE_EXHAUSTED": Throttled,
    "UNAVAILABLE": Unavailable,
    "NOT_FOUND": Unavailable,  # the model is not loaded
    "DEADLINE_EXCEEDED": TimedOut,
}
_BY_HTTP_STATUS: dict[int, type[CestaError]] = {
    400: InvalidRequest,
    401: Unauthorized,
    403: Unauthorized,
    404: Unavailable,  # the model is not loaded
    408: TimedOut,
    409: InvalidRequest,
    413: InvalidRequest,
    422: InvalidRequest,
    429: Throttled,
    502: Unavailable,
    503: Unavailable,
    504: TimedOut,
}
_TRITON_PREFIX = re.compile(r"^(in ensemble '[^']*', )?(\[request id: [^\]]*\] )?")


class Told(TypedDict, total=False):
    """What the server told beside its text: the keywords of `CestaError`."""

    code: str
    pointer: str | None
    retry_after_s: float | None
    request_id: str


def error_of_grpc(code: str, text: str, trailers: Mapping[str, str], address: str) -> CestaError:
    """The error for a gRPC `code`, for example "UNAVAILABLE". A gateway's trailers tell the rest."""
    told = Told(
        code=trailers.get("cesta-code", ""),
        pointer=trailers.get("cesta-pointer"),
        retry_after_s=_seconds(trailers.get("retry-after")),
        request_id=trailers.get("x-request-id", ""),
    )
    return _error(_BY_GRPC_CODE.get(code, ServerError), text, told, address, code)


def error_of_http(status: int, headers: Mapping[str, str], body: bytes, address: str) -> CestaError:
    """The error for an HTTP answer: problem details (RFC 9457), Triton's {"error": text}, or any body."""
    try:
        problem = json.loads(body)
        text = str(problem["detail"] if "code" in problem else problem["error"])
    except (ValueError, KeyError, TypeError):  # such as a proxy's HTML page
        problem, text = {}, ""
    told = Told(
        code=_text(problem.get("code")) or "",
        pointer=_text(problem.get("pointer")),
        retry_after_s=_seconds(headers.get("retry-after")),
        request_id=_text(problem.get("request_id")) or "",
    )
    return _error(_BY_HTTP_STATUS.get(status, ServerError), text, told, address, f"HTTP {status}")


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _seconds(value: str | None) -> float | None:
    """The seconds of Retry-After. A date is not read: it would need this machine's clock to be right."""
    return float(value) if value and value.isascii() and value.isdigit() else None


def _error(kind: type[CestaError], text: str, told: Told, address: str, status: str) -> CestaError:
    text = _TRITON_PREFIX.sub("", text)
    if kind is InvalidRequest and text:
        return kind(text, **told)  # the text is about the request; the address would add nothing
    return kind(f"{address}: {text} ({status})" if text else f"{address} answered {status}", **told)
