"""What the supervisor tells: which release answers, since when, how good it is, what went wrong."""

import contextlib
import time
from datetime import UTC, datetime
from typing import Any

import structlog

from operations.errors import CestaError
from operations.releases import history
from operations.releases.repository import read_release
from operations.releases.store import Repository
from operations.supervisor.watchdog import LOST, Ending, Watchdog

log = structlog.get_logger()

ELSEWHERE_S = 15.0  # between two looks at an object store; a release that answers first is looked up at once
LOOK_S = 0.2


class Status:
    """Of a watchdog and its repository. One in an object store is only looked at by `follow`."""

    def __init__(self, watchdog: Watchdog, repository: Repository) -> None:
        self.watchdog = watchdog
        self._repository = repository
        self._started = time.monotonic()
        self._records: tuple[float, list[history.Record]] = (0.0, [])
        self._metrics: dict[int, Any] = {}  # of one release: it is immutable

    def follow(self, ending: Ending) -> None:
        """Look at an object store until ``ending``: who asks for status must not wait for it."""
        while self._repository.is_remote:
            release = self.watchdog.health.release
            try:
                self._records = 0.0, history.read(self._repository)
                self._read_metrics()
            except (CestaError, OSError) as error:
                log.warning("repository not read", reason=str(error))
            until = self.watchdog.now() + ELSEWHERE_S
            while self.watchdog.health.release == release and self.watchdog.now() < until:
                if ending.wait(LOOK_S):
                    return

    def uptime_s(self) -> float:
        """Of the supervisor, whatever became of servers."""
        return time.monotonic() - self._started

    def describe(self) -> dict[str, Any]:
        """As ``GET /v1/status`` shows it."""
        health, restarts = self.watchdog.health, self.watchdog.restarts
        return {
            "ready": health.ready,
            "reason": health.reason,
            "release": health.release,
            "since": self._since(),
            "metrics": self._metrics_of(health.release),
            "uptime_s": round(self.uptime_s(), 1),
            "restarts": restarts.total(),
            "restarts_by_trouble": {trouble: restarts[trouble] for trouble in LOST},
        }

    def promotions_failed(self) -> int:
        """Promotions and rollbacks that the repository's history knows to have failed."""
        return sum("failed" in record for record in self._history())

    def _since(self) -> str | None:
        """When the release that answers was made the active one; unrecorded, when it was seen first."""
        health = self.watchdog.health
        for record in reversed(self._history()):
            if record["what"] in history.SWITCHES and "failed" not in record:
                if record["release"] == health.release:
                    return record["at"]
                break
        if health.since_s is None:
            return None
        ago_s = self.watchdog.now() - health.since_s
        return datetime.fromtimestamp(time.time() - ago_s, UTC).isoformat(timespec="seconds")

    def _history(self) -> list[history.Record]:
        """Read again when it was added to."""
        if not self._repository.is_remote:
            changed = self._repository.modified_s(history.NAME) or 0.0
            if changed != self._records[0]:
                self._records = changed, history.read(self._repository)
        return self._records[1]

    def _metrics_of(self, release: int | None) -> Any:
        if not self._repository.is_remote:
            with contextlib.suppress(CestaError, OSError):  # deleted while it serves
                self._read_metrics()
        return self._metrics.get(release or 0)

    def _read_metrics(self) -> None:
        release = self.watchdog.health.release
        if release is not None and release not in self._metrics:
            self._metrics = {release: read_release(self._repository, release).metrics}
