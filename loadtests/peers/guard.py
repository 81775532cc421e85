"""Keys, limits and a request log as a shop would write them before its own app: one ASGI middleware.

Each worker process counts for itself. A count over all workers costs more, and two workers allow a key twice
as much.
"""

import hashlib
import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

from fastapi import FastAPI
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

IN_FLIGHT: Final = 32
LOG: Final = "requests.log"


@dataclass
class Caller:
    """A key: the requests per second that it may send, those that it may send now, and those in flight."""

    name: str
    rate: float
    left: float
    filled_at: float
    in_flight: int = 0

    def may_send(self) -> bool:
        """Take one request from the bucket, which holds those of a second; False if it is empty."""
        now = time.monotonic()
        self.left = min(self.rate, self.left + (now - self.filled_at) * self.rate)
        self.filled_at = now
        if self.left < 1 or self.in_flight >= IN_FLIGHT:
            return False
        self.left -= 1
        return True


class Guard:
    """Answers 401 without a key and 429 beyond a key's limits; writes a line of JSON for each request."""

    def __init__(self, app: ASGIApp, folder: Path) -> None:
        self._app = app
        keys = json.loads((folder / "keys.json").read_text(encoding="utf-8"))
        now = time.monotonic()
        self._callers = {key["sha256"]: Caller(key["name"], key["rate"], key["rate"], now) for key in keys}
        self._log = logging.getLogger("requests")
        self._log.setLevel(logging.INFO)
        self._log.propagate = False
        self._log.addHandler(logging.FileHandler(folder / LOG))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500
        headers = dict(scope["headers"])
        request_id = headers.get(b"x-request-id", b"").decode("latin-1") or uuid4().hex

        async def send_and_see(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"].append((b"x-request-id", request_id.encode("latin-1")))
            await send(message)

        caller = self._find(headers.get(b"authorization", b""))
        try:
            await self._serve(caller, scope, receive, send_and_see)
        finally:
            line = {
                "time": time.time(),
                "request_id": request_id,
                "key": caller.name if caller else "",
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "seconds": round(time.perf_counter() - began, 6),
            }
            self._log.info(json.dumps(line))

    async def _serve(self, caller: Caller | None, scope: Scope, receive: Receive, send: Send) -> None:
        if not caller:
            await JSONResponse({"error": "a valid key is needed"}, 401)(scope, receive, send)
        elif not caller.may_send():
            await JSONResponse({"error": "too many requests for this key"}, 429)(scope, receive, send)
        else:
            caller.in_flight += 1
            try:
                await self._app(scope, receive, send)
            finally:
                caller.in_flight -= 1

    def _find(self, header: bytes) -> Caller | None:
        scheme, _, key = header.partition(b" ")
        return self._callers.get(hashlib.sha256(key).hexdigest()) if scheme.lower() == b"bearer" else None


def guard(app: FastAPI, folder: Path) -> FastAPI:
    """Put a guard with the keys of this folder before the app."""
    app.add_middleware(Guard, folder=folder)
    return app
