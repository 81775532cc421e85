"""Writes and reads the JSON bodies of a gateway, for both HTTP transports."""

from __future__ import annotations

import json
from collections.abc import Mapping

from .._errors import InvalidRequest, ServerError
from .._version import USER_AGENT
from .endpoint import Endpoint
from .interface import JsonObject
from .status import error_of_http


def request(asked: JsonObject, to: Endpoint, request_id: str) -> tuple[bytes, dict[str, str]]:
    """The body and the headers of a request.

    Raises:
        InvalidRequest: a text cannot be written as UTF-8.
    """
    try:
        body = json.dumps(asked, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"a text cannot be written as UTF-8: {error.reason}") from None
    named = {"x-request-id": request_id} if request_id else {}
    return body, {
        "user-agent": USER_AGENT,
        **to.headers,
        **named,
        "content-type": "application/json",
    }


def reply(status: int, headers: Mapping[str, str], body: bytes, to: Endpoint) -> JsonObject:
    """The object of an answer.

    Raises:
        CestaError: the server refused, or its answer cannot be read.
    """
    if not 200 <= status < 300:
        raise error_of_http(status, headers, body, to.address)
    try:
        answer = json.loads(body)
    except ValueError as error:
        raise ServerError(f"the answer of {to.address} cannot be read: {error!r}") from error
    if not isinstance(answer, dict):
        raise ServerError(f"the answer of {to.address} cannot be read: it is no object")
    return answer
