"""The supervisor's status: the release that answers, since when, its metrics, and failures."""

import contextlib
import time
from datetime import UTC, datetime

import structlog

from cesta_client import __version__
from operations.errors import CestaError
from operations.live.stock import Stock
from operations.records.manifest import JsonObject
from operations.releases import history
from operations.releases.repository import read_release
from operations.releases.stores.store import Repository
from operations.server.version import MINIMUM, TritonVersion
from operations.shipped.commit import find_commit
from operations.supervisor.fallback import Fallback, is_over
from operations.supervisor.loop import Ages, Loop
from operations.supervisor.watchdog import LOST, Ending, Watchdog

log = structlog.get_logger()

STORE_INTERVAL_S = 15.0  # between two reads of an object store; a new release is read at once
POLL_S = 0.2


class Status:
    """Reports the state of one watchdog and its repository. Only `follow` reads an object store."""

    def __init__(self, watchdog: Watchdog, repository: Repository, pinned: int | None = None) -> None:
        self.watchdog = watchdog
        self._pinned = pinned
        self._repository = repository
        self._started = time.monotonic()
        self._records: tuple[float, list[history.Record]] = (0.0, [])
        self._manifest: tuple[int, JsonObject | None, Ages] | None = None  # of a release; they never change
        self.loop = Loop(repository)
        self._began: Fallback | None = None  # that of the last start
        self._cesta = {"version": __version__, "commit": find_commit()}
        self.triton: TritonVersion | None = None  # that of the last start
        self.stock: Stock | None = None  # None: this server follows no live tables

    def follow(self, ending: Ending) -> None:
        """Read an object store at intervals until ``ending``, so that no request waits for it."""
        while self._repository.is_remote:
            release = self.watchdog.health.release
            try:
                self._records = 0.0, history.read(self._repository)
                self._read_manifest()
                self.loop.follow()
            except (CestaError, OSError) as error:
                log.warning("repository not read", reason=str(error))
            next_s = self.watchdog.now() + STORE_INTERVAL_S
            while self.watchdog.health.release == release and self.watchdog.now() < next_s:
                if ending.wait(POLL_S):
                    return

    def note_start(self, fallback: Fallback | None, triton: TritonVersion | None = None) -> None:
        """Take note of a start: whether it was with the previous release, and of which tritonserver."""
        self._began, self.triton = fallback, triton

    def fallback(self) -> Fallback | None:
        """The fallback that lasts, if one does."""
        if self._began is None or self.watchdog.health.release != self._began.release:
            return None
        return None if is_over(self._began, self._history()) else self._began

    def uptime_s(self) -> float:
        """Return the uptime of the supervisor. Restarts of the server do not reset it."""
        return time.monotonic() - self._started

    def describe(self) -> dict[str, object]:
        """Return the answer of ``GET /v1/status``."""
        health, restarts, fallback = self.watchdog.health, self.watchdog.restarts, self.fallback()
        metrics, ages = self._about(health.release)
        now = datetime.now(UTC)
        return {
            "cesta": self._cesta,
            "ready": health.ready,
            "reason": health.reason,
            "release": health.release,
            "pinned": self._pinned,
            "since": self._since(),
            "fallback": {"active": fallback.active, "reason": fallback.reason} if fallback else None,
            "metrics": metrics,
            "age": ages.describe(now),
            "retraining": self.loop.describe(now),
            "uptime_s": round(self.uptime_s(), 1),
            "restarts": restarts.total(),
            "restarts_by_trouble": {trouble: restarts[trouble] for trouble in LOST},
            "triton": _describe(self.triton) if self.triton else None,
            "stock": _describe_stock(self.stock, health.release) if self.stock else None,
        }

    def promotions_failed(self) -> int:
        """Return the number of failed promotions and rollbacks in the repository's history."""
        return sum("failed" in record for record in self._history())

    def _since(self) -> str | None:
        """Return when the answering release became active; without a record, when it first answered."""
        health = self.watchdog.health
        for record in reversed(self._history()):
            if history.is_switch(record):
                if record["release"] == health.release:
                    return record.get("at")
                break
        if health.since_s is None:
            return None
        ago_s = self.watchdog.now() - health.since_s
        return datetime.fromtimestamp(time.time() - ago_s, UTC).isoformat(timespec="seconds")

    def _history(self) -> list[history.Record]:
        """Return the history; read it again if the file has changed."""
        if not self._repository.is_remote:
            modified_s = self._repository.modified_s(history.NAME) or 0.0
            if modified_s != self._records[0]:
                self._records = modified_s, history.read(self._repository)
        return self._records[1]

    def ages(self) -> Ages:
        """Return the ages of the answering release and of its data."""
        return self._about(self.watchdog.health.release)[1]

    def _about(self, release: int | None) -> tuple[JsonObject | None, Ages]:
        """Return what the release's manifest says: its metrics and its ages."""
        if not self._repository.is_remote:
            with contextlib.suppress(CestaError, OSError):  # deleted while it serves
                self._read_manifest()
        if self._manifest is None or self._manifest[0] != release:
            return None, Ages()
        return self._manifest[1:]

    def _read_manifest(self) -> None:
        release = self.watchdog.health.release
        if release is not None and (self._manifest is None or self._manifest[0] != release):
            manifest = read_release(self._repository, release)
            self._manifest = release, manifest.metrics, Ages.of(manifest)


def _describe_stock(stock: Stock, release: int | None) -> dict[str, object]:
    """Return the version of the stock, and whether the answering release applies it."""
    versions = [one.version for one in stock.followers() if one.release == str(release)]
    reason = None
    if stock.table.version and not versions:
        reason = f"release {release} was made before samplers followed the stock; build and promote a new one"
    elif stock.lag_s():
        reason = f"a sampler of release {release} is at version {min(versions)}"
    return {
        "version": stock.table.version,
        "applied": min(versions, default=0) >= stock.table.version,
        "reason": reason or stock.table.damage or None,
    }


def _describe(triton: TritonVersion) -> dict[str, object]:
    return {
        "version": triton.version,
        "minimum": MINIMUM,
        "outdated": triton.is_outdated,
        "exposed": triton.is_exposed,
    }
