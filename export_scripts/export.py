"""Checkpoint → run folder: the scorer's graph, the sampler's arrays as of the last receipt, the manifest.

The weights are those that evaluate measured; counts, tower and histories are taken anew over all receipts, so
that the release knows the last weeks too.
"""

import json
from pathlib import Path
from typing import Any

from ensemble.candidate_sampler.query import Query
from ensemble.reference import Reference
from export_scripts import manifest
from export_scripts.atomic import staged_folder
from export_scripts.contract import Contract, read_contract
from export_scripts.graph import build_graph, fold
from export_scripts.ncf import load_checkpoint
from export_scripts.settings import Settings
from export_scripts.shop import Shop, load_shop
from export_scripts.snapshot import save_snapshot, snapshot

GOLDEN_REQUESTS = 8


def export(settings: Settings, data: Path, checkpoint: Path, metrics: Path, run: Path) -> Path:
    """Write the run folder ``run`` whole or not at all: ``model.onnx``, ``arrays/`` and ``manifest.json``."""
    shop, contract = load_shop(data), read_contract()
    model, prior = load_checkpoint(checkpoint)
    graph = build_graph(fold(model), shop.catalog["item_id"].tolist(), contract)
    with staged_folder(run, marker=manifest.NAME) as folder:
        (folder / "model.onnx").write_bytes(graph.SerializeToString(deterministic=True))
        (folder / "arrays").mkdir()
        save_snapshot(snapshot(shop, shop.n_baskets, settings, prior), settings, contract, folder / "arrays")
        manifest.write(_manifest(settings, shop, contract, metrics, folder), folder)
    return run


def _manifest(settings: Settings, shop: Shop, contract: Contract, metrics: Path, folder: Path) -> dict[str, Any]:
    files = manifest.describe_files(folder)
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
        "contract": vars(contract),
        "metrics": json.loads(metrics.read_text()) if metrics.exists() else None,
        "golden": golden(shop, Reference.load(folder)),
        # Paths of the machine that trained are nobody's business.
        "settings": settings.model_dump(mode="json", exclude={"data": {"transactions", "products"}}),
        "git_commit": manifest.git_commit(),
        "made_with": manifest.made_with(),
        "digest": manifest.digest(files),
        "files": files,
    }


def golden(shop: Shop, reference: Reference) -> list[dict[str, Any]]:
    """Requests with the answers the release must give: the last baskets of the data, and an empty one."""
    requests: list[dict[str, Any]] = [{"basket": [], "user_id": ""}]
    for number in range(shop.n_baskets - 1, max(-1, shop.n_baskets - GOLDEN_REQUESTS), -1):
        requests.append(
            {
                "basket": shop.catalog["item_id"].iloc[shop.basket(number)].tolist(),
                "user_id": shop.user_ids[shop.users[number]],
            }
        )
    return [{"request": request, "answer": _answer(reference, request)} for request in requests]


def _answer(reference: Reference, request: dict[str, Any]) -> dict[str, Any]:
    query: Query = reference.vocabulary.query(
        basket=[i.encode() for i in request["basket"]], user_id=request["user_id"].encode()
    )
    answer = reference.recommend([query])
    return {
        "item_ids": answer.item_ids[0].tolist(),
        "scores": [round(float(s), 4) for s in answer.scores[0]],
        "reasons": answer.reasons[0].tolist(),
    }
