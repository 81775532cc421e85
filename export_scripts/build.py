"""Receipts to release: etl, train, evaluate, export, publish, then the promotion.

A stage runs only if its code, its settings or its input files have changed since its last run.
"""

import json
from pathlib import Path
from typing import Final

import structlog

from export_scripts import complete_journey
from export_scripts.etl import etl
from export_scripts.evaluate import evaluate
from export_scripts.export import export
from export_scripts.freshness.code import SourceTree
from export_scripts.freshness.ledger import Ledger, Part, file_state
from export_scripts.receipts import meta
from export_scripts.settings import Settings
from export_scripts.train import train
from operations.outputs import Outputs
from operations.records import manifest
from operations.records.sampler_code import sampler_code
from operations.releases.promote import promote
from operations.releases.publish import publish, published_as
from operations.releases.repository import active_release
from operations.releases.store import Repository, open_repository

log = structlog.get_logger()

STAGES: Final = ("etl", "train", "evaluate", "export")  # modules beside this one; publish decides for itself


def build(
    settings: Settings, root: Path, promoting: bool = True, repository: Repository | None = None
) -> int:
    """Run the stages below ``root`` that are not fresh and return the number of the release.

    Publishes into ``repository``, by default the one below ``root``. With ``promoting``, the next start of a
    server serves the release; objections of the gate are only logged and recorded.
    """
    out = Outputs(root)
    repository = repository or open_repository(out.repository)
    once, inputs = Ledger(root / "stages.json").once, _Inputs(settings, out)
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
        record = promote(repository, release, bars=settings.release, force=True)
        if "forced" in record:
            log.warning("promoted although", objections=record["forced"])
    log.info("build", release=release, fresh=[stage for stage, has_run in ran.items() if not has_run])
    return release


class _Inputs:
    """What the result of each stage depends on: its code, its settings, its input files.

    Ask for the inputs of a stage after the stages before it have run: they write its input files.
    """

    def __init__(self, settings: Settings, out: Outputs):
        self._settings, self._out, tree = settings, out, SourceTree()
        # At the start, with the code that this process has loaded: somebody may edit it while a stage runs.
        self._code = {stage: tree.digest(f"export_scripts.{stage}") for stage in STAGES}

    def etl(self) -> list[Part]:
        data = self._settings.data
        tables = (data.transactions, data.products) if data.transactions else complete_journey.tables()
        return [self._code["etl"], data, self._settings.etl, file_state(*tables)]

    def train(self) -> list[Part]:
        return [self._code["train"], *self._model(), self._fingerprint()]

    def evaluate(self) -> list[Part]:
        settings, checkpoint = self._settings.evaluate, self._out.checkpoint
        return [self._code["evaluate"], *self._model(), settings, self._fingerprint(), checkpoint]

    def export(self) -> list[Part]:
        out = self._out
        files = (out.data / meta.FILE, out.checkpoint, out.metrics)
        # The sampler's files with their comments: export records this digest, publish compares it.
        sampler = manifest.digest(sampler_code())
        return [self._code["export"], *self._model(), self._settings.evaluate, *files, sampler]

    def _model(self) -> list[Part]:
        settings = self._settings
        return [settings.splits, settings.sampler, settings.retrieval, settings.train]

    def _fingerprint(self) -> str:
        """The identity of the data: another run of etl may write the same data."""
        text = (self._out.data / meta.FILE).read_text(encoding="utf-8")
        stored: meta.StoredMeta = json.loads(text)
        return stored["fingerprint"]
