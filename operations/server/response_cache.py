"""Triton's response cache: in its own memory, or in a Redis that outlives it and that servers can share.

Standard library only.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from operations.errors import ServerError

PASSWORD_FILE = "CESTA_REDIS_PASSWORD_FILE"
_PASSWORD = "TRITONCACHE_REDIS_PASSWORD"  # Triton's redis cache reads it, so `ps` does not show it
_REDIS = {  # without these Triton waits forever for a Redis that hangs; an answer costs milliseconds
    "connect_timeout": 500,  # ms
    "socket_timeout": 100,  # ms
    "pool_size": 8,  # connections; with the default of 1, requests queue for it
}


def parse_cache(text: str) -> int | str:
    """Read a command line's option: a number of bytes, or the URL of a Redis."""
    return int(text) if text.isdecimal() else text


def cache_options(cache: int | str, caches: Path) -> list[str]:
    """Return tritonserver's options for a cache of some bytes (0: none) or at `redis://[user@]host[:port]`.

    `caches` is the folder of its cache libraries. Raises `ServerError` if the library for Redis is missing.
    """
    if cache == 0:
        return []
    if isinstance(cache, int):
        return [f"--cache-config=local,size={cache}"]
    settings = _redis(cache) | _REDIS
    library = caches / "redis" / "libtritoncache_redis.so"
    if not library.is_file():
        raise ServerError(
            f"this tritonserver has no Redis cache: there is no {library}; set CESTA_TRITON to one with it "
            "(NVIDIA's image), or --response-cache with a number of bytes"
        )
    return [f"--cache-config=redis,{key}={value}" for key, value in settings.items()]


def cache_secret(cache: int | str) -> dict[str, str]:
    """Return the variable with the Redis password, if `$CESTA_REDIS_PASSWORD_FILE` names a file."""
    file = os.environ.get(PASSWORD_FILE)
    if isinstance(cache, int) or not file:
        return {}
    try:
        return {_PASSWORD: Path(file).read_text(encoding="utf-8").strip()}
    except (OSError, UnicodeDecodeError) as error:
        raise ServerError(f"the password of {PASSWORD_FILE} cannot be read: {error}") from None


def _redis(url: str) -> dict[str, str | int]:
    """Return the settings in a Redis URL. Errors do not repeat a URL that may hold a password."""
    parts = urlsplit(url)
    if parts.password is not None:
        raise ServerError(
            f"--response-cache holds a password; put it into a file and name the file in {PASSWORD_FILE}"
        )
    try:
        port = parts.port or 6379
    except ValueError as error:
        raise ServerError(f"--response-cache {url}: {error}") from None
    if parts.scheme != "redis" or not parts.hostname or parts.path.strip("/"):
        raise ServerError(
            f"--response-cache {url}: write a number of bytes, 0, or redis://[user@]host[:port]"
        )
    settings: dict[str, str | int] = {"host": parts.hostname, "port": port}
    return settings | ({"user": parts.username} if parts.username else {})
