"""The manifest: the record of a run or a release, and the check that its files are as it says.

A run's manifest is a RunManifest, a release's a ReleaseManifest: publishing makes the second from the first.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final, Literal

from pydantic import JsonValue, ValidationError, field_validator

from operations.errors import CestaError
from operations.records.comparison import Comparison, Metric
from operations.records.contract import (
    ENSEMBLE,
    MODEL_REPOSITORY,
    MORE_ENSEMBLES,
    MORE_PARTS,
    SAMPLER,
    Contract,
    read_config,
    tensors,
)
from operations.records.drift_record import DriftRecord
from operations.records.file_record import Files, describe
from operations.records.golden_answers import GoldenAnswer
from operations.records.json_record import JsonRecord, first_problem
from operations.records.part_answers import PartAnswer

NAME: Final = "manifest.json"

Group = Literal["known", "unknown", "repeat", "explore"]  # of test queries
GROUPS: Final[tuple[Group, ...]] = ("known", "unknown", "repeat", "explore")
COMPARISON: Final = "against"  # key of metrics.json

JsonObject = Mapping[str, JsonValue]


class DataRecord(JsonRecord, frozen=True):
    """The receipts that a run was made from."""

    fingerprint: str | None = None
    first: str | None = None  # moments of the first and the last receipt
    last: str | None = None
    baskets: int | None = None
    users: int | None = None
    items: int | None = None
    category_columns: tuple[str, ...] | None = None
    baskets_by_day: str | None = None  # from the day of ``first`` on, blanks between


TensorRecords = Mapping[str, tuple[str, tuple[int, ...]]]  # name → type, dims


class ModelRecord(JsonRecord, frozen=True):
    """The tensors of one model."""

    inputs: TensorRecords
    outputs: TensorRecords

    @classmethod
    def of(cls, model: str) -> "ModelRecord":
        """The tensors of the checkout's config.pbtxt of a model."""
        config = read_config(MODEL_REPOSITORY / model / "config.pbtxt")
        return cls.model_validate({"inputs": tensors(config.input), "outputs": tensors(config.output)})


class ContractRecord(JsonRecord, frozen=True):
    """The sizes (see ``contract.Contract``) and the tensors that a run was exported for.

    Older manifests lack some keys; ``releases.contracts.ServedContract`` fills them in.
    """

    basket_slots: int | None = None
    candidates: int | None = None
    features: int | None = None
    answers: int | None = None
    inputs: TensorRecords | None = None  # of the ensemble
    outputs: TensorRecords | None = None
    sampler_outputs: TensorRecords | None = None  # those that are not the ensemble's go to the scorer
    parts: Mapping[str, ModelRecord] | None = None  # those of MORE_PARTS that the release has
    ensembles: Mapping[str, ModelRecord] | None = None  # those of MORE_ENSEMBLES

    @classmethod
    def of(cls, contract: Contract) -> "ContractRecord":
        """A contract, with the tensors of the checkout's config.pbtxt files."""
        front, sampler = (read_config(MODEL_REPOSITORY / m / "config.pbtxt") for m in (ENSEMBLE, SAMPLER))
        sides = {
            "inputs": tensors(front.input),
            "outputs": tensors(front.output),
            "sampler_outputs": tensors(sampler.output),
            "parts": {part: ModelRecord.of(part) for part in MORE_PARTS},
            "ensembles": {ensemble: ModelRecord.of(ensemble) for ensemble in MORE_ENSEMBLES},
        }
        return cls.model_validate(vars(contract) | sides)


class Measured(JsonRecord, frozen=True):
    """The metrics that evaluate measured over ``n`` test queries of one group; None: not measured.

    The metrics are the hit rate (HR@10), the normalized discounted cumulative gain (NDCG@10) and the mean
    reciprocal rank (MRR).
    """

    n: int = 0
    hr_at_10: float | None = None
    ndcg_at_10: float | None = None
    mrr: float | None = None
    interval: Mapping[str, tuple[float, float]] | None = None  # metric → bounds of its 95 % interval

    def value(self, metric: Metric) -> float | None:
        """The mean over the queries."""
        values = {"hr_at_10": self.hr_at_10, "ndcg_at_10": self.ndcg_at_10, "mrr": self.mrr}
        return values[metric]

    def bounds(self, metric: Metric) -> tuple[float, float] | None:
        """The 95 % interval of the mean."""
        return (self.interval or {}).get(metric)


