"""Everything this client raises.

    CestaError
    ├── InvalidRequest   the request is wrong: mend it; sending it again is no use
    ├── Unauthorized     the key is missing, wrong, or not allowed here
    ├── Throttled        too many requests for this key: send fewer
    ├── Unavailable      no connection, no capacity or no model; retried while timeout_s lasts
    ├── TimedOut         no answer within timeout_s
    └── ServerError      the server failed, or its answer cannot be read

The text is the server's own where it sent one. Exceptions of tritonclient, gRPC, sockets and aiohttp
never come through; they are the `__cause__`.
"""


# ruff: noqa: N818  `except Unavailable` reads as what happened; the root alone is named Error


class CestaError(Exception):
    """Any failure to recommend."""


class InvalidRequest(CestaError):
    """The request breaks a rule; the text names the thing, the value and the way out."""


class Unauthorized(CestaError):
    """The server wants another key (HTTP 401 or 403)."""


class Throttled(CestaError):
    """The server wants fewer requests (HTTP 429). Not retried."""


class Unavailable(CestaError):
    """The server cannot be reached, is full, or serves no recommender at present."""


class TimedOut(CestaError):
    """`timeout_s` passed without an answer. Not retried: no time is left."""


class ServerError(CestaError):
    """The server failed in some other way, or answered what this client cannot read."""
