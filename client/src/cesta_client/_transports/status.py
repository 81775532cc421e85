"""Turns the server's status codes into the errors of this client."""

from __future__ import annotations

import json
import re

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
    413: InvalidRequest,
    429: Throttled,
    502: Unavailable,
    503: Unavailable,
    504: TimedOut,
}
_TRITON_PREFIX = re.compile(r"^(in ensemble '[^']*', )?(\[request id: [^\]]*\] )?")


def error_of_grpc(code: str, text: str, address: str) -> CestaError:
    """The error for a gRPC `code` as tritonclient writes it, for example "StatusCode.UNAVAILABLE"."""
    name = code.removeprefix("StatusCode.")
    return _error(_BY_GRPC_CODE.get(name, ServerError), text, address, name)


def error_of_http(status: int, text: str, address: str) -> CestaError:
    return _error(_BY_HTTP_STATUS.get(status, ServerError), text, address, f"HTTP {status}")


def text_in(body: bytes) -> str:
    """The text of Triton's {"error": text}. Empty for other bodies, such as a gateway's HTML page."""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return ""


def _error(kind: type[CestaError], text: str, address: str, code: str) -> CestaError:
    text = _TRITON_PREFIX.sub("", text)
    if kind is InvalidRequest and text:
        return kind(text)  # the text is about the request; the address would add nothing
    return kind(f"{address}: {text} ({code})" if text else f"{address} answered {code}")