class RunManifest(JsonRecord, frozen=True):
    """The record of a run. ``files`` lie below the run's folder.

    ``digest`` is that of the files, ``sampler_code`` that of the modules which made the golden answers.
    """

    WAY_OUT: ClassVar = 'run "cesta export" again'

    data: DataRecord | None = None
    contract: ContractRecord
    metrics: JsonObject | None = None  # metrics.json as evaluate wrote it; None: not evaluated
    golden: tuple[GoldenAnswer, ...]
    settings: JsonObject | None = None  # tables of pipeline.toml
    git_commit: str | None = None
    made_with: JsonObject | None = None  # versions of Python and libraries
    nearest: Mapping[str, JsonObject] | None = None  # index → its size and recall
    sampler_code: str | None = None
    part_code: Mapping[str, str] | None = None  # the same of each further part
    part_golden: Mapping[str, tuple[PartAnswer, ...]] | None = None  # the questions that it must answer alike
    digest: str
    files: Files
    explore: float | None = None  # log odds added to items new to their customer; None: not kept then
    drift: DriftRecord | None = None  # what its receipts looked like; None: made before that was kept
    tensorrt: JsonObject | None = None  # how its answers compared; None: not asked

    @field_validator("metrics")
    @classmethod
    def _check_metrics(cls, metrics: JsonObject | None) -> JsonObject | None:
        for group in GROUPS:
            try:
                _measured(metrics, group)
            except ValidationError as error:
                raise ValueError(f"in {group}, {first_problem(error)}") from None
        try:
            _comparison(metrics)
        except ValidationError as error:
            raise ValueError(f"in {COMPARISON}, {first_problem(error)}") from None
        return metrics

    def measured(self, group: Group) -> Measured:
        """The metrics of one group of test queries."""
        return _measured(self.metrics, group)

    def comparison(self) -> Comparison | None:
        """What both found on the same questions, if evaluate compared with the active release."""
        return _comparison(self.metrics)

    def published(self, release: int, created_at: str, files: Files) -> "ReleaseManifest":
        """The manifest of the release that this run becomes, whose ``files`` lie below a repository."""
        made = {"release": release, "created_at": created_at}
        return ReleaseManifest.model_validate(made | self.json_object() | {"files": files})


class _Numbered(JsonRecord, frozen=True):
    """The keys that only a release has."""

    release: int
    created_at: str | None = None


class ReleaseManifest(RunManifest, _Numbered, frozen=True):  # this order puts _Numbered's keys first
    """The record of a release. ``files`` lie below the repository."""

    WAY_OUT: ClassVar = 'run "cesta publish" again'


def _measured(metrics: JsonObject | None, group: Group) -> Measured:
    return Measured.model_validate((metrics or {}).get(group) or {})


def _comparison(metrics: JsonObject | None) -> Comparison | None:
    compared = (metrics or {}).get(COMPARISON)
    return Comparison.model_validate(compared) if compared else None


def write(manifest: RunManifest, folder: Path) -> None:
    """Write ``manifest.json`` into ``folder``."""
    (folder / NAME).write_text(manifest.json_text(), encoding="utf-8")


def verify_run(run: Path) -> RunManifest:
    """The manifest of a run folder whose files are as it says. Raises CestaError if one is not."""
    if not (run / NAME).exists():
        raise CestaError(f'no run in {run} ({NAME} is missing); run "cesta export" first')
    manifest = RunManifest.read(run / NAME)
    files = set(run.rglob("*")) - {run / NAME}
    check_files(manifest.files, describe(files, run), folder=str(run), way_out=manifest.WAY_OUT)
    return manifest


def check_files(listed: Files, present: Files, *, folder: str, way_out: str) -> None:
    """Raise CestaError naming the first file of ``folder`` that is missing, altered or not listed."""
    for name, expected in listed.items():
        if name not in present:
            raise CestaError(f"{folder}/{name} is missing; {way_out}")
        file = present[name]
        if (file.sha256, file.bytes) != (expected.sha256, expected.bytes):
            raise CestaError(
                f"{folder}/{name} is not what the manifest lists ({file.bytes} bytes, SHA-256 "
                f"{file.sha256[:12]}…; listed {expected.bytes} and {expected.sha256[:12]}…); {way_out}"
            )
    if strangers := sorted(set(present) - set(listed)):
        raise CestaError(f"{folder}/{strangers[0]} is not in the manifest; remove it")
