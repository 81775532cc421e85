"""What the supervisor tells: which release answers, since when, how good it is, what went wrong."""

import time
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from export_scripts.errors import CestaError
from export_scripts.releases import history
from export_scripts.releases.repository import read_release
from export_scripts.supervisor.watchdog import LOST, Watchdog


class Status:
    """Of a watchdog and the repository that it serves; ``repository`` is None where it is not a folder."""

    def __init__(self, watchdog: Watchdog, repository: Path | None) -> None:
        self.watchdog = watchdog
        self._repository = repository
        self._started = time.monotonic()
        self._metrics = lru_cache(maxsize=2)(self._metrics_of)  # a release is immutable
        self._records: tuple[float, list[history.Record]] = (0.0, [])

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
            "metrics": None if health.release is None else self._metrics(health.release),
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
            if record["what"] in ("promote", "rollback") and "failed" not in record:
                if record["release"] == health.release:
                    return str(record["at"])
                break
        if health.since_s is None:
            return None
        ago_s = self.watchdog.now() - health.since_s
        return datetime.fromtimestamp(time.time() - ago_s, UTC).isoformat(timespec="seconds")

    def _history(self) -> list[history.Record]:
        """Read again when it was added to."""
        if self._repository is None:
            return []
        path = self._repository / history.NAME
        changed = path.stat().st_mtime if path.exists() else 0.0
        if changed != self._records[0]:
            self._records = changed, history.read(self._repository)
        return self._records[1]

    def _metrics_of(self, release: int) -> Any:
        if self._repository is None:
            return None
        try:
            return read_release(self._repository, release).get("metrics")
        except (CestaError, OSError):  # deleted while it serves
            return None
