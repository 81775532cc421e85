"""`POST /v1/explain`: why an answer holds its items, and why not others, for the gateway.

It names receipts of a customer, so the gateway lets only keys of the roles admin and explain ask, and each
request is logged with the key and the customer.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import structlog
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field

from operations.errors import CestaError
from operations.explaining.explanations import Busy, Explanations, NothingServed
from operations.explaining.process import QuestionRefused
from operations.supervisor.admin import authenticator
from operations.supervisor.operation_log import Caller
from operations.supervisor.problems import Problem

log = structlog.get_logger()

MOST_EXPLAINED: Final = 20  # items of the answer, and as many others: 1 to 18 ms of CPU each
DEFAULT_K: Final = 10
Ids = list[str] | None
Named = Annotated[list[str], Field(max_length=MOST_EXPLAINED)] | None


class ExplainQuestion(BaseModel, extra="forbid", strict=True):
    """A question of `/v1/recommend`, and the items to tell about."""

    basket: Ids = None
    user_id: str | None = None
    exclude: Ids = None
    categories: Ids = None
    store_id: str | None = None
    exclude_categories: Ids = None
    items: Ids = None
    history: Ids = None
    history_ages: list[float] | None = None
    k: Annotated[int, Field(ge=0, le=MOST_EXPLAINED)] | None = None
    item_id: str | None = None
    item_ids: Named = None

    def asked(self) -> dict[str, Any]:
        """The question for the process: by default ten items of the answer, or those that are named."""
        named = [*([] if self.item_id is None else [self.item_id]), *(self.item_ids or ())]
        k = self.k if self.k is not None else 0 if named else DEFAULT_K
        question = self.model_dump(exclude={"k", "item_id", "item_ids"}, exclude_none=True)
        return {"question": question, "k": k, "item_ids": named}


def make_explain_router(explanations: Explanations, token: str) -> APIRouter:
    """Return the route. A plain function, which FastAPI runs in a thread: it waits for the process."""
    router = APIRouter()
    Authenticated = Annotated[Caller, Depends(authenticator(token))]  # noqa: N806 - a type

    @router.post("/v1/explain")
    def explain(body: ExplainQuestion, caller: Authenticated, request: Request) -> Mapping[str, Any]:
        """Explain the answer of the release that is served."""
        who = {"by": caller.who, "customer": body.user_id or "", "request_id": request.state.request_id}
        try:
            told = explanations.explain(body.asked())
        except CestaError as error:
            log.warning("explain", **who, refused=str(error))
            raise _problem(error) from None
        log.info("explain", **who, release=told["release"], milliseconds=told["milliseconds"])
        return {**told, "request_id": request.state.request_id}

    return router


def _problem(error: CestaError) -> Problem:
    if isinstance(error, QuestionRefused):
        return Problem(400, str(error), "invalid_body")
    if isinstance(error, Busy):
        return Problem(503, str(error), "explainer_busy")
    if isinstance(error, NothingServed):
        return Problem(503, str(error), "not_ready")
    return Problem(500, str(error), "not_explained")
