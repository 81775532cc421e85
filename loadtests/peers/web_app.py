"""The FastAPI app that the first three rows share; what answers is passed in."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import uvicorn
from fastapi import FastAPI, Response
from pydantic import BaseModel

from loadtests.peers.chain import WORKERS

Recommend = Callable[[Sequence[Mapping[str, Any]]], list[dict[str, Any]]]


class Request(BaseModel):
    """What a shop's page sends."""

    basket: list[str] = []
    user_id: str = ""


class Answer(BaseModel):
    """What it gets, best first."""

    item_ids: list[str]
    scores: list[float]
    reasons: list[int]


def web_app(recommend: Recommend) -> FastAPI:
    """POST /recommend. Answered in the event loop: the work takes less than handing it to a thread does."""
    app = FastAPI()

    @app.post("/recommend")
    async def answer(request: Request) -> Response:
        found = recommend([{"basket": request.basket, "user_id": request.user_id}])[0]
        return Response(Answer(**found).model_dump_json(), media_type="application/json")

    return app


def serve(factory: str, port: int) -> None:
    """Run `factory` ("module:function") in a worker per core, with uvloop and httptools."""
    uvicorn.run(
        factory,
        factory=True,
        port=port,
        workers=WORKERS,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )
