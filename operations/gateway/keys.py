"""The gateway's keys: who may send requests, in which role, at which rate.

The file holds only hashes; a key is shown once. A key has 256 random bits, so nobody can find it from its
SHA-256 by trying. bcrypt and the like protect passwords that people invent; they cost each request 50 ms.

A key can be revoked on a full disk: its entry is blanked in the file's own bytes, which needs no room.

A rotated key has two valid secrets for a while: the new one, and the old one until a time. Both have the
key's name, so they share its rate.
"""

import fcntl
import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from operations.errors import CestaError, KeyKept
from operations.records.atomic import overwrite, write_file
from operations.records.disk import FILE_MODE, explain, explained, make_folder

Role = Literal["shop", "admin", "browser", "events", "explain", "stock"]

FILE: Final = "keys.json"
MAX_RATE: Final = 100_000
MAX_ORIGINS: Final = 20
SESSION_RATE: Final = 5  # requests per second of one visitor's page, unless the key has another
_ORIGIN: Final = re.compile(  # as browsers send it: lower case, no path; without TLS only on this machine
    r"https://[a-z0-9.-]{1,200}(:\d{1,5})?|http://(localhost|127\.0\.0\.1)(:\d{1,5})?"
)
_ENTRY: Final = re.compile(r"\{")
_COMMA: Final = re.compile(r"\s*,")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


@dataclass(frozen=True)
class Key:
    """The stored part of a key. `rate` is in requests per second; hashes have 64 hex digits.

    `expires_s` and `old_expires_s` are Unix times. From then on, the key or its old secret is refused.
    """

    name: str
    role: Role
    rate: int
    sha256: str
    created_at: str
    expires_s: int | None = None
    old_sha256: str | None = None
    old_expires_s: int | None = None
    origins: list[str] | None = None  # of a browser key: the pages that its tokens serve
    session_rate: int | None = None  # of a browser key: requests per second of one visitor

    def has_expired(self) -> bool:
        return self.expires_s is not None and time.time() >= self.expires_s

    def has_old_secret(self) -> bool:
        return self.old_expires_s is not None and time.time() < self.old_expires_s


_REQUIRED: Final = {field.name for field in fields(Key) if field.default is MISSING}
_KNOWN: Final = {field.name for field in fields(Key)}


def read_keys(folder: Path) -> list[Key]:
    """Return all valid keys, oldest first. Without a file there are none."""
    return [Key(**described) for described in _read(folder)]


def add_key(
    folder: Path,
    name: str,
    role: Role,
    rate: int,
    expires_s: int | None = None,
    *,
    origins: Sequence[str] = (),
    session_rate: int | None = None,
) -> str:
    """Make a key and return it. The file cannot give it back. `expires_s` is a Unix time; None: never.

    A key of the role browser needs `origins`, such as https://shop.example; other keys have none.
    """
    if not _NAME.fullmatch(name):
        raise CestaError(f'"{name}" cannot name a key; use 1 to 32 of a-z, 0-9 and -')
    _check_rate(rate)
    about = _pages_of(role, origins, session_rate)
    secret = _make_secret()
    created_at = datetime.now(UTC).isoformat(timespec="seconds")
    key = Key(name, role, rate, _hash(secret), created_at, expires_s, **about)
    with explained(f'the key "{name}" was not added'):
        make_folder(folder)
        with _lock(folder):
            keys = _read(folder)
            if any(known["name"] == name for known in keys):
                raise CestaError(f'a key "{name}" exists already; revoke it, or choose another name')
            _write(folder, [*keys, _described(key)])
    return secret


def change_rate(folder: Path, name: str, rate: int, *, spare_admins: bool = False) -> None:
    """Give a key another rate, in requests per second. Its owner keeps the key.

    Raises CestaError for a key of the role admin that is to be spared, as the next three do.
    """
    _check_rate(rate)
    with explained(f'the rate of the key "{name}" was not changed'), _lock(folder):
        keys = _read(folder)
        _find(keys, name, spare_admins)["rate"] = rate
        _write(folder, keys)


def change_expiry(folder: Path, name: str, expires_s: int | None, *, spare_admins: bool = False) -> None:
    """Have a key end at a Unix time, or never. Its owner keeps the key."""
    with explained(f'the end of the key "{name}" was not changed'), _lock(folder):
        keys = _read(folder)
        key = _find(keys, name, spare_admins)
        key.pop("expires_s", None)
        key.update({} if expires_s is None else {"expires_s": expires_s})
        _write(folder, keys)


def rotate_key(folder: Path, name: str, overlap_s: int, *, spare_admins: bool = False) -> str:
    """Give a key a new secret and return it. The secret before it stays valid for `overlap_s` seconds.

    Raises CestaError if an earlier rotation still has its overlap: a third secret would be valid.
    """
    secret = _make_secret()
    with explained(f'the key "{name}" was not rotated'), _lock(folder):
        keys = _read(folder)
        key = _find(keys, name, spare_admins)
        if Key(**key).has_old_secret():
            raise CestaError(
                f'the key "{name}" has two valid secrets until {utc(key["old_expires_s"])}; end the older '
                f'one with "cesta keys end-rotation {name}", then rotate again'
            )
        key.update(old_sha256=key["sha256"], old_expires_s=int(time.time()) + overlap_s, sha256=_hash(secret))
        _write(folder, keys)
    return secret


