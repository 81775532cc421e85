"""A server for retrainings that answers as a test wants; what is active changes on the repository's disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from export_scripts.retraining.outcome import Outcome, Stopped
from export_scripts.retraining.watch import Clock
from operations.errors import NoAnswer
from operations.gateway.traffic import NAMES, Counts, Traffic
from operations.records.contract import ENSEMBLE
from operations.records.manifest import ReleaseManifest
from operations.releases.canary import start_canary, stop_canary
from operations.releases.models.configs import CANARY, canary_on_disk
from operations.releases.promote import promote
from operations.releases.repository import active_release
from operations.releases.retire import retire
from operations.releases.stores.store import Repository


@dataclass
class ScriptedServer:
    """Each look finds `requests` more of the canary and nine times as many of the active release."""

    repository: Repository
    requests: int = 100
    failures: int = 0  # of them, by the canary
    is_there: bool = True
    has_gateway: bool = True
    at_look: Callable[[int], None] = lambda look: None
    changes: list[str] = field(default_factory=list)
    looks: int = 0
    gone = Outcome.NO_SERVER

    def check(self, release: ReleaseManifest) -> None:
        if not self.is_there:
            raise Stopped(Outcome.NO_SERVER, "no server listens")

    def traffic(self) -> Traffic:
        if not self.is_there:
            raise NoAnswer("no supervisor listens")
        canary = canary_on_disk(self.repository)
        if canary:
            self.looks += 1
            self.at_look(self.looks)
        active, canary = active_release(self.repository), canary_on_disk(self.repository)
        counts = self.counts(active, canary.release if canary else None) if self.has_gateway else None
        return {"active": active, "canary": canary and canary.release, "counts": counts}

    def counts(self, active: int | None, canary: int | None) -> Counts:
        ours = float(self.looks * self.requests)
        counts: Counts = {name: {} for name in NAMES}
        counts["answered"] = {ENSEMBLE: 9 * ours, CANARY: ours}
        counts["failed"] = {CANARY: float(self.looks * self.failures)}
        for name in ("timed", "quick", "queries", "items"):
            counts[name] = {str(active): 9 * ours, str(canary): ours}
        return counts

    def start_canary(self, release: int, percent: float) -> None:
        start_canary(self.repository, release, percent)
        self.changes.append(f"canary {release}")

    def end_canary(self, release: int) -> None:
        stop_canary(self.repository, release)
        self.changes.append(f"end {release}")

    def promote(self, release: int, expected: int) -> None:
        promote(self.repository, release, expected=expected)
        self.changes.append(f"promote {release}")

    def retire(self, keep: int) -> list[int]:
        return retire(self.repository, keep=keep)


class Hours:
    """A clock whose pauses take no time."""

    def __init__(self) -> None:
        self.now_s = 1_700_000_000.0

    def pause(self, seconds: float) -> None:
        self.now_s += seconds

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.now_s, self.pause)
