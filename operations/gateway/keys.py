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
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

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
    return [Key(**described) for described in _read(folder)]


def add_key(folder: Path, name: str, role: Role, rate: int) -> str:
    """Make a key and return it. The file cannot give it back."""
    if not _NAME.fullmatch(name):
        raise CestaError(f'"{name}" cannot name a key; use 1 to 32 of a-z, 0-9 and -')
    if not 1 <= rate <= MAX_RATE:
        raise CestaError(f"rate {rate} is not 1 to {MAX_RATE} requests per second")
    secret = f"cesta_{secrets.token_urlsafe(32)}"
    key = Key(name, role, rate, _hash(secret), datetime.now(UTC).isoformat(timespec="seconds"))
    with _changing_keys(folder) as keys:
        if any(known["name"] == name for known in keys):
            raise CestaError(f'a key "{name}" exists already; revoke it, or choose another name')
        keys.append(asdict(key))
    return secret


def revoke_key(folder: Path, name: str) -> None:
    """Delete a key."""
    with _changing_keys(folder) as keys:
        remaining = [key for key in keys if key["name"] != name]
        if len(remaining) == len(keys):
            names = ", ".join(key["name"] for key in keys) or "none"
            raise CestaError(f'there is no key "{name}"; keys: {names}')
        keys[:] = remaining


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _read(folder: Path) -> list[dict[str, Any]]:
    """Return the fields of each key. Ten thousand Key objects would take as long as all the rest."""
    path = folder / FILE
    try:
        keys = json.loads(path.read_text())
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise CestaError(f"{path} was not written by cesta keys ({error}); restore a copy of it") from None
    known = {field.name for field in fields(Key)}
    if not isinstance(keys, list) or any(not isinstance(k, dict) or k.keys() != known for k in keys):
        problem = f"an entry has not the fields {', '.join(sorted(known))}"
        raise CestaError(f"{path} was not written by cesta keys ({problem}); restore a copy of it")
    return keys


@contextmanager
def _changing_keys(folder: Path) -> Iterator[list[dict[str, Any]]]:
    """Yield the keys to be changed, and write them when the block ends without an error.

    Other writers wait. The gateway reads the file when it is told, or within a second.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)  # a lock file could belong to another user
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        keys = _read(folder)
        yield keys
        content = json.dumps(keys).replace("}, {", "},\n {")  # a line for each key
        write_file(folder / FILE, content.encode() + b"\n")
    finally:
        os.close(handle)
