"""A caller of the admin verbs of the supervisor's app, on a repository without a server."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from operations.gateway.traffic import Traffic
from operations.releases.stores.store import Repository
from operations.settings import load_bars
from operations.supervisor.admin import Operator
from operations.supervisor.app import make_app
from operations.supervisor.metrics import Metrics
from operations.supervisor.operation_log import OperationLog
from operations.supervisor.status import Status
from operations.supervisor.watchdog import Watchdog

TRAFFIC: Traffic = {"active": 1, "canary": None, "counts": None}
TOKEN = "only the gateway knows"


class NoServer:
    """Takes the place of a ModelControl: the commands then change what the next start serves."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


class Admin:
    """A client with a key of the role admin, through the gateway."""

    def __init__(self, repository: Repository, hr_at_10: float = 0.0, pinned: int | None = None) -> None:
        watchdog = Watchdog(lambda: pytest.fail("a start"), threading.Event(), lambda: 0.0)
        bars = load_bars().model_copy(update={"hr_at_10": hr_at_10})
        folder = Path(str(repository)).parent  # of the operations
        control: Any = NoServer
        self.operations, self.folder = OperationLog(folder), folder
        operator = Operator(
            repository, control, bars, TOKEN, lambda: TRAFFIC, self.operations, pinned, folder
        )
        app = make_app(watchdog, Status(watchdog, repository), Metrics(), operator)
        self._client = TestClient(app, raise_server_exceptions=False)

    def ask(
        self,
        method: str,
        path: str,
        token: str | bytes = TOKEN,
        key: str | bytes = "",
        by: str = "ops",
        **body: Any,
    ) -> Any:
        """One request, with an Idempotency-Key if ``key`` is given, of the gateway's key ``by``."""
        headers: Any = {
            "X-Cesta-Admin": token,
            "X-Cesta-Key": by,
            **({"Idempotency-Key": key} if key else {}),
        }
        return self._client.request(method, f"/admin{path}", headers=headers, json=body or None)

    def change(self, path: str, **body: Any) -> Any:
        """Ask for a change, and return its operation when that has ended."""
        answer = self.ask("POST", path, **body)
        assert answer.status_code == 202, answer.text
        return self.await_end(answer)

    def await_end(self, accepted: Any) -> Any:
        location = accepted.headers["Location"].removeprefix("/admin")
        deadline = time.monotonic() + 60
        while (operation := self.ask("GET", location).json())["state"] == "running":
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return operation
