"""Runs to publish, made at once: the toy sampler, and a scorer with random weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch

from ensemble.candidate_sampler.features import FEATURES
from export_scripts.scorer.graph import build_graph, fold
from export_scripts.scorer.ncf import NCF, NCFShape
from operations.records import manifest
from operations.records.contract import ENSEMBLE, MODEL_REPOSITORY, read_config, read_contract, tensors
from tests.toy_sampler.model import propose

TOY_SAMPLER = Path(__file__).parent / "toy_sampler"  # to be published in place of the real one
ITEMS = 200
GOLDEN = ([], ["i1"], ["i2", "i3"])
Answer = dict[str, Any]


def toy_run(folder: Path, seed: int, **changes: Any) -> Path:
    """A run that Triton can serve; another `seed` answers otherwise. `changes` go into its manifest."""
    contract = read_contract()
    (folder / "arrays").mkdir(parents=True)
    ids = ["", *(f"i{row}" for row in range(1, ITEMS + 1))]
    graph = build_graph(fold(_scorer(seed)), ids, contract)
    (folder / "model.onnx").write_bytes(graph.SerializeToString(deterministic=True))
    sizes = [seed, ITEMS, contract.basket_slots, contract.candidates, contract.features]
    np.save(folder / "arrays" / "sizes.npy", np.array(sizes))
    front = read_config(MODEL_REPOSITORY / ENSEMBLE / "config.pbtxt")
    files = manifest.describe(folder.rglob("*"), folder)
    requests = [{"basket": basket, "user_id": ""} for basket in GOLDEN]
    described = {
        "data": {"fingerprint": f"toy {seed}", "first": "2024-01-01", "last": "2024-07-18"},
        "contract": vars(contract) | {"inputs": tensors(front.input), "outputs": tensors(front.output)},
        "metrics": None,
        "golden": [{"request": r, "answer": toy_answer(folder, r["basket"])} for r in requests],
        "settings": {"train": {"seed": seed}},
        "git_commit": None,
        "made_with": {},
        "sampler_code": manifest.digest(manifest.describe(TOY_SAMPLER.glob("*.py"), TOY_SAMPLER)),
        "digest": manifest.digest(files),
        "files": files,
    }
    manifest.write(described | changes, folder)
    return folder


def toy_answer(run: Path, basket: Sequence[str]) -> Answer:
    """What the run's release must answer; as the manifest holds it."""
    sampled = propose(np.load(run / "arrays" / "sizes.npy"), [[item.encode() for item in basket]])
    session = ort.InferenceSession(str(run / "model.onnx"), providers=["CPUExecutionProvider"])
    ids, scores, reasons = session.run(["item_ids", "scores", "reasons"], sampled)
    return {
        "item_ids": ids[0].tolist(),
        "scores": [round(float(score), 4) for score in scores[0]],
        "reasons": reasons[0].tolist(),
    }


def _scorer(seed: int) -> NCF:
    torch.manual_seed(seed)
    model = NCF(NCFShape(2, ITEMS + 1, len(FEATURES), gmf=2, mlp=2, hidden=(4,)))
    with torch.no_grad():
        for weights in model.parameters():
            weights.normal_()
    return model.eval()
