"""The loop that retrains, as operators see it: ages of release and data, the last run, the next one."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from prometheus_client.core import GaugeMetricFamily, Metric

from operations.errors import CestaError
from operations.records.manifest import ReleaseManifest
from operations.releases.retraining import NAME, Retraining, moment, read_retraining
from operations.releases.stores.store import Repository

log = structlog.get_logger()


@dataclass(frozen=True)
class Ages:
    """When a release and the newest of its receipts came into being; None if its manifest does not say."""

    created: datetime | None = None
    data_until: datetime | None = None

    @classmethod
    def of(cls, release: ReleaseManifest) -> "Ages":
        """Read them from a manifest."""
        return cls(_moment(release.created_at), _moment(release.data.last if release.data else None))

    def describe(self, now: datetime) -> dict[str, object]:
        """Return the moments, and the seconds since then."""
        return {
            "release_created_at": _text(self.created),
            "release_s": _since(self.created, now),
            "data_until": _text(self.data_until),
            "data_s": _since(self.data_until, now),
        }

    def metrics(self) -> Iterator[Metric]:
        """Return a gauge for each that is known."""
        if self.created:
            yield _moment_gauge("cesta_release_created", "When the answering release was made", self.created)
        if self.data_until:
            yield _moment_gauge(
                "cesta_release_data_until", "The newest receipt of the answering release", self.data_until
            )


class Loop:
    """The state of one repository's loop, read again when its file has changed."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._read: tuple[float, Retraining | None] = (0.0, None)

    def follow(self) -> None:
        """Read the state from an object store."""
        self._read = 0.0, self._parse()

    def describe(self, now: datetime) -> dict[str, object] | None:
        """Return the loop's part of ``/v1/status``; None if nobody retrains."""
        state = self._state()
        if state is None:
            return None
        return {
            "every_s": state.every_s,
            "started_at": state.started_at,
            "step": state.step,
            "last": state.last.json_object() if state.last else None,
            "next_at": _text(state.next_at),
            "overdue_s": max(0.0, _since(state.next_at, now) or 0.0),
        }

    def metrics(self) -> Iterator[Metric]:
        """Return the loop's gauges; none if nobody retrains."""
        state = self._state()
        if state is None:
            return
        yield _gauge("cesta_retraining_every_seconds", "Seconds from one run to the next", state.every_s)
        yield _gauge("cesta_retraining_running", "1 while a run is under way", state.step is not None)
        yield _moment_gauge("cesta_retraining_started", "When the last run began", moment(state.started_at))
        yield _moment_gauge("cesta_retraining_next", "When the next run is due", state.next_at)
        if last := state.last:
            yield _moment_gauge("cesta_retraining_ended", "When a run ended last", moment(last.ended_at))
            yield _gauge("cesta_retraining_exit_code", "Exit code of the run that ended last", last.exit_code)

    def _state(self) -> Retraining | None:
        if not self._repository.is_remote:
            with contextlib.suppress(OSError):
                modified_s = self._repository.modified_s(NAME) or 0.0
                if modified_s != self._read[0]:
                    self._read = modified_s, self._parse()
        return self._read[1]

    def _parse(self) -> Retraining | None:
        try:
            return read_retraining(self._repository)
        except CestaError as error:
            log.warning("retraining not read", reason=str(error))
            return self._read[1]


def _moment(text: str | None) -> datetime | None:
    with contextlib.suppress(ValueError):  # of a manifest that somebody else wrote
        return moment(text) if text else None
    return None


def _text(at: datetime | None) -> str | None:
    return at.astimezone(UTC).isoformat(timespec="seconds") if at else None


def _since(at: datetime | None, now: datetime) -> float | None:
    return round((now - at).total_seconds(), 1) if at else None


def _moment_gauge(name: str, documentation: str, at: datetime) -> Metric:
    return _gauge(f"{name}_timestamp_seconds", f"{documentation}, in Unix time", at.timestamp())


def _gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(name, documentation, value=float(value))
