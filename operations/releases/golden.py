"""Golden requests of a manifest, and the canary: does a server answer as a release must?"""

import uuid
from typing import Any

import numpy as np

from operations.errors import CestaError
from operations.records.contract import ENSEMBLE, SAMPLER, SCORER
from operations.records.golden_answers import ACCELERATED_TOLERANCE, TOLERANCE, answer_of, difference
from operations.releases.model_control import ModelControl


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
