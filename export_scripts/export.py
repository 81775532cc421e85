"""Checkpoint → run folder: the scorer's graph, the sampler's arrays as of the last receipt, the manifest.

The weights are those that evaluate measured. Counts and histories are made anew from all receipts, and the
tower is trained on to the last receipt, so that the release knows the last weeks, too.
"""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import onnxruntime as ort
from numpy.typing import NDArray
from pydantic import JsonValue

from ensemble.candidate_sampler.arrays import SamplerArrays
from ensemble.candidate_sampler.nearest import About
from ensemble.candidate_sampler.query import Query
from ensemble.reference import Reference
from export_scripts.drift.record import make_record
from export_scripts.durations import stage, step
from export_scripts.engines.engine import open_engine
from export_scripts.lists.golden import golden_lists
from export_scripts.lists.words import save_words
from export_scripts.provenance import made_with
from export_scripts.quality.against.receipts_compared import baskets_by_day
from export_scripts.receipts.shop import Shop, load_shop
from export_scripts.scorer.checkpoint import load_checkpoint, load_chosen_explore, load_tower
from export_scripts.scorer.explore import explore_of
from export_scripts.scorer.fold import fold
from export_scripts.scorer.graph import write_graph
from export_scripts.scorer.tensorrt import check_on_tensorrt, require_tensorrt
from export_scripts.settings import Settings
from export_scripts.snapshots import partials
from export_scripts.snapshots.partials import PartialCounts
from export_scripts.snapshots.retrieval.ranks import continue_in_parallel
from export_scripts.snapshots.snapshot import save_snapshot, snapshot
from operations.errors import CestaError
from operations.records import file_record, manifest
from operations.records.atomic import staged_folder
from operations.records.contract import GRAPH, ITEM_LISTS, MORE_PARTS, TABLES, Contract, read_contract
from operations.records.file_record import FileRecord
from operations.records.golden_answers import Answer, GoldenAnswer, Request
from operations.records.json_record import read_json
from operations.records.manifest import ContractRecord, DataRecord, RunManifest
from operations.records.part_code import part_codes
from operations.records.sampler_code import sampler_code
from operations.shipped.commit import find_commit

GOLDEN_REQUESTS = 8
NAMES = (GRAPH, TABLES, "arrays", manifest.NAME)  # in a run folder
TENSORRT_BATCHES = (1, 16, 64)  # the engine's least, best and largest


@stage("export")
def export(
    settings: Settings, data: Path, checkpoint: Path, metrics: Path, run: Path, on_tensorrt: bool = False
) -> Path:
    """Write the run folder ``run`` whole or not at all: the graph, ``arrays/`` and ``manifest.json``.

    ``on_tensorrt`` has the graph answer on TensorRT, too, and notes the comparison in the manifest.
    """
    if on_tensorrt:
        require_tensorrt(ort.get_available_providers())
    shop, contract = load_shop(data), read_contract()
    model, prior = load_checkpoint(checkpoint, shop, settings)
    explore = explore_of(settings.ranking.explore, load_chosen_explore(checkpoint))
    measured = read_metrics(metrics, checkpoint, explore)
    with open_engine(settings.engine) as engine:
        counted = PartialCounts(shop, settings.sampler, checkpoint.parent / partials.FOLDER, engine)
        tower = continue_in_parallel(load_tower(checkpoint), shop, shop.n_baskets, settings, engine)
        arrays = snapshot(shop, shop.n_baskets, settings, prior, partials=counted, tower=tower)
    with staged_folder(run, marker=manifest.NAME, names=NAMES) as folder:
        write_graph(fold(model), shop.catalog["item_id"].tolist(), contract, folder)
        (folder / "arrays").mkdir()
        save_words(shop.catalog["name"].tolist(), folder / "arrays")
        parts = write_parts(arrays, settings, contract, folder)
        compared: dict[str, JsonValue] = {}
        if on_tensorrt:
            compared["tensorrt"] = check_on_tensorrt(str(folder / GRAPH), _batches(shop, folder, contract))
        described = describe_run(settings, shop, contract, measured, parts, folder)
        manifest.write(described.model_copy(update={"explore": explore} | compared), folder)
    return run


class Parts(NamedTuple):
    """The files of a run, and the sizes and recalls of the indexes among them."""

    files: dict[str, FileRecord]
    nearest: dict[str, About]

    @property
    def record(self) -> dict[str, Any]:  # values of several types
        """The manifest's keys about the files."""
        return {
            "nearest": {name: about._asdict() for name, about in self.nearest.items()},
            "sampler_code": file_record.digest(sampler_code()),  # the code that makes the golden answers
            "part_code": part_codes(MORE_PARTS),  # likewise
            "digest": file_record.digest(self.files),
            "files": self.files,
        }


