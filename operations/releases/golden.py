"""Does a server answer as a release must? The manifest's golden requests, and the canary request."""

import uuid
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from operations.errors import CestaError
from operations.records.contract import ENSEMBLE, SAMPLER, SCORER
from operations.records.golden_answers import (
    ACCELERATED_TOLERANCE,
    TOLERANCE,
    GoldenAnswer,
    Request,
    answer_of,
    difference,
)
from operations.releases.model_control import ModelControl


def check_golden(control: ModelControl, release: int, golden: Sequence[GoldenAnswer]) -> None:
    """Ask sampler and scorer of exactly this release, chained as the ensemble chains them.

    Raises CestaError naming the first request whose answer is not the manifest's. The ensemble is not asked:
    it serves another release meanwhile.
    """
    tolerance = ACCELERATED_TOLERANCE if control.config_name() else TOLERANCE
    scored_tensors = [tensor.name for tensor in control.config(SCORER).input]  # the sampler returns more
    for number, pair in enumerate(golden):
        _, sampled = control.ask(SAMPLER, request_tensors(pair.request), release)
        _, scored = control.ask(SCORER, {name: sampled[name] for name in scored_tensors}, release)
        if problem := difference(answer_of(scored), pair.answer, tolerance):
            raise CestaError(f"golden request {number} has another answer than in the manifest: {problem}")


def check_canary(control: ModelControl, release: int, front: str = ENSEMBLE) -> None:
    """Ask an ensemble a question that no cache holds. Raises CestaError unless this release answers."""
    question = Request(basket=(f"canary-{uuid.uuid4().hex}",))
    version, _ = control.ask(front, request_tensors(question))
    if version != release:
        raise CestaError(f"release {version} answers instead of {release}")


def request_tensors(request: Request) -> dict[str, NDArray[np.object_]]:
    """The request as (1, n) arrays of UTF-8 bytes by tensor name; an empty id is padding."""
    columns = {"basket": request.basket or ("",), "user_id": (request.user_id,)}
    return {name: np.array([[v.encode() for v in values]], object) for name, values in columns.items()}
