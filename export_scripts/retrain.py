"""The loop, once around: receipts to a release that shops have tried, or the reason why the old one stays.

etl, train, evaluate, export as in build.py; then publish, gate, canary, watch, promote or end, retire. Killed
anywhere and started again, it goes on: stages are fresh, a release is published once, a canary is watched on.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from export_scripts.build import Stage, stages
from export_scripts.receipts.meta import read_meta
from export_scripts.retraining.changes import Changes
from export_scripts.retraining.journal import Journal, Run
from export_scripts.retraining.lock import locked
from export_scripts.retraining.outcome import Outcome, Stopped
from export_scripts.retraining.server import Server
from export_scripts.retraining.trial import Trial
from export_scripts.retraining.watch import REAL, Clock
from export_scripts.settings import Settings
from operations.errors import CestaError
from operations.gateway.items import write_items
from operations.outputs import Outputs
from operations.records.manifest import ReleaseManifest
from operations.releases import history
from operations.releases.activation import activate
from operations.releases.gate import check_gate
from operations.releases.history import Action
from operations.releases.publish import publish, published_as
from operations.releases.repository import read_release
from operations.releases.stores.store import Repository

DAY_S: Final = 86_400.0

log = structlog.get_logger()


def retrain(
    settings: Settings, root: Path, repository: Repository, server: Server, clock: Clock = REAL
) -> Run:
    """Run the loop once below ``root`` and return its record, which retraining.json has, too.

    Raises an error if there is no new active release; ``outcome_of`` tells its exit code. The old release
    then answers as before.
    """
    with locked(root):
        journal = Journal(root, repository, settings.retrain.every_days * DAY_S)
        with journal.recording():
            outcome, sentence = _Loop(settings, Outputs(root), repository, server, journal, clock).run()
            journal.end(outcome, sentence)
        return journal.run


def stale_stages(settings: Settings, root: Path, repository: Repository) -> list[str]:
    """The stages that would run now. After a stale one, the others depend on what it makes."""
    stale: list[str] = []
    for stage in stages(settings, root, repository):
        if stale or not stage.result.exists() or not stage.is_fresh():
            stale.append(stage.name)
    return stale


@dataclass
class _Loop:
    settings: Settings
    out: Outputs
    repository: Repository
    server: Server
    journal: Journal
    clock: Clock
    active: int | None = field(init=False)  # at the beginning; nobody else may change it meanwhile

    def __post_init__(self) -> None:
        self.active = self.journal.run.active_before = history.known_active(self.repository)

    def run(self) -> tuple[Outcome, str]:
        """Run all steps; how it ended, and a sentence."""
        self._check_active()
        self._finish_promotion()
        etl, *others = stages(self.settings, self.out.root, self.repository)
        self._run_stage(etl)
        facts, run = read_meta(self.out.data), self.journal.run
        run.data = facts["fingerprint"]
        run.data_until = facts["time_range"][-1] if facts["time_range"] else None
        if self.active is not None and self._is_made_from(self.active, facts["fingerprint"]):
            return self._end_without_news(self.active)
        for stage in others:
            self._run_stage(stage)
        release = self._publish()
        if self.active is None:
            return self._promote_first(release.release)
        changes = Changes(self.server, self.repository, self.active, self.clock)
        changes.check_active()
        self._refuse_known_bad(release.release)
        self._ask_gate(release)
        with self.journal.step("find the server"):
            self.server.check(release)
        chosen, said = self.settings.retrain, ""
        if chosen.percent:
            said = Trial(release.release, changes, self.journal, chosen).run()
        with self.journal.step("promote"):
            changes.promote(release.release)
        return self._finish(release.release, said)

    def _check_active(self) -> None:
        """Raise CestaError, before anything is trained, if the active release cannot be compared with."""
        if self.active is None:
            return
        try:
            read_release(self.repository, self.active)
        except CestaError as error:
            raise CestaError(
                f"{error}; release {self.active} is the active one, and nothing can be compared with it: "
                'restore its files, or type "cesta release promote" with another one'
            ) from None

    def _finish_promotion(self) -> None:
        """Make a promotion again that was killed before its record: the old release may still answer."""
        if self.active is not None and history.is_half_promoted(self.repository):
            with self.journal.step("promote"):
                Changes(self.server, self.repository, self.active, self.clock).promote(self.active)

    def _run_stage(self, stage: Stage) -> None:
        with self.journal.step(stage.name) as step:
            step.outcome = "done" if stage.run() else "fresh"

    def _is_made_from(self, release: int, fingerprint: str) -> bool:
        data = read_release(self.repository, release).data
        return data is not None and data.fingerprint == fingerprint

    def _end_without_news(self, active: int) -> tuple[Outcome, str]:
        """Nothing is new. If a run was ended after its promotion, do what it could not do any more."""
        last = self.journal.earlier[-1] if self.journal.earlier else None
        if last and last.outcome in (None, Outcome.INTERRUPTED.word) and last.release == active:
            self.journal.run.release = active
            return self._finish(active, ", by a run that was ended then")
        return Outcome.NOTHING_NEW, f"nothing new: release {active} is made from these receipts"

    def _publish(self) -> ReleaseManifest:
        with self.journal.step("publish") as step:
            published = published_as(self.out.run, self.repository)
            number = publish(self.out.run, self.repository) if published is None else published
            step.outcome = "done" if published is None else "fresh"
            release = read_release(self.repository, number)
            self.journal.run.release, self.journal.run.digest = number, release.digest
        return release

    def _promote_first(self, release: int) -> tuple[Outcome, str]:
        """Nothing is active, so nobody is served: the next start serves the release."""
        with self.journal.step("promote"):
            activate(self.repository, release, bars=self.settings.release)
        self._write_items()
        return Outcome.PROMOTED, f"release {release} is the first one: the next start serves it"

    def _refuse_known_bad(self, release: int) -> None:
        """Neither shops nor operators are asked about the same release twice."""
        by_hand = f'nothing is new since; "cesta release promote {release}" promotes it all the same'
        if history.was_rolled_back(self.repository, release):
            raise Stopped(Outcome.REFUSED, f"release {release} was rolled back, and {by_hand}")
        for run in reversed(self.journal.of_this_release()):
            if run.outcome == Outcome.WORSE.word:
                raise Stopped(
                    Outcome.WORSE,
                    f"release {release} was worse as the canary release of {run.started_at}, and {by_hand}",
                )

    def _ask_gate(self, release: ReleaseManifest) -> None:
        """Raise Stopped with the gate's objections. They are a failed promotion, which raises its alert."""
        with self.journal.step("gate"):
            found = check_gate(self.repository, release, self.active, self.settings.release, force=True)
            objections = self.journal.run.objections = found.get("forced", [])
            if objections:
                why = "; ".join(objections)
                history.append(
                    self.repository,
                    Action.PROMOTE,
                    release.release,
                    before=self.active,
                    failed="gate",
                    why=why,
                )
                raise Stopped(
                    Outcome.REFUSED,
                    f"release {release.release} is published and not promoted, release {self.active} is "
                    f"still the active one: {why}",
                )

    def _finish(self, release: int, said: str) -> tuple[Outcome, str]:
        """Tidy up after a promotion. It is made, so trouble is only logged."""
        self._write_items()
        with self.journal.step("retire") as step:
            try:
                self.journal.run.retired = self.server.retire(self.settings.retrain.keep)
            except (CestaError, OSError) as error:
                step.outcome = "failed"
                log.warning("not retired", reason=str(error))
        return Outcome.PROMOTED, f"release {release} is active{said}"

    def _write_items(self) -> None:
        """Give the gateway of this machine the new names of items, if its folder is in its usual place."""
        if not self.out.gateway.is_dir():
            return
        try:
            write_items(self.out.data, self.out.gateway)
        except (CestaError, OSError) as error:
            log.warning("names of items not written", reason=str(error))
