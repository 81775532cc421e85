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
from operations.supervisor.operation_log import Asked, Caller, KeyReused
from operations.supervisor.problems import Problem
from operations.supervisor.remembered import RememberedAnswers

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
    role: Literal["shop", "browser", "events", "explain", "stock"] = "shop"
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
def _changing(folder: Path, what: str, name: str, caller: Caller) -> Iterator[None]:
    """Log a change of a key, and have the gateway use it.

    A gateway that does not take over the file keeps no caller from a secret that is told once.
    """
    try:
        yield
    except CestaError as error:
        told = forget_kept(folder, name, error) if isinstance(error, KeyKept) else str(error)
        log.warning("admin", what=what, key=name, by=caller.who, failed=told)
        raise Problem(409, told, "change_refused") from None
    log.info("admin", what=what, key=name, by=caller.who)
    try:
        announce(folder)
    except CestaError as error:
        log.warning("keys not taken over", reason=str(error))


def add_key_routes(router: APIRouter, folder: Path, authenticate: Callable[..., Caller]) -> None:
    """Add the routes below /admin/keys. ``authenticate`` returns who asks."""
    Authenticated = Annotated[Caller, Depends(authenticate)]  # noqa: N806 - a type
    changing = partial(_changing, folder)
    secrets: RememberedAnswers[str] = RememberedAnswers()

    @router.get("/keys")
    def answer_keys(_: Authenticated) -> JsonObject:
        """Return names, roles, rates and ends of all keys; never the keys."""
        return {"keys": [_describe(key) for key in read_keys(folder)]}

    @router.post("/keys")
    def make_key(body: NewKey, caller: Authenticated) -> Response:
        """Make a key of another role than admin. The answer has it, once for each Idempotency-Key."""

        def make() -> str:
            with changing("add key", body.name, caller):
                return _make_key(folder, body)

        secret = _once(secrets, caller, "add key", body.model_dump(), make)
        return JSONResponse({"name": body.name, "key": secret}, 201)

    @router.post("/keys/{name}/rate")
    def set_rate(name: str, body: NewRate, caller: Authenticated) -> JsonObject:
        """Give a key another rate; its owner keeps it."""
        with changing("change rate", name, caller):
            change_rate(folder, name, body.rate, spare_admins=True)
        return _named(folder, name)

    @router.post("/keys/{name}/expire")
    def set_end(name: str, body: NewEnd, caller: Authenticated) -> JsonObject:
        """Have a key end after a time, or never."""
        with changing("change end", name, caller):
            end_s = None if body.expires_in_s is None else int(time.time()) + body.expires_in_s
            change_expiry(folder, name, end_s, spare_admins=True)
        return _named(folder, name)

    @router.post("/keys/{name}/rotate")
    def make_secret(name: str, caller: Authenticated, body: Overlap | None = None) -> JsonObject:
        """Give a key a new secret, which the answer has; the old one works until the overlap ends."""
        overlap_s = (body or Overlap()).overlap_s

        def rotate() -> str:
            with changing("rotate key", name, caller):
                return rotate_key(folder, name, overlap_s, spare_admins=True)

        request: JsonObject = {"name": name, "overlap_s": overlap_s}
        return {"name": name, "key": _once(secrets, caller, "rotate key", request, rotate)}

    @router.post("/keys/{name}/end-rotation")
    def end_old_secret(name: str, caller: Authenticated) -> JsonObject:
        """Refuse the old secret of a rotated key from now on."""
        with changing("end rotation", name, caller):
            end_rotation(folder, name, spare_admins=True)
        return _named(folder, name)

    @router.post("/keys/{name}/revoke")
    def remove_key(name: str, caller: Authenticated) -> JsonObject:
        """Refuse a key from now on; never the last one of the role admin."""
        with changing("revoke key", name, caller):
            revoke_key(folder, name, spare_last_admin=True)
        return {"revoked": name}


def _make_key(folder: Path, wanted: NewKey) -> str:
    if len(read_keys(folder)) >= MOST_KEYS:
        raise CestaError(f"there are {MOST_KEYS} keys already; revoke some before")
    end_s = None if wanted.expires_in_s is None else int(time.time()) + wanted.expires_in_s
    return add_key(
        folder,
        wanted.name,
        wanted.role,
        wanted.rate,
        end_s,
        origins=wanted.origins,
        session_rate=wanted.session_rate,
    )


def _once(
    secrets: RememberedAnswers[str], caller: Caller, what: str, request: JsonObject, make: Callable[[], str]
) -> str:
    """Make a secret, or return the one that the same Idempotency-Key has made."""
    try:
        return secrets.answer(Asked(what, caller.who, dict(request), caller.key), make)
    except KeyReused as error:
        raise Problem(422, str(error), "idempotency_key_reused") from None


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
