"""Where Triton keeps answers: in memory of its own, or in a Redis that outlives it and that servers share.

Standard library only.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from .environment import ServerError

PASSWORD_FILE = "CESTA_REDIS_PASSWORD_FILE"
_PASSWORD = "TRITONCACHE_REDIS_PASSWORD"  # read by Triton's redis cache itself, so that no `ps` shows it
_REDIS = {  # Triton would wait forever for a Redis that hangs; an answer is computed in milliseconds
    "connect_timeout": 500,  # ms
    "socket_timeout": 100,  # ms
    "pool_size": 8,  # connections; with the usual one, requests queue for it
}


def parse_cache(text: str) -> int | str:
    """Bytes, or the URL of a Redis, of a command line's option."""
    return int(text) if text.isdecimal() else text


def cache_options(cache: int | str, caches: Path) -> list[str]:
    """Options of tritonserver for so many bytes (0: none) or `redis://[user@]host[:port]`.

    `caches` is the folder of its cache libraries. Raises `ServerError` if it has none for this.
    """
    if cache == 0:
        return []
    if isinstance(cache, int):
        return [f"--cache-config=local,size={cache}"]
    settings = _redis(cache) | _REDIS
    library = caches / "redis" / "libtritoncache_redis.so"
    if not library.is_file():
        raise ServerError(
            f"this tritonserver has no Redis cache: there is no {library}; use one that has (NVIDIA's image, "
            "by CESTA_TRITON), or --response-cache with a number of bytes"
        )
    return [f"--cache-config=redis,{key}={value}" for key, value in settings.items()]


def cache_secret(cache: int | str) -> dict[str, str]:
    """The environment variable with a Redis's password, if `$CESTA_REDIS_PASSWORD_FILE` names its file."""
    file = os.environ.get(PASSWORD_FILE)
    if isinstance(cache, int) or not file:
        return {}
    try:
        return {_PASSWORD: Path(file).read_text(encoding="utf-8").strip()}
    except (OSError, UnicodeDecodeError) as error:
        raise ServerError(f"the password of {PASSWORD_FILE} cannot be read: {error}") from None


def _redis(url: str) -> dict[str, str | int]:
    """Raises `ServerError` without repeating a URL that may hold a password."""
    parts = urlsplit(url)
    if parts.password is not None:
        raise ServerError(
            f"--response-cache holds a password; put it into a file and name that in {PASSWORD_FILE}"
        )
    try:
        port = parts.port or 6379
    except ValueError as error:
        raise ServerError(f"--response-cache {url}: {error}") from None
    if parts.scheme != "redis" or not parts.hostname or parts.path.strip("/"):
        raise ServerError(f"--response-cache {url}: say a number of bytes, 0, or redis://[user@]host[:port]")
    settings: dict[str, str | int] = {"host": parts.hostname, "port": port}
    return settings | ({"user": parts.username} if parts.username else {})
