"""The gateway's keys: who may ask, as what, how often. Kept hashed; a key itself is shown once.

A key is 256 bits of chance, so that its SHA-256 cannot be found by trying; bcrypt and the like slow down
the guessing of what people think up, and would cost every request 50 ms.
"""

import fcntl
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from operations.errors import CestaError
from operations.records.atomic import write_file

Role = Literal["shop", "admin"]

FILE: Final = "keys.json"
MAX_RATE: Final = 100_000
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


@dataclass(frozen=True)
class Key:
    """What is kept of a key. `rate` is requests per second; `sha256` 64 hex digits."""

    name: str
    role: Role
    rate: int
    sha256: str
    created_at: str


def read_keys(folder: Path) -> list[Key]:
    """All keys that were not revoked, oldest first; none where there is no file."""
    path = folder / FILE
    try:
        return [Key(**described) for described in json.loads(path.read_text())]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError) as error:
        raise CestaError(
            f"{path} is not as cesta keys writes it ({error}); bring back a copy of it"
        ) from None


def add_key(folder: Path, name: str, role: Role, rate: int) -> str:
    """Make a key and return it; what the file keeps of it cannot give it back."""
    if not _NAME.fullmatch(name):
        raise CestaError(f'"{name}" is no name for a key; 1 to 32 of a-z, 0-9 and -')
    if not 1 <= rate <= MAX_RATE:
        raise CestaError(f"rate {rate} is not 1 to {MAX_RATE} requests per second")
    secret = f"cesta_{secrets.token_urlsafe(32)}"
    with _changed(folder) as keys:
        if any(key.name == name for key in keys):
            raise CestaError(f'there is a key "{name}" already; revoke it, or take another name')
        keys.append(Key(name, role, rate, _hashed(secret), datetime.now(UTC).isoformat(timespec="seconds")))
    return secret


def revoke_key(folder: Path, name: str) -> None:
    """Forget a key."""
    with _changed(folder) as keys:
        left = [key for key in keys if key.name != name]
        if len(left) == len(keys):
            known = ", ".join(key.name for key in keys) or "none"
            raise CestaError(f'there is no key "{name}"; there are: {known}')
        keys[:] = left


def _hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Alone in writing the folder's keys and what nginx includes; another waits. Not to be taken twice."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)  # a file could be one that another user made
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def _changed(folder: Path) -> Iterator[list[Key]]:
    """The keys, to be changed; written when the block ends well."""
    with locked(folder):
        keys = read_keys(folder)
        yield keys
        content = json.dumps([asdict(key) for key in keys], indent=1) + "\n"
        write_file(folder / FILE, content.encode())
