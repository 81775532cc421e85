"""Receipts to release: etl → train → evaluate → export → publish. What did not change is not done again."""

from dataclasses import dataclass
from pathlib import Path

import structlog

from export_scripts import complete_journey, manifest
from export_scripts.etl import etl
from export_scripts.evaluate import evaluate
from export_scripts.export import export
from export_scripts.ledger import Ledger, file_state
from export_scripts.publish import active_release, is_published, publish
from export_scripts.settings import Settings
from export_scripts.train import train

log = structlog.get_logger()


@dataclass(frozen=True)
class Outputs:
    """Where a build leaves things below its folder."""

    root: Path

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def checkpoint(self) -> Path:
        return self.root / "checkpoint.pt"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics.json"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def repository(self) -> Path:
        return self.root / "repository"


def build(settings: Settings, root: Path) -> int:
    """Do every stage that is not fresh below ``root``; the number of the active release at the end."""
    out, s = Outputs(root), settings
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
            lambda: evaluate(s, out.data, out.checkpoint, out.metrics, most=s.evaluate.build_queries),
        ),
        "export": stage(
            "export",
            [],
            out.run / manifest.NAME,
            lambda: export(s, out.data, out.checkpoint, out.metrics, out.run),
        ),
        "publish": not is_published(out.run, out.repository),
    }
    release = publish(out.run, out.repository) if ran["publish"] else active_release(out.repository)
    log.info("build", release=release, fresh=[name for name, did in ran.items() if not did])
    return int(release or 0)


if __name__ == "__main__":
    from export_scripts.cli import main

    main("build")
