"""Receipts to release: etl, train, evaluate, export, publish, then the promotion.

A stage runs only if its code, its settings or its input files have changed since its last run.
"""

from pathlib import Path

import structlog

from export_scripts.etl import etl
from export_scripts.evaluate import evaluate
from export_scripts.export import export
from export_scripts.freshness.inputs import Inputs
from export_scripts.freshness.ledger import Ledger
from export_scripts.receipts import meta
from export_scripts.settings import Settings
from export_scripts.train import train
from operations.outputs import Outputs
from operations.records import manifest
from operations.releases.history import was_rolled_back
from operations.releases.promote import promote
from operations.releases.publish import publish, published_as
from operations.releases.repository import active_release
from operations.releases.store import Repository, open_repository

log = structlog.get_logger()


def build(
    settings: Settings, root: Path, promoting: bool = True, repository: Repository | None = None
) -> int:
    """Run the stages below ``root`` that are not fresh and return the number of the release.

    Publishes into ``repository``, by default the one below ``root``. With ``promoting``, the next start of a
    server serves the release, unless it was rolled back; objections of the gate are only logged and recorded.
    """
    out = Outputs(root)
    repository = repository or open_repository(out.repository)
    once, inputs = Ledger(root / "stages.json").once, Inputs(settings, out)
    most = settings.evaluate.build_queries
    ran = {
        "etl": once("etl", inputs.etl(), out.data / meta.FILE, lambda: etl(settings, root)),
        "train": once(
            "train", inputs.train(), out.checkpoint, lambda: train(settings, out.data, out.checkpoint)
        ),
        "evaluate": once(
            "evaluate",
            inputs.evaluate(),
            out.metrics,
            lambda: evaluate(settings, out.data, out.checkpoint, out.metrics, max_queries=most),
        ),
        "export": once(
            "export",
            inputs.export(),
            out.run / manifest.NAME,
            lambda: export(settings, out.data, out.checkpoint, out.metrics, out.run),
        ),
    }
    published = published_as(out.run, repository)
    release = publish(out.run, repository) if published is None else published
    ran["publish"] = published is None
    if promoting and release != active_release(repository):
        _promote(settings, repository, release)
    log.info("build", release=release, fresh=[stage for stage, has_run in ran.items() if not has_run])
    return release


def _promote(settings: Settings, repository: Repository, release: int) -> None:
    if was_rolled_back(repository, release):
        log.warning(
            "not promoted", release=release, why="rolled back", way_out=f"cesta release promote {release}"
        )
        return
    record = promote(repository, release, bars=settings.release, force=True)
    if "forced" in record:
        log.warning("promoted although", objections=record["forced"])
