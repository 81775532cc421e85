"""The supervisor's app with an event log, on a repository without a server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from operations.events.desk import EventDesk
from operations.events.figures import Figures
from operations.events.log import MOST_QUEUED, EventLog
from operations.events.store import EventStore
from operations.releases.stores.store import open_repository
from operations.supervisor.app import make_app
from operations.supervisor.events import Events
from operations.supervisor.metrics import Metrics
from operations.supervisor.status import Status
from operations.supervisor.watchdog import Watchdog


class NoFacts:
    """Takes the place of ReleaseFacts: a release of 2026 that knows only milk."""

    def first_ms(self) -> int | None:
        return 1_767_225_600_000  # 2026-01-01

    def count_unknown(self, items: Any) -> int:
        return sum(item != "milk" for item in items)


class Desk:
    """The running app: ``address`` is its host:port."""

    def __init__(self, log: EventLog, metrics: Metrics) -> None:
        self.log, self.address = log, ""
        self._metrics = metrics

    def metrics(self) -> str:
        return self._metrics.text().decode()


@contextmanager
def open_desk(
    folder: Path, open_store: Callable[[], EventStore], token: str, most_queued: int = MOST_QUEUED
) -> Iterator[Desk]:
    """Run it for the block. ``folder`` holds nothing but an empty repository."""
    repository = open_repository(folder)
    watchdog = Watchdog(lambda: pytest.fail("a start"), threading.Event(), lambda: 0.0)
    metrics = Metrics()
    figures = Figures(metrics.registry)
    log = EventLog(open_store, figures.observe, most_queued=most_queued)
    figures.add_log(log)
    facts: Any = NoFacts()
    events = Events(EventDesk(log, figures, facts), token)
    app = make_app(watchdog, Status(watchdog, repository), metrics, events=events)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=1))
    desk = Desk(log, metrics)
    log.start()
    with server.config.bind_socket() as listener:
        desk.address = "{}:{}".format(*listener.getsockname())
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            yield desk
        finally:
            server.should_exit = True
            thread.join()
            log.close()
