"""The supervisor's HTTP app: health, status, metrics. For loopback, or behind the gateway.

Health and status only read the watchdog's state and never wait for Triton, so a hung server cannot hang them.
"""

import asyncio
import re
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException as StarletteHTTPException

from operations.errors import CestaError
from operations.explaining.explanations import Explanations
from operations.supervisor.admin import Operator, make_router
from operations.supervisor.canary import DEADLINE_S
from operations.supervisor.drift import DriftWatch
from operations.supervisor.events import Events, make_event_routes
from operations.supervisor.explain import make_explain_router
from operations.supervisor.metrics import CONTENT_TYPE, Metrics
from operations.supervisor.problems import Problem, pointer_to, problem_response
from operations.supervisor.status import Status
from operations.supervisor.watchdog import INTERVAL_S, Watchdog

REQUEST_ID = "X-Request-ID"
_POLL_S = 0.02
_PLAIN_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


def make_app(
    watchdog: Watchdog,
    status: Status,
    metrics: Metrics,
    operator: Operator | None = None,
    drift: DriftWatch | None = None,
    events: Events | None = None,
    explanations: Explanations | None = None,
    stock_routes: APIRouter | None = None,
) -> FastAPI:
    """Return the app, for one worker beside the watchdog. Without an operator it changes nothing.

    Without ``events`` it keeps none.
    """
    app = FastAPI(
        title="cesta supervisor", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False
    )
    answer_errors(app)

    @app.get("/healthz")
    async def healthz() -> dict[str, bool]:
        """This process is alive; that says nothing about Triton."""
        return {"alive": True}

    @app.get("/readyz")
    async def readyz() -> dict[str, Any]:
        """Triton answered a canary within the last second; all callers share that canary."""
        await _await_fresh_health(watchdog)
        health = watchdog.health
        if not health.ready:
            raise Problem(503, health.reason, "not_ready")
        return {"ready": True, "release": health.release}

    @app.get("/v1/status")
    async def describe() -> dict[str, Any]:
        """The active release, the start of its service, its metrics; uptime and restarts."""
        return status.describe()

    @app.get("/v1/drift")
    async def compare() -> dict[str, Any]:
        """How far what is asked is from what the active release was made of."""
        if drift is None:
            raise Problem(404, "this supervisor does not watch for drift", "not_watched")
        return drift.report()

    @app.get("/metrics")
    async def scrape() -> Response:
        """Metrics for Prometheus."""
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    if events:
        app.include_router(make_event_routes(events))
    if stock_routes:
        app.include_router(stock_routes)
    if operator:
        app.include_router(make_router(operator))
        if explanations:
            app.include_router(make_explain_router(explanations, operator.token))
        app.get("/traffic", response_model=None)(operator.read_traffic)  # as /metrics: for this machine
    return app


def answer_errors(app: FastAPI) -> None:
    """Have the app answer with ids of requests, and with errors as problem details."""
    app.middleware("http")(_with_request_id)
    app.add_exception_handler(StarletteHTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _refused)
    app.add_exception_handler(CestaError, _unavailable)
    app.add_exception_handler(Exception, _failed)


async def _await_fresh_health(watchdog: Watchdog) -> None:
    """Wait until a ready server's health is at most a second old, or until a canary's deadline."""
    deadline = watchdog.now() + DEADLINE_S
    while (health := watchdog.health).ready and watchdog.now() < deadline:
        if health.checked_s is not None and watchdog.now() - health.checked_s <= INTERVAL_S:
            return
        await asyncio.sleep(_POLL_S)


async def _with_request_id(request: Request, respond: Callable[[Request], Awaitable[Response]]) -> Response:
    given = request.headers.get(REQUEST_ID, "")
    request.state.request_id = given if _PLAIN_ID.fullmatch(given) else uuid.uuid4().hex
    response = await respond(request)
    response.headers[REQUEST_ID] = request.state.request_id
    return response


async def _refused(request: Request, error: Exception) -> JSONResponse:
    request_id = request.state.request_id
    if isinstance(error, StarletteHTTPException):
        known = (
            {"code": error.code, "pointer": error.pointer, "retry_s": error.retry_s}
            if isinstance(error, Problem)
            else {}
        )
        return problem_response(request_id, error.status_code, str(error.detail), error.headers, **known)
    assert isinstance(error, RequestValidationError)
    problems = error.errors()
    first = problems[0]["loc"]
    pointer = pointer_to(first[1:]) if first[0] == "body" and problems[0]["type"] != "json_invalid" else None
    return problem_response(
        request_id, 400, "; ".join(map(_sentence, problems)), code="invalid_body", pointer=pointer
    )


def _sentence(problem: Mapping[str, Any]) -> str:
    place = problem["loc"][1:] or problem["loc"]
    if problem["type"] == "json_invalid":
        return f"the body is not JSON: {problem['ctx']['error']} at character {place[0]}"
    return f"{'.'.join(map(str, place))}: {problem['msg']}"


async def _unavailable(request: Request, error: Exception) -> JSONResponse:
    """Answer for a repository that cannot be read now."""
    return problem_response(request.state.request_id, 503, str(error), code="repository_unreadable")


async def _failed(request: Request, error: Exception) -> JSONResponse:
    sentence = "the supervisor failed; its log says why"
    return problem_response(request.state.request_id, 500, sentence, code="supervisor_failed")
