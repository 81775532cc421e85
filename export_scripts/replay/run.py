"""Replays the last weeks of a shop: makes the releases of all schedules, and has them answer each day.

A release is trained once for all schedules that want it. Answers are kept by release and day; a replay that
is started again makes only what is missing, and a training that was killed goes on.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from export_scripts.quality.against.asked_by_id import ask
from export_scripts.receipts.shop import load_shop
from export_scripts.replay.kept import KeptRelease, day_name, settings_name
from export_scripts.replay.plan import WEEK, Plan
from export_scripts.replay.questions import Asked
from export_scripts.replay.releases import EARLIER, Trained, load_trained, train_on
from export_scripts.replay.trial import try_candidate, was_tried
from export_scripts.settings import Settings

log = structlog.get_logger()

WORK: Final = "training"  # the folder of the release in making
LAST: Final = "last"  # that of the last weekly one, which the next is compared with
TRIALS: Final = "trials"
COUNTS: Final = "counts"
COLD: Final = "cold"
WARM: Final = "warm"


@dataclass(frozen=True)
class Replay:
    """A replay of the receipts in ``data``; everything that it keeps lies in ``folder``."""

    data: Path
    folder: Path
    plan: Plan
    settings: Settings
    warm: bool = False

    @classmethod
    def of(
        cls, data: Path, root: Path, settings: Settings, weeks: tuple[int, int, int], warm: bool = False
    ) -> "Replay":
        """The replay below ``root`` that belongs to data and settings. Another has another folder.

        ``weeks``: in all, held out, with daily releases. With ``warm``, each training finds the checkpoint of
        the last weekly release, and goes on with its tower.
        """
        shop = load_shop(data)
        chosen = (settings.splits, settings.sampler, settings.retrieval, settings.train, settings.ranking)
        name = settings_name(
            WARM if warm else COLD, shop.fingerprint, *(table.model_dump_json() for table in chosen)
        )
        queries = {"queries": settings.evaluate.build_queries}  # of a trial, as in a build
        settings = settings.model_copy(update={"evaluate": settings.evaluate.model_copy(update=queries)})
        return cls(data, root / name, Plan.last_weeks(shop, *weeks), settings, warm)

    def kept(self, made: int) -> KeptRelease:
        """The answers of the release that was made at the midnight of a day."""
        return KeptRelease(self.folder / f"made-{made:03d}")

    def run(self, schedules: Sequence[str], until: int, trials: bool = True) -> None:
        """Make what is missing up to day ``until``; with ``trials``, also what the gate needs to judge."""
        shop = load_shop(self.data)
        asked = Asked(shop, self.settings)
        for made, days in self.plan.answers(schedules, until).items():
            kept = self.kept(made)
            missing = [day for day in days if not kept.has(day_name(day))]
            untried = trials and _is_tried(made) and not was_tried(kept.folder / TRIALS)
            if not missing and not untried:
                continue
            end = shop.first_basket_at(self.plan.midnight(made))
            trained = self._train(made)
            if missing:
                reference = trained.released_before(end)
                for day in missing:
                    questions = asked.on(self.plan.midnight(day))
                    kept.keep(day_name(day), ask(reference, questions.by_id(shop)))
            if untried:
                try_candidate(self._train(made - WEEK), trained, kept.folder / TRIALS)
            log.info("replayed", made=made, days=len(missing))
            self._end(made)

    def _train(self, made: int) -> Trained:
        """Train for a release, unless that training is the last weekly one, which is kept."""
        folder = self.folder / LAST / f"{made:03d}"
        if folder.exists():
            return load_trained(folder / "data", folder / "checkpoint.pt", self.settings)
        folder = self.folder / WORK / f"{made:03d}"
        if self.warm and made > 0:
            self._bring_earlier(self.plan.weekly_before(made), folder)
        end = load_shop(self.data).first_basket_at(self.plan.midnight(made))
        trained, cpu_s = train_on(self.data, end, folder, self.settings, self.folder / COUNTS)
        if (kept := self.kept(made)).about is None:
            kept.tell({"cpu_s": round(cpu_s, 1)})
        return trained

    def _bring_earlier(self, made: int, folder: Path) -> None:
        """Have the checkpoint of a weekly release in the folder of a training, which goes on from it."""
        last = self.folder / LAST / f"{made:03d}"
        if not last.exists():
            self._train(made)
            self._end(made)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(last / "checkpoint.pt", folder / EARLIER)

    def _end(self, made: int) -> None:
        """Keep the training of a weekly release until the next one; remove others."""
        work, last = self.folder / WORK, self.folder / LAST
        if _is_weekly(made) and (work / f"{made:03d}").exists():
            shutil.rmtree(last, ignore_errors=True)
            last.mkdir(parents=True)
            (work / f"{made:03d}").rename(last / f"{made:03d}")
        shutil.rmtree(work, ignore_errors=True)


def _is_weekly(made: int) -> bool:
    return made % WEEK == 0


def _is_tried(made: int) -> bool:
    return _is_weekly(made) and made > 0
