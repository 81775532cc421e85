"""Follows what a running server is asked, and compares it with the record of the release that answers."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, tzinfo
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from operations.drift.comparison import Finding, compare
from operations.drift.counters import Key, gained, read_page, without_canaries
from operations.drift.features import WINDOWS_S
from operations.drift.windows import Windows
from operations.records.drift_record import DriftRecord

LEAST: Final = 300  # questions; with fewer a window is not compared
NO_RECORD: Final = (
    "this release has no reference: it was exported before cesta kept one; "
    'export it again with "cesta build", or "cesta export" and "cesta publish"'
)


@dataclass(frozen=True)
class Look:
    """The state of one window at the last look."""

    window: str
    questions: float
    seconds: float  # that the counts reach back
    complete: bool
    findings: tuple[Finding, ...]  # none before the window is complete


class Follower:
    """The windows of the release that answers. A new release begins with empty ones."""

    def __init__(self) -> None:
        self.release: int | None = None
        self.record: DriftRecord | None = None
        self.looks: tuple[Look, ...] = ()
        self._candidates = 0
        self._windows = Windows(UTC)
        self._before: Mapping[tuple[str, Key], float] | None = None
        self._canaries = 0.0

    def begin(self, release: int, record: DriftRecord | None, candidates: int) -> None:
        """Follow another release; ``candidates`` is how many its sampler proposes."""
        self.release, self.record, self._candidates = release, record, candidates
        self._windows = Windows(zone_of(record.timezone if record else ""))
        self.looks, self._before, self._canaries = (), None, 0.0

    def see(self, page: str, canaries: float, now_s: float) -> None:
        """Take in Triton's metrics page, with the number of canaries that the supervisor has ever sent."""
        if self.release is None or self.record is None:
            return
        counters = read_page(page, self.release)
        if self._before is not None:
            gain = gained(self._before, counters)
            self._windows.add(now_s, without_canaries(gain, canaries - self._canaries, self._candidates))
        self._before, self._canaries = counters, canaries
        self.looks = tuple(self._look(window, now_s) for window in WINDOWS_S)

    def _look(self, window: str, now_s: float) -> Look:
        assert self.record is not None  # `see` has checked it
        profile, asked = self._windows.profile(now_s, window)
        complete = asked >= LEAST and self._windows.is_complete(now_s, window)
        findings = tuple(compare(self.record, profile, window)) if complete else ()
        return Look(window, asked, self._windows.seconds(now_s, window), complete, findings)

    def describe(self) -> dict[str, Any]:
        """The answer of ``GET /v1/drift``."""
        return {
            "release": self.release,
            "reference": {"first": self.record.first, "last": self.record.last} if self.record else None,
            "reason": None if self.record or self.release is None else NO_RECORD,
            "windows": {
                look.window: {
                    "questions": look.questions,
                    "seconds": round(look.seconds, 1),
                    "complete": look.complete,
                    "findings": [finding.as_object() for finding in look.findings],
                }
                for look in self.looks
            },
        }


def zone_of(name: str) -> tzinfo | None:
    """A time zone by its name; UTC for "", and None for a name that this machine does not know."""
    with contextlib.suppress(ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo(name) if name else UTC
    return None
