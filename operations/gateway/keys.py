"""The gateway's keys: who may send requests, in which role, at which rate.

The file holds only hashes; a key is shown once. A key has 256 random bits, so nobody can find it from its
SHA-256 by trying. bcrypt and the like protect passwords that people invent; they cost each request 50 ms.
"""

import fcntl
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
    """The stored part of a key. `rate` is in requests per second; `sha256` has 64 hex digits."""

    name: str
    role: Role
    rate: int
    sha256: str
    created_at: str


def read_keys(folder: Path) -> list[Key]:
    """Return all valid keys, oldest first. Without a file there are none."""
    path = folder / FILE
    try:
        return [Key(**described) for described in json.loads(path.read_text())]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError) as error:
        raise CestaError(f"{path} was not written by cesta keys ({error}); restore a copy of it") from None


def add_key(folder: Path, name: str, role: Role, rate: int) -> str:
    """Make a key and return it. The file cannot give it back."""
    if not _NAME.fullmatch(name):
        raise CestaError(f'"{name}" cannot name a key; use 1 to 32 of a-z, 0-9 and -')
    if not 1 <= rate <= MAX_RATE:
        raise CestaError(f"rate {rate} is not 1 to {MAX_RATE} requests per second")
    secret = f"cesta_{secrets.token_urlsafe(32)}"
    with _changing_keys(folder) as keys:
        if any(key.name == name for key in keys):
            raise CestaError(f'a key "{name}" exists already; revoke it, or choose another name')
        keys.append(Key(name, role, rate, _hash(secret), datetime.now(UTC).isoformat(timespec="seconds")))
    return secret


def revoke_key(folder: Path, name: str) -> None:
    """Delete a key."""
    with _changing_keys(folder) as keys:
        remaining = [key for key in keys if key.name != name]
        if len(remaining) == len(keys):
            names = ", ".join(key.name for key in keys) or "none"
            raise CestaError(f'there is no key "{name}"; keys: {names}')
        keys[:] = remaining


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


@contextmanager
def _changing_keys(folder: Path) -> Iterator[list[Key]]:
    """Yield the keys to be changed, and write them when the block ends without an error.

    Other writers wait. The gateway reads the file when it is told, or within a second.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)  # a lock file could belong to another user
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        keys = read_keys(folder)
        yield keys
        content = json.dumps([vars(key) for key in keys]).replace("}, {", "},\n {")  # a line for each key
        write_file(folder / FILE, content.encode() + b"\n")
    finally:
        os.close(handle)