def end_rotation(folder: Path, name: str, *, spare_admins: bool = False) -> bool:
    """Refuse the old secret of a rotated key from now on; return False if it had none."""
    with explained(f'the old secret of the key "{name}" was not ended'), _lock(folder):
        keys = _read(folder)
        key = _find(keys, name, spare_admins)
        had_one = Key(**key).has_old_secret()
        for field in ("old_sha256", "old_expires_s"):
            key.pop(field, None)
        _write(folder, keys)
    return had_one


def utc(time_s: int) -> str:
    """Return a Unix time as text, such as 2026-03-01T12:00:00+00:00."""
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="seconds")


def revoke_key(folder: Path, name: str, *, spare_last_admin: bool = False) -> None:
    """Delete a key, on a full disk too.

    Raises KeyKept if the file cannot be changed at all, as on a read-only file system, and CestaError if the
    last valid key of the role admin is to be spared.
    """
    with explained(f'the key "{name}" was not revoked'), _lock(folder):
        keys = _read(folder)
        key = _find(keys, name)
        if spare_last_admin and _admins(keys) == [name]:
            raise CestaError(
                f'the key "{name}" is the last one of the role admin; make another one before, with '
                '"cesta keys add NAME --role admin" on the gateway\'s machine'
            )
        try:
            _remove(folder, keys, name)
        except OSError as error:
            hashes = tuple(key[field] for field in ("sha256", "old_sha256") if field in key)
            raise KeyKept(hashes, explain(error)) from None


def _admins(keys: list[dict[str, Any]]) -> list[str]:
    """Return the names of the valid keys of the role admin."""
    return [key["name"] for key in keys if key["role"] == "admin" and not Key(**key).has_expired()]


def _find(keys: list[dict[str, Any]], name: str, spare_admins: bool = False) -> dict[str, Any]:
    for key in keys:
        if key["name"] == name:
            if spare_admins and key["role"] == "admin":
                raise CestaError(
                    f'the key "{name}" has the role admin; change it with "cesta keys" on the '
                    "gateway's machine"
                )
            return key
    names = ", ".join(key["name"] for key in keys) or "none"
    raise CestaError(f'there is no key "{name}"; keys: {names}')


def _check_rate(rate: int) -> None:
    if not 1 <= rate <= MAX_RATE:
        raise CestaError(f"rate {rate} is not 1 to {MAX_RATE} requests per second")


def _make_secret() -> str:
    return f"cesta_{secrets.token_urlsafe(32)}"


def _described(key: Key) -> dict[str, Any]:
    """Return the fields of a key that have a value."""
    return {name: value for name, value in asdict(key).items() if value is not None}


def _pages_of(role: Role, origins: Sequence[str], session_rate: int | None) -> dict[str, Any]:
    """Return the fields of a browser key's pages. Raises CestaError if they do not fit the role."""
    if role != "browser":
        if origins or session_rate is not None:
            raise CestaError(
                f"a key of the role {role} has no origins and no rate per session; leave them out"
            )
        return {}
    if not 1 <= len(origins) <= MAX_ORIGINS:
        raise CestaError(f"a key of the role browser has 1 to {MAX_ORIGINS} origins; got {len(origins)}")
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            raise CestaError(
                f'"{origin}" is no origin; write https://shop.example, with a port if it is not the usual one'
            )
    session_rate = SESSION_RATE if session_rate is None else session_rate
    _check_rate(session_rate)
    return {"origins": sorted(set(origins)), "session_rate": session_rate}


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
    if not isinstance(keys, list) or not all(_is_described(key) for key in keys):
        problem = f"an entry has not the fields {', '.join(sorted(_REQUIRED))}"
        raise CestaError(f"{path} was not written by cesta keys ({problem}); restore a copy of it")
    return keys


def _is_described(key: object) -> bool:
    return isinstance(key, dict) and key.keys() >= _REQUIRED and key.keys() <= _KNOWN


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Keep other writers waiting. The gateway reads the file when it is told, or within a second."""
    handle = os.open(folder, os.O_RDONLY)  # a lock file could belong to another user
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _write(folder: Path, keys: list[dict[str, Any]]) -> None:
    content = json.dumps(keys).replace("}, {", "},\n {")  # a line for each key
    write_file(folder / FILE, content.encode() + b"\n", mode=FILE_MODE)


def _remove(folder: Path, keys: list[dict[str, Any]], name: str) -> None:
    """Write the keys without one. Where no new file can be written, blank the key in the old one."""
    try:
        _write(folder, [key for key in keys if key["name"] != name])
    except OSError:
        path = folder / FILE
        text = path.read_text()
        start, end = _span(text, name)
        overwrite(path, b" " * len(text[start:end].encode()), len(text[:start].encode()))


def _span(text: str, name: str) -> tuple[int, int]:
    """Where the key of this name lies in the file's text, with the comma that goes with it."""
    decoder, begin = json.JSONDecoder(), text.index("[") + 1
    is_first = True
    while True:
        entry = _ENTRY.search(text, begin)
        assert entry is not None, "the caller has found the key"
        key, end = decoder.raw_decode(text, entry.start())
        if key["name"] == name:
            break
        begin, is_first = end, False
    comma = _COMMA.match(text, end) if is_first else None
    return begin, comma.end() if comma else end
