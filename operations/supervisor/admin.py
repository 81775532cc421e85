"""Release commands over HTTP, for the gateway and its keys of the role admin.

Callers authenticate with the token stored in the gateway's folder. X-Cesta-Key names the key on whose behalf
the gateway calls; the audit log and the repository's history record that name.

A change is answered with 202 and the path of its operation, which tells step by step how far it is.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import structlog
from fastapi import APIRouter, Depends, Header
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field, field_validator

from operations.errors import BeingChanged, CestaError
from operations.gateway.traffic import Traffic
from operations.records.disk import explained
from operations.releases.canary import LEAST_PERCENT, MOST_PERCENT, start_canary, stop_canary
from operations.releases.history import Action
from operations.releases.model_control import ModelControl
from operations.releases.overview.listing import list_releases
from operations.releases.promote import check_expected, promote, roll_back
from operations.releases.retire import LEAST, retire
from operations.releases.stores.store import Repository
from operations.releases.switch import Steps
from operations.settings import ReleaseSettings
from operations.supervisor.admin_keys import add_key_routes
from operations.supervisor.operation_log import (
    KEPT,
    Asked,
    Caller,
    KeyReused,
    Operation,
    OperationLog,
)
from operations.supervisor.problems import Problem

log = structlog.get_logger()

JsonObject = Mapping[str, object]
Number = Annotated[int, Field(ge=1, le=2**31 - 1)]
IDEMPOTENCY_KEY: Final = r"^[ -~]{0,255}$"  # the gateway's lua/door.lua has the same


class Promotion(BaseModel, extra="forbid", strict=True):
    """The optional body of a promotion."""

    force: bool = False
    expected_release: Number | None = None


class Return(BaseModel, extra="forbid", strict=True):
    """The optional body of a rollback."""

    expected_release: Number | None = None


class Share(BaseModel, extra="forbid", strict=True):
    """The body of a canary release."""

    percent: float
    force: bool = False

    @field_validator("percent")
    @classmethod
    def check_range(cls, percent: float) -> float:
        """Accept the range of ``start_canary``, and 0."""
        if percent and not LEAST_PERCENT <= percent <= MOST_PERCENT:
            raise ValueError(f"{percent:g} is not {LEAST_PERCENT} to {MOST_PERCENT} or, to end it, 0")
        return percent


class Kept(BaseModel, extra="forbid", strict=True):
    """The body of a retirement."""

    keep: Number = LEAST


@dataclass(frozen=True)
class Operator:
    """Changes one repository and the server on it, for callers that know ``token``."""

    repository: Repository
    control: Callable[[], ModelControl]
    bars: ReleaseSettings
    token: str
    read_traffic: Callable[[], Traffic]
    operations: OperationLog
    pinned: int | None = None  # the release that the server was started with, whatever the repository says
    gateway: Path | None = None  # the folder of its keys

    def promote(self, release: int, asked: Promotion, caller: Caller) -> Operation:
        """Have the release served. Raises as ``_start`` does."""
        command = partial(
            promote,
            self.repository,
            release,
            bars=self.bars,
            force=asked.force,
            expected=asked.expected_release,
            who=caller.who,
        )
        return self._start(Action.PROMOTE, caller, release, asked, command, asked.expected_release)

    def share(self, release: int, asked: Share, caller: Caller) -> Operation:
        """Start a canary release with this share, or end it if the share is 0. Raises as ``_start`` does."""
        if asked.percent == 0:
            end = partial(stop_canary, self.repository, release, who=caller.who)
            return self._start(Action.END_CANARY, caller, release, asked, end)

        start = partial(
            start_canary,
            self.repository,
            release,
            asked.percent,
            bars=self.bars,
            force=asked.force,
            who=caller.who,
        )
        return self._start(Action.CANARY, caller, release, asked, start)

    def roll_back(self, asked: Return, caller: Caller) -> Operation:
        """Return to the release that was active before. Raises as ``_start`` does."""
        command = partial(roll_back, self.repository, who=caller.who, expected=asked.expected_release)
        return self._start(Action.ROLLBACK, caller, None, asked, command, asked.expected_release)

    def retire(self, asked: Kept, caller: Caller) -> Operation:
        """Delete old releases. Raises as ``_start`` does."""

        def command(*, control: ModelControl, steps: Steps) -> JsonObject:
            with steps.run("retire"):
                return {"retired": retire(self.repository, control, asked.keep)}

        return self._start(Action.RETIRE, caller, None, asked, command)

    def _start(
        self,
        action: Action,
        caller: Caller,
        release: int | None,
        asked: BaseModel,
        command: Callable[..., Mapping[str, object]],
        expected: int | None = None,
    ) -> Operation:
        """Start a command as an operation, unless its Idempotency-Key has started it before.

        Raises Problem: 409 if another release than ``expected`` is active or this server is pinned, 422 for
        an Idempotency-Key of another request, 503 if too many of the kind run.
        """

        def work(steps: Steps) -> dict[str, object]:
            with self.control() as control, explained(f"{action}: nothing was changed"):
                return dict(command(control=control, steps=steps))

        def check() -> None:
            if self.pinned is not None:
                raise CestaError(
                    f"this server serves release {self.pinned} because it was started with --release "
                    f"{self.pinned}; start it with another release, or without the option"
                )
            with explained(f"{action}: nothing was changed"):
                check_expected(self.repository, expected)

        request = asked.model_dump() | ({} if release is None else {"release": release})
        try:
            return self.operations.start(Asked(str(action), caller.who, request, caller.key), work, check)
        except CestaError as error:
            log.warning("admin", what=str(action), by=caller.who, refused=str(error))
            if isinstance(error, KeyReused):
                raise Problem(422, str(error), "idempotency_key_reused") from None
            if isinstance(error, BeingChanged):
                raise Problem(503, str(error), "change_in_progress") from None
            raise Problem(409, str(error), "change_refused") from None


def authenticator(token: str) -> Callable[..., Caller]:
    """Return the dependency that tells who asks, for callers that know ``token``."""

    def authenticate(
        x_cesta_admin: Annotated[str, Header()] = "",
        x_cesta_key: Annotated[str, Header()] = "",
        idempotency_key: Annotated[str, Header(pattern=IDEMPOTENCY_KEY)] = "",
    ) -> Caller:
        if not secrets.compare_digest(x_cesta_admin.encode(), token.encode()):
            raise Problem(403, "ask the gateway, with a key of the role admin", "not_allowed")
        return Caller(f"key:{x_cesta_key}", idempotency_key)

    return authenticate


def make_router(operator: Operator) -> APIRouter:
    """Return the routes below /admin. Plain functions, which FastAPI runs in threads: a store may be slow."""

    authenticate = authenticator(operator.token)
    router = APIRouter(prefix="/admin")
    Authenticated = Annotated[Caller, Depends(authenticate)]  # noqa: N806 - a type

    @router.get("/releases")
    def answer_list(_: Authenticated) -> JsonObject:
        """Return every release, and which one is active, previous or canary."""
        with explained("the releases cannot be listed"):
            return list_releases(operator.repository)

    @router.post("/releases/{release}/promote")
    def promote_release(release: Number, caller: Authenticated, body: Promotion | None = None) -> Response:
        """Have a release served, in the place of ``expected_release`` if given; ``force`` passes the gate."""
        return _accepted(operator.promote(release, body or Promotion(), caller))

    @router.post("/releases/{release}/canary")
    def canary_release(release: Number, caller: Authenticated, body: Share) -> Response:
        """Give a release this share of the requests; 0 ends it."""
        return _accepted(operator.share(release, body, caller))

    @router.post("/rollback")
    def roll_back_release(caller: Authenticated, body: Return | None = None) -> Response:
        """Return to the release that was active before, from ``expected_release`` if it is given."""
        return _accepted(operator.roll_back(body or Return(), caller))

    @router.post("/retire")
    def retire_releases(caller: Authenticated, body: Kept | None = None) -> Response:
        """Delete old releases, except the last ``keep`` that were active."""
        return _accepted(operator.retire(body or Kept(), caller))

    @router.get("/operations")
    def answer_operations(_: Authenticated) -> JsonObject:
        """Return the last operations, newest first."""
        return {"operations": [operation.describe() for operation in operator.operations.list()]}

    @router.get("/operations/{id}")
    def answer_operation(id: str, _: Authenticated) -> JsonObject:  # noqa: A002 - the name of the path
        """Return how far an operation is, or how it ended."""
        operation = operator.operations.find(id)
        if operation is None:
            raise Problem(404, f"no operation {id}; the last {KEPT} are kept", "no_such_operation")
        return operation.describe()

    @router.get("/traffic")
    def answer_traffic(_: Authenticated) -> JsonObject:
        """Return what shops were answered, by release: for those who watch a canary."""
        return operator.read_traffic()

    if operator.gateway:
        add_key_routes(router, operator.gateway, authenticate)
    return router


def _accepted(operation: Operation) -> Response:
    location = {"Location": f"/admin/operations/{operation.id}"}
    return JSONResponse(operation.describe(), 202, headers=location)
