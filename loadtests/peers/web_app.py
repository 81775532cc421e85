"""The FastAPI app that three peers share. Its caller passes the function that answers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import uvicorn
from fastapi import FastAPI, Response
from pydantic import BaseModel

from loadtests.peers.chain import WORKERS

Recommend = Callable[[Sequence[Mapping[str, Any]]], list[dict[str, Any]]]


class Request(BaseModel):
    """A question from a shop's page."""

    basket: list[str] = []
    user_id: str = ""


class Answer(BaseModel):
    """The answer, best item first."""

    item_ids: list[str]
    scores: list[float]
    reasons: list[int]


def web_app(recommend: Recommend) -> FastAPI:
    """POST /recommend. It answers in the event loop: a hand-over to a thread takes longer than the work."""
    app = FastAPI()

    @app.post("/recommend")
    async def answer(request: Request) -> Response:
        (content,) = recommend([{"basket": request.basket, "user_id": request.user_id}])
        return Response(Answer(**content).model_dump_json(), media_type="application/json")

    return app


def serve(factory: str, port: int) -> None:
    """Run `factory` ("module:function") in one worker per core, with uvloop and httptools."""
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
