"""Release commands over HTTP, for the gateway and its keys of the role admin.

Callers authenticate with the token stored in the gateway's folder. X-Cesta-Key names the key on whose behalf
the gateway calls; the audit log and the repository's history record that name.
"""

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import structlog
from fastapi import APIRouter, Depends, Header
from pydantic import BaseModel, field_validator

from operations.errors import BeingChanged, CestaError
from operations.gateway.traffic import Traffic
from operations.records.disk import explained
from operations.releases.canary import LEAST_PERCENT, MOST_PERCENT, start_canary, stop_canary
from operations.releases.history import Action, Record
from operations.releases.model_control import ModelControl
from operations.releases.overview.listing import list_releases
from operations.releases.promote import promote, roll_back
from operations.releases.retire import LEAST, retire
from operations.releases.stores.store import Repository
from operations.settings import ReleaseSettings
from operations.supervisor.problems import Problem

log = structlog.get_logger()

JsonObject = Mapping[str, object]


class Promotion(BaseModel, extra="forbid"):
    """The optional body of a promotion."""

    force: bool = False
    expected: int | None = None


class Share(BaseModel, extra="forbid"):
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


class Kept(BaseModel, extra="forbid"):
    """The body of a retirement."""

    keep: int = LEAST


@dataclass(frozen=True)
class Operator:
    """Changes one repository and the server on it, for callers that know ``token``."""

    repository: Repository
    control: Callable[[], ModelControl]
    bars: ReleaseSettings
    token: str
    read_traffic: Callable[[], Traffic]

    def promote(self, release: int, asked: Promotion, caller: str) -> Record:
        """Have the release served. Raises as ``_change`` does."""
        command = partial(
            promote,
            self.repository,
            release,
            bars=self.bars,
            force=asked.force,
            expected=asked.expected,
            who=caller,
        )
        return self._change(Action.PROMOTE, caller, command)

    def share(self, release: int, asked: Share, caller: str) -> Record:
        """Start a canary release with this share, or end it if the share is 0. Raises as ``_change`` does."""
        if asked.percent == 0:
            end = partial(stop_canary, self.repository, release, who=caller)
            return self._change(Action.END_CANARY, caller, end)

        start = partial(
            start_canary,
            self.repository,
            release,
            asked.percent,
            bars=self.bars,
            force=asked.force,
            who=caller,
        )
        return self._change(Action.CANARY, caller, start)

    def roll_back(self, caller: str) -> Record:
        """Return to the release that was active before. Raises as ``_change`` does."""
        return self._change(Action.ROLLBACK, caller, partial(roll_back, self.repository, who=caller))

    def _change(self, action: Action, caller: str, command: Callable[[ModelControl], Record]) -> Record:
        """Run a release command and log its caller.

        Raises Problem: 409 if the command fails, 503 if another change is in progress.
        """
        with self._connected(action, caller) as control:
            record = command(control)
        log.info("admin", what=str(action), by=caller, release=record["release"], before=record["before"])
        return record

    def retire(self, caller: str, keep: int) -> list[int]:
        """Delete old releases and log the caller; their numbers. Raises as ``change`` does."""
        with self._connected(Action.RETIRE, caller) as control:
            retired = retire(self.repository, control, keep)
        log.info("admin", what=str(Action.RETIRE), by=caller, releases=retired)
        return retired

    @contextmanager
    def _connected(self, action: Action, caller: str) -> Iterator[ModelControl]:
        try:
            with self.control() as control, explained(f"{action}: nothing was changed"):
                yield control
        except CestaError as error:
            log.warning("admin", what=str(action), by=caller, failed=str(error))
            if isinstance(error, BeingChanged):
                raise Problem(503, str(error), "change_in_progress") from None
            raise Problem(409, str(error), "change_refused") from None


def make_router(operator: Operator) -> APIRouter:
    """Return the routes below /admin. Plain functions, which FastAPI runs in threads: promotions are slow."""

    def authenticate(
        x_cesta_admin: Annotated[str, Header()] = "", x_cesta_key: Annotated[str, Header()] = ""
    ) -> str:
        if not secrets.compare_digest(x_cesta_admin.encode(), operator.token.encode()):
            raise Problem(403, "ask the gateway, with a key of the role admin", "not_allowed")
        return f"key:{x_cesta_key}"

    router = APIRouter(prefix="/admin")
    Caller = Annotated[str, Depends(authenticate)]  # noqa: N806 - a type

    @router.get("/releases")
    def answer_list(_: Caller) -> JsonObject:
        """Return every release, and which one is active, previous or canary."""
        with explained("the releases cannot be listed"):
            return list_releases(operator.repository)

    @router.post("/releases/{release}/promote")
    def promote_release(release: int, caller: Caller, body: Promotion | None = None) -> JsonObject:
        """Have a release served, in the place of ``expected`` if that is given; ``force`` passes the gate."""
        return operator.promote(release, body or Promotion(), caller)

    @router.post("/releases/{release}/canary")
    def canary_release(release: int, caller: Caller, body: Share) -> JsonObject:
        """Give a release this share of the requests; 0 ends it."""
        return operator.share(release, body, caller)

    @router.post("/rollback")
    def roll_back_release(caller: Caller) -> JsonObject:
        """Return to the release that was active before."""
        return operator.roll_back(caller)

    @router.post("/retire")
    def retire_releases(caller: Caller, body: Kept | None = None) -> JsonObject:
        """Delete old releases, except the last ``keep`` that were active."""
        return {"retired": operator.retire(caller, (body or Kept()).keep)}

    @router.get("/traffic")
    def answer_traffic(_: Caller) -> JsonObject:
        """Return what shops were answered, by release: for those who watch a canary."""
        return operator.read_traffic()

    return router
