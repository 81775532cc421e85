"""Golden requests of a manifest, and the canary: does a server answer as a release must?"""

import uuid
from typing import Any

import numpy as np

from export_scripts.contract import ENSEMBLE, SAMPLER, SCORER
from export_scripts.errors import CestaError
from export_scripts.releases.model_control import ModelControl

TOLERANCE = 2e-4  # manifests hold four decimals; the order of a sum may differ between backends
# A GPU multiplies with 11 significant bits (TF32), which changed the scores of 1,024 queries by up to 0.006.
ACCELERATED_TOLERANCE = 0.02

Answer = dict[str, Any]  # item_ids, scores, reasons; K each


def check_golden(control: ModelControl, release: int, golden: list[dict[str, Any]]) -> None:
    """Ask sampler and scorer of exactly this release, chained as the ensemble chains them.

    Raises CestaError naming the first request whose answer is not the manifest's. The ensemble is not asked:
    it serves another release meanwhile.
    """
    tolerance = ACCELERATED_TOLERANCE if control.config_name() else TOLERANCE
    for number, pair in enumerate(golden):
        _, sampled = control.ask(SAMPLER, request_tensors(pair["request"]), release)
        _, scored = control.ask(SCORER, sampled, release)
        if problem := difference(answer_of(scored), pair["answer"], tolerance):
            raise CestaError(f"golden request {number} is answered otherwise than in the manifest: {problem}")


def check_canary(control: ModelControl, release: int, front: str = ENSEMBLE) -> None:
    """Ask an ensemble what no cache can answer. Raises CestaError unless this release answers."""
    version, _ = control.ask(front, request_tensors({"basket": [f"canary-{uuid.uuid4().hex}"]}))
    if version != release:
        raise CestaError(f"release {version} answers instead of {release}")


def request_tensors(request: dict[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """One request of a manifest as (1, n) of UTF-8 bytes each; an empty id is padding."""
    columns = {"basket": request["basket"] or [""], "user_id": [request.get("user_id", "")]}
    return {name: np.array([[v.encode() for v in values]], object) for name, values in columns.items()}


def answer_of(tensors: dict[str, Any]) -> Answer:
    """The first row of an answer's tensors, as a manifest holds it."""
    ids = [item_id.decode() for item_id in tensors["item_ids"][0]]
    return {
        "item_ids": ids,
        "scores": tensors["scores"][0].tolist(),
        "reasons": tensors["reasons"][0].tolist(),
    }


def difference(got: Answer, want: Answer, tolerance: float = TOLERANCE) -> str | None:
    """Where two answers differ beyond rounding, None if nowhere. Items of equal score may change places."""
    wanted = dict(zip(want["item_ids"], zip(want["scores"], want["reasons"], strict=True), strict=True))
    last = want["scores"][-1]
    for place, (item, score, reasons) in enumerate(zip(*got.values(), strict=True)):
        if abs(score - want["scores"][place]) > tolerance:
            return f"score {place} is {score:.4f} instead of {want['scores'][place]:.4f}"
        expected, why = wanted.get(item, (last, reasons))
        if abs(expected - score) > tolerance:
            return f"place {place} has {item} instead of {want['item_ids'][place]}"
        if why != reasons:
            return f"the reasons of {item} are {reasons} instead of {why}"
    return None
