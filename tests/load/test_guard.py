"""The guard of the compared web app: keys, limits and a log that do what the gateway's do."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from fastapi import FastAPI

from loadtests.peers import guard as guards
from loadtests.peers.guard import IN_FLIGHT, LOG, Caller, guard


@pytest.fixture
def app(tmp_path: Path) -> Iterator[FastAPI]:
    """An app that answers GET /, before it a key that may send two requests a second."""
    key = {"name": "shop", "rate": 2, "sha256": hashlib.sha256(b"secret").hexdigest()}
    (tmp_path / "keys.json").write_text(json.dumps([key]))
    app = FastAPI()
    app.get("/")(lambda: {})
    yield guard(app, tmp_path)
    logger = guards.logging.getLogger("requests")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()


def ask(app: FastAPI, *headers: tuple[bytes, bytes]) -> tuple[int, dict[bytes, bytes]]:
    """One GET /, without a server."""
    started: dict[str, Any] = {}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: dict[str, Any]) -> None:
        started.update(message if message["type"] == "http.response.start" else {})

    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": list(headers)}
    asyncio.run(app({**scope, "http_version": "1.1", "scheme": "http", "root_path": ""}, receive, send))
    return started["status"], dict(started["headers"])


KEY = (b"authorization", b"Bearer secret")


def test_a_key_is_wanted(app: FastAPI) -> None:
    assert ask(app)[0] == 401
    assert ask(app, (b"authorization", b"Bearer wrong"))[0] == 401
    assert ask(app, KEY)[0] == 200


def test_the_rate_is_limited(app: FastAPI) -> None:
    assert [ask(app, KEY)[0] for _ in range(3)] == [200, 200, 429]


def test_a_key_has_so_many_requests_in_flight() -> None:
    caller = Caller("shop", 100.0, 100.0, 0.0, in_flight=IN_FLIGHT)
    assert not caller.may_send()
    caller.in_flight -= 1
    assert caller.may_send()


def test_every_request_is_logged(app: FastAPI, tmp_path: Path) -> None:
    ask(app)
    _, headers = ask(app, KEY, (b"x-request-id", b"mine"))
    assert headers[b"x-request-id"] == b"mine"
    lines = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()]
    assert [(line["key"], line["status"]) for line in lines] == [("", 401), ("shop", 200)]
    assert lines[1]["request_id"] == "mine"
