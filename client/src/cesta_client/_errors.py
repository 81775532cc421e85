"""Everything this client raises.

    CestaError
    ├── InvalidRequest   the request is wrong; correct it before sending it again
    ├── Unauthorized     the key is missing, wrong, or not allowed here
    ├── Throttled        too many requests for this key; send fewer
    ├── Unavailable      no connection, no capacity or no model; retried while timeout_s lasts
    ├── TimedOut         no answer within timeout_s
    └── ServerError      the server failed, or its answer cannot be read

The text is the server's own if it sent one. A gateway also sends what a program can use: see `CestaError`.
Exceptions of tritonclient, gRPC, sockets and aiohttp never reach the caller directly; they are the
`__cause__`.
"""


# ruff: noqa: N818  `except Unavailable` names the event; only the root class is named Error


class CestaError(Exception):
    """Any failure to recommend.

    Attributes:
        code: tells kinds of errors apart, such as "too_many_ids". docs/errors.md of cesta lists them, and
            newer servers may send others. Empty if the server sent none.
        pointer: the JSON pointer (RFC 6901) to the value that the error is about, such as "/basket".
        retry_after_s: the seconds after which the request may succeed, if the server told them.
        request_id: the id under which the gateway has logged the request.
    """

    def __init__(
        self,
        text: str = "",
        *,
        code: str = "",
        pointer: str | None = None,
        retry_after_s: float | None = None,
        request_id: str = "",
    ) -> None:
        super().__init__(text)
        self.code, self.pointer = code, pointer
        self.retry_after_s, self.request_id = retry_after_s, request_id


class InvalidRequest(CestaError):
    """The request breaks a rule; the text names the thing, the value and the way out."""


class Unauthorized(CestaError):
    """The server does not accept the key (HTTP 401 or 403)."""


class Throttled(CestaError):
    """The key has sent too many requests (HTTP 429). Not retried."""


class Unavailable(CestaError):
    """The server cannot be reached, has no capacity, or serves no recommender now."""


class TimedOut(CestaError):
    """There was no answer within `timeout_s`. Not retried, because no time remains."""


class ServerError(CestaError):
    """The server failed in another way, or this client cannot read its answer."""
