"""Release commands over HTTP, for keys of the role admin behind the gateway: listed, promoted, rolled back.

Who may ask proves it with the token that the gateway's folder holds; whom the gateway asks for stands in
X-Cesta-Key, and so in the audit log and in the repository's history.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Depends, Header
from fastapi.exceptions import HTTPException
from pydantic import BaseModel, field_validator

from operations.errors import BeingChanged, CestaError
from operations.records.manifest import ReleaseManifest
from operations.releases.canary import LEAST_PERCENT, MOST_PERCENT, start_canary, stop_canary
from operations.releases.configs import canary_on_disk
from operations.releases.history import Action, Record, previous
from operations.releases.model_control import ModelControl
from operations.releases.promote import promote, roll_back
from operations.releases.repository import active_release, read_release, releases
from operations.releases.store import Repository
from operations.settings import ReleaseSettings

log = structlog.get_logger()

JsonObject = Mapping[str, object]


class Promotion(BaseModel, extra="forbid"):
    """The body of a promotion, which may be left out."""

    force: bool = False


class Share(Promotion):
    """The body of a canary release."""

    percent: float

    @field_validator("percent")
    @classmethod
    def possible(cls, percent: float) -> float:
        """What ``start_canary`` takes, and 0."""
        if percent and not LEAST_PERCENT <= percent <= MOST_PERCENT:
            raise ValueError(f"{percent:g} is not {LEAST_PERCENT} to {MOST_PERCENT} or, to end it, 0")
        return percent


@dataclass(frozen=True)
class Operator:
    """What may be done to one repository and the server on it, by whoever knows ``token``."""

    repository: Repository
    control: Callable[[], ModelControl]
    bars: ReleaseSettings
    token: str

    def change(
        self, what: Action, by: str, command: Callable[..., Record], *values: Any, **named: Any
    ) -> Record:
        """Do what a release command does, and log who wanted it. One that fails becomes a 409, one that only
        has to wait a 503.
        """
        try:
            with self.control() as control:
                record = command(self.repository, *values, control, who=by, **named)
        except CestaError as error:
            log.warning("admin", what=str(what), by=by, failed=str(error))
            code = 503 if isinstance(error, BeingChanged) else 409  # the gateway says when to come back
            raise HTTPException(code, str(error)) from None
        log.info("admin", what=str(what), by=by, release=record["release"], before=record["before"])
        return record


def make_router(operator: Operator) -> APIRouter:
    """The routes below /admin, each in a thread: a promotion takes its time. What fails is answered 409."""

    def who(x_cesta_admin: Annotated[str, Header()] = "", x_cesta_key: Annotated[str, Header()] = "") -> str:
        if not secrets.compare_digest(x_cesta_admin.encode(), operator.token.encode()):
            raise HTTPException(403, "ask the gateway, with a key of the role admin")
        return f"key:{x_cesta_key}"

    router = APIRouter(prefix="/admin")
    asking = Annotated[str, Depends(who)]

    @router.get("/releases")
    def list_releases(_: asking) -> JsonObject:
        """Every release, and which is active, was before, or is a canary release."""
        repository = operator.repository
        canary = canary_on_disk(repository)
        return {
            "active": active_release(repository),
            "previous": previous(repository),
            "canary": canary._asdict() if canary else None,
            "releases": [_summary(read_release(repository, number)) for number in releases(repository)],
        }

    @router.post("/releases/{release}/promote")
    def promote_release(release: int, by: asking, how: Promotion | None = None) -> JsonObject:
        """Have it served; ``force`` passes the gate."""
        gate = {"bars": operator.bars, "force": how is not None and how.force}
        return operator.change(Action.PROMOTE, by, promote, release, **gate)

    @router.post("/releases/{release}/canary")
    def canary_release(release: int, by: asking, how: Share) -> JsonObject:
        """Give it this share of the requests; 0 ends it."""
        if how.percent == 0:
            return operator.change(Action.END_CANARY, by, stop_canary, release)
        gate = {"bars": operator.bars, "force": how.force}
        return operator.change(Action.CANARY, by, start_canary, release, how.percent, **gate)

    @router.post("/rollback")
    def roll_back_release(by: asking) -> JsonObject:
        """Return to the release that was active before."""
        return operator.change(Action.ROLLBACK, by, roll_back)

    return router


def _summary(release: ReleaseManifest) -> JsonObject:
    return {
        "release": release.release,
        "created_at": release.created_at,
        "data_until": release.data.last if release.data else None,
        "hr_at_10": release.measured("known").hr_at_10,
    }