@step("files")
def write_parts(arrays: SamplerArrays, settings: Settings, contract: Contract, folder: Path) -> Parts:
    """Write ``arrays/`` into ``folder``, where the graph is."""
    (folder / "arrays").mkdir(exist_ok=True)
    nearest = save_snapshot(arrays, settings, contract, folder / "arrays")
    return Parts(file_record.describe(folder.rglob("*"), folder), nearest)


def read_metrics(metrics: Path, checkpoint: Path, explore: float) -> dict[str, JsonValue] | None:
    """Read evaluate's metrics, None if there are none.

    Raises CestaError if they are those of another checkpoint, or of another value than ``explore``.
    """
    if not metrics.exists():
        return None
    measured = read_json(metrics, 'run "cesta evaluate" again')
    if measured.get("checkpoint") != file_record.sha256(checkpoint):
        raise CestaError(
            f'{metrics} measures another checkpoint than {checkpoint}; run "cesta evaluate" first'
        )
    match measured.get("frontier"):
        case {"explore": float(value)} if value != explore:
            raise CestaError(
                f"{metrics} measures ranking.explore = {value:g}, and this release would have {explore:g}; "
                'run "cesta evaluate" first'
            )
    return measured


def describe_run(
    settings: Settings,
    shop: Shop,
    contract: Contract,
    measured: dict[str, JsonValue] | None,
    parts: Parts,
    folder: Path,
) -> RunManifest:
    """The manifest of the run in ``folder``, with the golden answers that its graph and arrays give."""
    reference = Reference.load(folder)
    return RunManifest(
        data=DataRecord(
            fingerprint=shop.fingerprint,
            first=shop.first,
            last=shop.last,
            baskets=shop.n_baskets,
            users=shop.n_users - 1,
            items=shop.n_items - 1,
            category_columns=tuple(shop.category_columns),
            baskets_by_day=_by_day(shop),
        ),
        contract=ContractRecord.of(contract),
        metrics=measured,
        golden=tuple(answers(reference, golden_requests(shop, contract))),
        part_golden={ITEM_LISTS: golden_lists(folder / "arrays")},
        # etl noted how the tables were read: it may have run with other settings than this stage.
        settings=settings.model_dump(mode="json", exclude={"data", "etl"}) | shop.etl_settings,
        git_commit=find_commit(),
        made_with=made_with(),
        drift=make_record(shop, reference, settings.drift),
        **parts.record,
    )


def _by_day(shop: Shop) -> str | None:
    counts = baskets_by_day(shop)
    return None if counts is None else " ".join(map(str, counts.tolist()))


def _batches(
    shop: Shop, folder: Path, contract: Contract
) -> list[Mapping[str, NDArray[Any]]]:  # int32 and float32
    """The scorer's inputs for the last baskets, in batches of TENSORRT_BATCHES."""
    reference = Reference.load(folder)
    requests = _last_baskets(shop, contract, max(TENSORRT_BATCHES))
    queries = [_query(reference, requests[i % len(requests)]) for i in range(max(TENSORRT_BATCHES))]
    batches = (queries[:size] for size in TENSORRT_BATCHES)
    return [copy.deepcopy(reference.inputs(batch, reference.sampler.sample(batch))) for batch in batches]


def golden_requests(shop: Shop, contract: Contract) -> list[Request]:
    """The requests whose answers the manifest holds: the last baskets of the data, and an empty one."""
    return _last_baskets(shop, contract, GOLDEN_REQUESTS)


def _last_baskets(shop: Shop, contract: Contract, most: int) -> list[Request]:
    """At most ``most`` requests, the first an empty one."""
    requests = [Request(basket=(), user_id="")]
    for number in range(shop.n_baskets - 1, -1, -1):
        rows = shop.basket(number)
        if len(requests) == most:
            break
        if len(rows) <= contract.basket_slots:  # the sampler refuses longer ones
            basket = shop.catalog["item_id"].iloc[rows].tolist()
            requests.append(Request(basket=tuple(basket), user_id=shop.user_ids[shop.users[number]]))
    return requests


def _query(reference: Reference, request: Request) -> Query:
    basket = [item_id.encode() for item_id in request.basket]
    return reference.vocabulary.query(basket=basket, user_id=request.user_id.encode())


def answers(reference: Reference, requests: Sequence[Request]) -> list[GoldenAnswer]:
    """The requests with their answers."""
    return [GoldenAnswer(request=request, answer=_answer(reference, request)) for request in requests]


def _answer(reference: Reference, request: Request) -> Answer:
    answer = reference.recommend([_query(reference, request)])
    return Answer(
        item_ids=tuple(answer.item_ids[0].tolist()),
        scores=tuple(round(float(score), 4) for score in answer.scores[0]),
        reasons=tuple(answer.reasons[0].tolist()),
    )
