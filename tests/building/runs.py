"""Runs to publish, made without training: scorers with random weights, for the real or the toy sampler."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from ensemble.candidate_sampler.features import FEATURES
from export_scripts.scorer.graph import FoldedNCF, build_graph
from operations.records import file_record, manifest
from operations.records.contract import MORE_PARTS, Contract, read_contract
from operations.records.golden_answers import Answer
from operations.records.manifest import ContractRecord, RunManifest
from operations.records.part_code import part_codes
from operations.records.sampler_code import sampler_code
from tests.building.toy_sampler.model import propose

ITEMS = 200
GOLDEN = ([], ["i1"], ["i2", "i3"])


def make_run(folder: Path, seed: int = 0, **changes: Any) -> Path:
    """A run of a three-item shop, with an array that differs by `seed`; `changes` go into its manifest."""
    (folder / "arrays").mkdir(parents=True)
    graph = build_graph(_scorer(0, 3, len(FEATURES)), ["", "a", "b"], read_contract())
    (folder / "model.onnx").write_bytes(graph.SerializeToString(deterministic=True))
    np.save(folder / "arrays" / "clock.now.npy", np.array(seed))
    files = file_record.describe(folder.rglob("*"), folder)
    described = {
        "contract": vars(read_contract()),
        "sampler_code": file_record.digest(sampler_code()),
        "part_code": part_codes(MORE_PARTS),
        "digest": file_record.digest(files),
        "files": files,
        "golden": [],
    }
    manifest.write(RunManifest.model_validate(described | changes), folder)
    return folder


def toy_run(folder: Path, seed: int, sizes: Contract | None = None, **changes: Any) -> Path:
    """A run that Triton can serve; another `seed` gives other answers. `changes` go into its manifest.

    Its sampler is `sampler_code.SAMPLER_CODE`, which a test replaces by a toy. `sizes` are by default those
    of config.pbtxt.
    """
    contract = sizes or read_contract()
    (folder / "arrays").mkdir(parents=True)
    ids = ["", *(f"i{row}" for row in range(1, ITEMS + 1))]
    graph = build_graph(_scorer(seed, ITEMS + 1, contract.features), ids, contract)
    (folder / "model.onnx").write_bytes(graph.SerializeToString(deterministic=True))
    sizes = [seed, ITEMS, contract.basket_slots, contract.candidates, contract.features]
    np.save(folder / "arrays" / "sizes.npy", np.array(sizes))
    files = file_record.describe(folder.rglob("*"), folder)
    requests = [{"basket": basket, "user_id": ""} for basket in GOLDEN]
    described = {
        "data": {"fingerprint": f"toy {seed}", "first": "2024-01-01", "last": "2024-07-18"},
        "contract": without_parts(ContractRecord.of(contract)),
        "metrics": None,
        "golden": [{"request": r, "answer": toy_answer(folder, r["basket"])} for r in requests],
        "settings": {"train": {"seed": seed}},
        "git_commit": None,
        "made_with": {},
        "sampler_code": file_record.digest(sampler_code()),
        "digest": file_record.digest(files),
        "files": files,
    }
    manifest.write(RunManifest.model_validate(described | changes), folder)
    return folder


def without_parts(contract: ContractRecord) -> ContractRecord:
    """The contract of a release with nothing but sampler and scorer: toys have arrays for these alone."""
    return contract.model_copy(update={"parts": {}, "ensembles": {}})


def toy_answer(run: Path, basket: Sequence[str]) -> Answer:
    """The answer that the run's release must give, as the manifest holds it."""
    sampled = propose(np.load(run / "arrays" / "sizes.npy"), [[item.encode() for item in basket]])
    session = ort.InferenceSession(str(run / "model.onnx"), providers=["CPUExecutionProvider"])
    ids, scores, reasons = session.run(["item_ids", "scores", "reasons"], sampled)
    return Answer(
        item_ids=tuple(ids[0].tolist()),
        scores=tuple(round(float(score), 4) for score in scores[0]),
        reasons=tuple(reasons[0].tolist()),
    )


def _scorer(seed: int, items: int, features: int) -> FoldedNCF:
    """Random tables of two users and the items."""
    rng = np.random.default_rng(seed)

    def table(*shape: int) -> NDArray[np.float32]:
        return rng.standard_normal(shape, dtype=np.float32)

    def basket(width: int) -> NDArray[np.float32]:
        rows = table(items, width)
        rows[0] = 0
        return rows

    return FoldedNCF(
        user_gmf=table(2, 2),
        user_mlp=table(2, 4),
        basket_gmf=basket(2),
        basket_mlp=basket(4),
        item_gmf=table(items, 2),
        item_mlp=table(items, 4),
        item_bias=table(items, 1),
        features=table(features, 4),
        wide=table(features, 1),
        hidden=[],
        out=table(4, 1),
    )
