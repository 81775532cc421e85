"""Receipts to release: etl → train → evaluate → export → publish → promote. What is fresh is kept."""

from pathlib import Path

import structlog

from export_scripts import complete_journey
from export_scripts.etl import etl
from export_scripts.evaluate import evaluate
from export_scripts.export import export
from export_scripts.freshness.ledger import Ledger, file_state
from export_scripts.settings import Settings
from export_scripts.train import train
from operations.outputs import Outputs
from operations.records import manifest
from operations.releases.promote import promote
from operations.releases.publish import publish, published_as
from operations.releases.repository import active_release
from operations.releases.store import Repository, open_repository

log = structlog.get_logger()


def build(
    settings: Settings, root: Path, promoting: bool = True, repository: Repository | None = None
) -> int:
    """Do every stage that is not fresh below ``root``, return the number of the release.

    It is published into ``repository``, by default the one below ``root``.

    ``promoting`` has a server's next start serve it; what the gate objects is only logged and recorded.
    """
    out, s = Outputs(root), settings
    repository = repository or open_repository(out.repository)
    stage = Ledger(root / "stages.json").once
    tables = (s.data.transactions, s.data.products) if s.data.transactions else complete_journey.tables()
    ran = {
        "etl": stage(
            "etl", [s.data, s.etl, file_state(*tables)], out.data / "meta.json", lambda: etl(s, root)
        ),
        "train": stage(
            "train",
            [s.splits, s.sampler, s.retrieval, s.train],
            out.checkpoint,
            lambda: train(s, out.data, out.checkpoint),
        ),
        "evaluate": stage(
            "evaluate",
            [s.evaluate],
            out.metrics,
            lambda: evaluate(s, out.data, out.checkpoint, out.metrics, max_queries=s.evaluate.build_queries),
        ),
        "export": stage(
            "export",
            [],
            out.run / manifest.NAME,
            lambda: export(s, out.data, out.checkpoint, out.metrics, out.run),
        ),
    }
    published = published_as(out.run, repository)
    release = publish(out.run, repository) if published is None else published
    if promoting and release != active_release(repository):
        record = promote(repository, release, bars=s.release, force=True)
        if "forced" in record:
            log.warning("promoted although", objections=record["forced"])
    ran["publish"] = published is None
    log.info("build", release=release, fresh=[name for name, did in ran.items() if not did])
    return release
