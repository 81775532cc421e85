"""Checkpoint → run folder: the scorer's graph, the sampler's arrays as of the last receipt, the manifest.

The weights are those that evaluate measured; counts, tower and histories are taken anew over all receipts, so
that the release knows the last weeks too.
"""

import copy
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort

from ensemble.candidate_sampler.arrays import SamplerArrays
from ensemble.candidate_sampler.query import Query
from ensemble.reference import Reference
from export_scripts.provenance import git_commit, made_with
from export_scripts.receipts.shop import Shop, load_shop
from export_scripts.scorer.checkpoint import load_checkpoint
from export_scripts.scorer.graph import build_graph, fold, save_graph
from export_scripts.scorer.tensorrt import check_on_tensorrt, require_tensorrt
from export_scripts.settings import Settings
from export_scripts.snapshots.snapshot import save_snapshot, snapshot
from operations.errors import CestaError
from operations.records import manifest
from operations.records.atomic import staged_folder
from operations.records.contract import (
    ENSEMBLE,
    GRAPH,
    MODEL_REPOSITORY,
    Contract,
    read_config,
    read_contract,
    tensors,
)
from operations.records.sampler_code import sampler_code

GOLDEN_REQUESTS = 8
TENSORRT_BATCHES = (1, 16, 64)  # the engine's least, best and largest


def export(
    settings: Settings, data: Path, checkpoint: Path, metrics: Path, run: Path, on_tensorrt: bool = False
) -> Path:
    """Write the run folder ``run`` whole or not at all: the graph, ``arrays/`` and ``manifest.json``.

    ``on_tensorrt`` has the graph answer there too, which the manifest then says.
    """
    if on_tensorrt:
        require_tensorrt(ort.get_available_providers())
    shop, contract = load_shop(data), read_contract()
    model, prior = load_checkpoint(checkpoint, shop, settings)
    measured = read_metrics(metrics, checkpoint)
    graph = build_graph(fold(model), shop.catalog["item_id"].tolist(), contract)
    arrays = snapshot(shop, shop.n_baskets, settings, prior)
    with staged_folder(run, marker=manifest.NAME) as folder:
        made = write_parts(graph, arrays, settings, contract, folder)
        if on_tensorrt:
            made["tensorrt"] = check_on_tensorrt(str(folder / GRAPH), _batches(shop, folder, contract))
        manifest.write(_manifest(settings, shop, contract, measured, folder) | made, folder)
    return run


def write_parts(
    graph: onnx.ModelProto, arrays: SamplerArrays, settings: Settings, contract: Contract, folder: Path
) -> dict[str, Any]:
    """Write the graph and ``arrays/`` into ``folder``; what the manifest says of them."""
    save_graph(graph, folder)
    (folder / "arrays").mkdir()
    nearest = save_snapshot(arrays, settings, contract, folder / "arrays")
    files = manifest.describe(folder.rglob("*"), folder)
    return {
        "nearest": {name: about._asdict() for name, about in nearest.items()},
        "sampler_code": manifest.digest(sampler_code()),  # what the golden answers are made with
        "digest": manifest.digest(files),
        "files": files,
    }


def read_metrics(metrics: Path, checkpoint: Path) -> dict[str, Any] | None:
    """What evaluate found, None if it was not run. Raises CestaError if it was run on another checkpoint."""
    if not metrics.exists():
        return None
    measured = manifest.read(metrics)
    if measured.get("checkpoint") != manifest.sha256(checkpoint):
        raise CestaError(
            f'{metrics} measures another checkpoint than {checkpoint}; run "cesta evaluate" first'
        )
    return measured


def _manifest(
    settings: Settings, shop: Shop, contract: Contract, measured: dict[str, Any] | None, folder: Path
) -> dict[str, Any]:
    front = read_config(MODEL_REPOSITORY / ENSEMBLE / "config.pbtxt")
    reference = Reference.load(folder)
    return {
        "data": {
            "fingerprint": shop.fingerprint,
            "first": shop.first,
            "last": shop.last,
            "baskets": shop.n_baskets,
            "users": shop.n_users - 1,
            "items": shop.n_items - 1,
            "category_columns": shop.category_columns,
        },
        "contract": vars(contract) | {"inputs": tensors(front.input), "outputs": tensors(front.output)},
        "metrics": measured,
        "golden": answers(reference, golden_requests(shop, contract)),
        # How the tables were read is what etl noted, which may have run with other settings than this stage.
        "settings": settings.model_dump(mode="json", exclude={"data", "etl"}) | shop.etl_settings,
        "git_commit": git_commit(),
        "made_with": made_with(),
    }


def _batches(shop: Shop, folder: Path, contract: Contract) -> list[dict[str, Any]]:
    """The scorer's inputs for the last baskets, in batches of TENSORRT_BATCHES."""
    reference = Reference.load(folder)
    requests = _last_baskets(shop, contract, max(TENSORRT_BATCHES))
    queries = [_query(reference, requests[i % len(requests)]) for i in range(max(TENSORRT_BATCHES))]
    batches = (queries[:size] for size in TENSORRT_BATCHES)
    return [copy.deepcopy(reference.inputs(batch, reference.sampler.sample(batch))) for batch in batches]


def golden_requests(shop: Shop, contract: Contract) -> list[dict[str, Any]]:
    """What a release must answer as its manifest says: the last baskets of the data, and an empty one."""
    return _last_baskets(shop, contract, GOLDEN_REQUESTS)


def _last_baskets(shop: Shop, contract: Contract, most: int) -> list[dict[str, Any]]:
    """Up to so many requests, the first an empty one."""
    requests: list[dict[str, Any]] = [{"basket": [], "user_id": ""}]
    for number in range(shop.n_baskets - 1, -1, -1):
        rows = shop.basket(number)
        if len(requests) == most:
            break
        if len(rows) <= contract.basket_slots:  # the sampler refuses longer ones
            user_id = shop.user_ids[shop.users[number]]
            requests.append({"basket": shop.catalog["item_id"].iloc[rows].tolist(), "user_id": user_id})
    return requests


def _query(reference: Reference, request: dict[str, Any]) -> Query:
    basket = [item_id.encode() for item_id in request["basket"]]
    return reference.vocabulary.query(basket=basket, user_id=request["user_id"].encode())


def answers(reference: Reference, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The golden requests with their answers."""
    return [{"request": request, "answer": _answer(reference, request)} for request in requests]


def _answer(reference: Reference, request: dict[str, Any]) -> dict[str, Any]:
    answer = reference.recommend([_query(reference, request)])
    return {
        "item_ids": answer.item_ids[0].tolist(),
        "scores": [round(float(s), 4) for s in answer.scores[0]],
        "reasons": answer.reasons[0].tolist(),
    }
