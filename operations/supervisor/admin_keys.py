"""The gateway's keys over HTTP: the verbs of ``cesta keys`` for callers with a key of the role admin.

Keys of the role admin are made and changed only on the machine: a caller who could do so would raise his own
rights. He may revoke one, but not the last that is valid.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import structlog
from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from operations.errors import CestaError, KeyKept
from operations.gateway.control import announce, forget_kept
from operations.gateway.keys import (
    MAX_RATE,
    Key,
    add_key,
    change_expiry,
    change_rate,
    end_rotation,
    read_keys,
    revoke_key,
    rotate_key,
    utc,
)
from operations.supervisor.problems import Problem

log = structlog.get_logger()

WEEK_S = 7 * 86_400
MOST_S = 3650 * 86_400
MOST_KEYS = 10_000  # the gateway's memory holds some more
JsonObject = Mapping[str, object]
Rate = Annotated[int, Field(ge=1, le=MAX_RATE)]
Seconds = Annotated[int, Field(ge=0, le=MOST_S)]


class NewKey(BaseModel, extra="forbid", strict=True):
    """The body that makes a key."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
    role: Literal["shop", "browser"] = "shop"
    rate: Rate = 50
    expires_in_s: Seconds | None = None
    origins: list[str] = []
    session_rate: Rate | None = None


class NewRate(BaseModel, extra="forbid", strict=True):
    """The body that changes a rate."""

    rate: Rate


class NewEnd(BaseModel, extra="forbid", strict=True):
    """The body that changes the end of a key; null: it never ends."""

    expires_in_s: Seconds | None


class Overlap(BaseModel, extra="forbid", strict=True):
    """The optional body of a rotation."""

    overlap_s: Seconds = WEEK_S


@contextmanager
def _changing(folder: Path, what: str, name: str, caller: str) -> Iterator[None]:
    """Log a change of a key, and have the gateway use it.

    A gateway that does not take over the file keeps no caller from a secret that is told once.
    """
    try:
        yield
    except CestaError as error:
        told = forget_kept(folder, name, error) if isinstance(error, KeyKept) else str(error)
        log.warning("admin", what=what, key=name, by=caller, failed=told)
        raise Problem(409, told, "change_refused") from None
    log.info("admin", what=what, key=name, by=caller)
    try:
        announce(folder)
    except CestaError as error:
        log.warning("keys not taken over", reason=str(error))


def add_key_routes(router: APIRouter, folder: Path, authenticate: Callable[..., str]) -> None:
    """Add the routes below /admin/keys. ``authenticate`` returns who asks, such as key:ops."""
    Caller = Annotated[str, Depends(authenticate)]  # noqa: N806 - a type
    changing = partial(_changing, folder)

    @router.get("/keys")
    def answer_keys(_: Caller) -> JsonObject:
        """Return names, roles, rates and ends of all keys; never the keys."""
        return {"keys": [_describe(key) for key in read_keys(folder)]}

    @router.post("/keys")
    def make_key(body: NewKey, caller: Caller) -> Response:
        """Make a key of the role shop or browser. The answer has it, once."""
        with changing("add key", body.name, caller):
            if len(read_keys(folder)) >= MOST_KEYS:
                raise CestaError(f"there are {MOST_KEYS} keys already; revoke some before")
            end_s = None if body.expires_in_s is None else int(time.time()) + body.expires_in_s
            pages = {"origins": body.origins, "session_rate": body.session_rate}
            secret = add_key(folder, body.name, body.role, body.rate, end_s, **pages)  # type: ignore[arg-type]
        return JSONResponse({"name": body.name, "key": secret}, 201)

    @router.post("/keys/{name}/rate")
    def set_rate(name: str, body: NewRate, caller: Caller) -> JsonObject:
        """Give a key another rate; its owner keeps it."""
        with changing("change rate", name, caller):
            change_rate(folder, name, body.rate, spare_admins=True)
        return _named(folder, name)

    @router.post("/keys/{name}/expire")
    def set_end(name: str, body: NewEnd, caller: Caller) -> JsonObject:
        """Have a key end after a time, or never."""
        with changing("change end", name, caller):
            end_s = None if body.expires_in_s is None else int(time.time()) + body.expires_in_s
            change_expiry(folder, name, end_s, spare_admins=True)
        return _named(folder, name)

    @router.post("/keys/{name}/rotate")
    def make_secret(name: str, caller: Caller, body: Overlap | None = None) -> JsonObject:
        """Give a key a new secret, which the answer has, once; the old one works until the overlap ends."""
        with changing("rotate key", name, caller):
            secret = rotate_key(folder, name, (body or Overlap()).overlap_s, spare_admins=True)
        return {"name": name, "key": secret}

    @router.post("/keys/{name}/end-rotation")
    def end_old_secret(name: str, caller: Caller) -> JsonObject:
        """Refuse the old secret of a rotated key from now on."""
        with changing("end rotation", name, caller):
            end_rotation(folder, name, spare_admins=True)
        return _named(folder, name)

    @router.post("/keys/{name}/revoke")
    def remove_key(name: str, caller: Caller) -> JsonObject:
        """Refuse a key from now on; never the last one of the role admin."""
        with changing("revoke key", name, caller):
            revoke_key(folder, name, spare_last_admin=True)
        return {"revoked": name}


def _named(folder: Path, name: str) -> JsonObject:
    """Describe a key after its change. Raises Problem if another caller has revoked it since."""
    for key in read_keys(folder):
        if key.name == name:
            return _describe(key)
    raise Problem(409, f'the key "{name}" was revoked meanwhile', "change_refused")


def _describe(key: Key) -> JsonObject:
    """A key without its hashes."""
    return {
        "name": key.name,
        "role": key.role,
        "rate": key.rate,
        "created_at": key.created_at,
        "expires_at": None if key.expires_s is None else utc(key.expires_s),
        "old_secret_until": utc(key.old_expires_s or 0) if key.has_old_secret() else None,
        "origins": key.origins or [],
        "session_rate": key.session_rate,
    }
