"""The inputs of each stage of a build: everything that its result depends on."""

from typing import Final

from export_scripts import complete_journey
from export_scripts.freshness.code import SourceTree
from export_scripts.freshness.ledger import Part
from export_scripts.receipts import meta
from export_scripts.receipts.reading.parts import parts_state
from export_scripts.settings import Settings
from operations.outputs import Outputs
from operations.records import file_record
from operations.records.sampler_code import sampler_code

STAGES: Final = ("etl", "train", "evaluate", "export")  # modules; publish decides for itself


class Inputs:
    """The inputs that the result of each stage depends on: its code, its settings, its input files.

    Ask for the inputs of a stage after the stages before it have run: they write its input files.
    """

    def __init__(self, settings: Settings, out: Outputs):
        self._settings, self._out, tree = settings, out, SourceTree()
        # At the start, with the code that this process has loaded: somebody may edit it while a stage runs.
        self._code = {stage: tree.digest(f"export_scripts.{stage}") for stage in STAGES}

    def etl(self) -> list[Part]:
        data = self._settings.data
        tables = (data.transactions, data.products) if data.transactions else complete_journey.tables()
        return [self._code["etl"], data, self._settings.etl, parts_state(*tables, data.stores)]

    def train(self) -> list[Part]:
        # A checkpoint that a warm training starts from is this stage's own earlier result, and no input.
        return [self._code["train"], *self._model(), self._fingerprint()]

    def evaluate(self) -> list[Part]:
        settings, checkpoint = self._settings.evaluate, self._out.checkpoint
        ranking = self._settings.ranking
        return [self._code["evaluate"], *self._model(), ranking, settings, self._fingerprint(), checkpoint]

    def export(self) -> list[Part]:
        out = self._out
        files = (out.data / meta.FILE, out.checkpoint, out.metrics)
        # The sampler's files with their comments: export records this digest, publish compares it.
        sampler = file_record.digest(sampler_code())
        return [
            self._code["export"],
            *self._model(),
            self._settings.ranking,
            self._settings.evaluate,
            self._settings.drift,
            *files,
            sampler,
        ]

    def _model(self) -> list[Part]:
        settings = self._settings
        return [settings.splits, settings.sampler, settings.stores, settings.retrieval, settings.train]

    def _fingerprint(self) -> str:
        """The identity of the data: another run of etl may write the same data."""
        return meta.read_meta(self._out.data)["fingerprint"]
