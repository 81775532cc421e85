"""Receipts to release: etl, train, evaluate, export, publish, then the promotion if the gate agrees.

A stage runs only if its code, its settings or its input files have changed since its last run.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from export_scripts.etl import etl
from export_scripts.evaluate import evaluate
from export_scripts.export import export
from export_scripts.freshness.inputs import Inputs
from export_scripts.freshness.ledger import Ledger, Part
from export_scripts.receipts import meta
from export_scripts.settings import Settings
from export_scripts.train import train
from operations.outputs import Outputs
from operations.records import manifest
from operations.releases.activation import activate
from operations.releases.history import was_rolled_back
from operations.releases.publish import publish, published_as
from operations.releases.repository import active_release
from operations.releases.stores.store import Repository, open_repository

log = structlog.get_logger()


@dataclass(frozen=True)
class Promotion:
    """How a build promotes its release: see ``activate`` for both values."""

    address: str | None = None
    force: bool = False


@dataclass(frozen=True)
class Stage:
    """A stage below one root. Ask it after the stages before it have run: they write what it reads."""

    name: str
    made_from: Callable[[], Sequence[Part]]
    result: Path
    work: Callable[[], Path]
    ledger: Ledger

    def run(self) -> bool:
        """Run the stage unless it is fresh, and tell whether it ran."""
        return self.ledger.once(self.name, self.made_from(), self.result, self.work)

    def is_fresh(self) -> bool:
        """Tell whether the stage would not run."""
        return self.ledger.is_fresh(self.name, self.made_from(), self.result)


def stages(settings: Settings, root: Path) -> list[Stage]:
    """Return the stages that make the run below ``root`` from receipts, in their order."""
    out = Outputs(root)
    ledger, inputs = Ledger(root / "stages.json"), Inputs(settings, out)
    most = settings.evaluate.build_queries
    return [
        Stage("etl", inputs.etl, out.data / meta.FILE, lambda: etl(settings, root), ledger),
        Stage(
            "train", inputs.train, out.checkpoint, lambda: train(settings, out.data, out.checkpoint), ledger
        ),
        Stage(
            "evaluate",
            inputs.evaluate,
            out.metrics,
            lambda: evaluate(settings, out.data, out.checkpoint, out.metrics, max_queries=most),
            ledger,
        ),
        Stage(
            "export",
            inputs.export,
            out.run / manifest.NAME,
            lambda: export(settings, out.data, out.checkpoint, out.metrics, out.run),
            ledger,
        ),
    ]


def build(
    settings: Settings,
    root: Path,
    promotion: Promotion | None = Promotion(),
    repository: Repository | None = None,
) -> int:
    """Run the stages below ``root`` that are not fresh and return the number of the release.

    Publishes into ``repository``, by default the one below ``root``. With a ``promotion``, the release is
    promoted, unless it was rolled back. Raises NotActive if it could not be promoted.
    """
    out = Outputs(root)
    repository = repository or open_repository(out.repository)
    ran = {stage.name: stage.run() for stage in stages(settings, root)}
    published = published_as(out.run, repository)
    release = publish(out.run, repository) if published is None else published
    ran["publish"] = published is None
    log.info("build", release=release, fresh=[stage for stage, has_run in ran.items() if not has_run])
    if promotion and release != active_release(repository):
        _promote(settings, repository, release, promotion)
    return release


def _promote(settings: Settings, repository: Repository, release: int, promotion: Promotion) -> None:
    if was_rolled_back(repository, release):
        log.warning(
            "not promoted", release=release, why="rolled back", way_out=f"cesta release promote {release}"
        )
        return
    record = activate(repository, release, promotion.address, bars=settings.release, force=promotion.force)
    if "forced" in record:
        log.warning("forced although", objections=record["forced"])
