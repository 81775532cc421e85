"""Tries a release on shops: starts it as the canary release, watches it, and ends it unless it is good."""

from contextlib import suppress
from dataclasses import dataclass

import structlog

from export_scripts.retraining.changes import Changes
from export_scripts.retraining.journal import Canary, Journal, Verdict
from export_scripts.retraining.outcome import Outcome, Stopped
from export_scripts.retraining.watch import MINUTE_S, watch
from export_scripts.settings import RetrainSettings
from operations.errors import CestaError
from operations.releases.models.configs import canary_on_disk

log = structlog.get_logger()


@dataclass(frozen=True)
class Trial:
    """The trial of one release."""

    release: int
    changes: Changes
    journal: Journal
    settings: RetrainSettings

    def run(self) -> str:
        """Return what there is to say of a release that may be promoted. Raises Stopped for any other."""
        canary = self._find() or self._start()
        try:
            with self.journal.step("watch"):
                changes = self.changes
                verdict = watch(
                    changes.server, canary, changes.active, self.settings, self.journal.save, changes.clock
                )
                self.journal.run.verdict = verdict
        except Stopped as stopped:
            if stopped.outcome is Outcome.OVERTAKEN:
                with suppress(CestaError):  # it may be no canary any more
                    self.changes.server.end_canary(self.release)
            raise
        return self._decide(verdict)

    def _decide(self, verdict: Verdict) -> str:
        found = "; ".join(verdict.objections)
        if verdict.found == "as good":
            return f", after {verdict.requests} requests as the canary release"
        if verdict.found == "undecided" and self.settings.undecided == "promote":
            return f", undecided as the canary release: {found} (retrain.undecided)"
        if verdict.found == "undecided" and self.settings.undecided == "wait":
            raise Stopped(
                Outcome.UNDECIDED,
                f"release {self.release} stays the canary release: {found}. The next run goes on watching",
            )
        with self.journal.step("end the canary"):
            self.changes.end_canary(self.release)
        raise Stopped(
            Outcome.WORSE if verdict.found == "worse" else Outcome.UNDECIDED,
            f"release {self.release} is not the canary release any more, release {self.changes.active} is "
            f"still the active one: {found}",
        )

    def _find(self) -> Canary | None:
        """The canary that an earlier run has left and that still runs, with its counts."""
        running = canary_on_disk(self.changes.repository)
        if running is None or running.release != self.release:
            return None
        for run in reversed(self.journal.of_this_release()):
            if run.canary:
                canary = run.canary.model_copy(deep=True)
                if run.outcome == Outcome.UNDECIDED.word:  # it waits for more requests
                    canary.until_s = self.changes.clock.now() + self.settings.minutes * MINUTE_S
                log.info("canary watched on", release=self.release, percent=running.percent)
                self.journal.run.canary = canary
                return canary
        return None  # started by hand, or by a run that was killed before it could record it

    def _start(self) -> Canary:
        """Start it, unless somebody else's canary release runs, or nobody would ask it."""
        self._refuse_other_canary()
        with self.journal.step("canary"):
            self._find_gateway()
            self.changes.start_canary(self.release, self.settings.percent)
            begun_s = self.changes.clock.now()
            canary = self.journal.run.canary = Canary(
                release=self.release,
                percent=self.settings.percent,
                started_s=begun_s,
                until_s=begun_s + self.settings.minutes * MINUTE_S,
            )
        return canary

    def _refuse_other_canary(self) -> None:
        running = canary_on_disk(self.changes.repository)
        ours = {self.release, *(run.canary.release for run in self.journal.earlier if run.canary)}
        if running and running.release not in ours:
            raise Stopped(
                Outcome.OVERTAKEN,
                f"release {running.release} is the canary release, and no retraining has started it; end it "
                f'with "cesta release canary {running.release} --percent 0", then run this again',
            )

    def _find_gateway(self) -> None:
        try:
            counts = self.changes.server.traffic()["counts"]
        except CestaError as error:
            raise Stopped(Outcome.NO_GATEWAY, f"release {self.release} is not tried: {error}") from None
        if counts is None:
            raise Stopped(
                Outcome.NO_GATEWAY,
                f"release {self.release} is not tried, for no gateway answers the supervisor and shares out "
                "requests; start it, or set retrain.percent = 0 for a server without one",
            )
