"""Does a server answer as a release must? The manifest's golden requests, and the canary request."""

import uuid
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from operations.errors import CestaError
from operations.records.contract import ENSEMBLE, SAMPLER, SCORER
from operations.records.golden_answers import (
    ACCELERATED_TOLERANCE,
    TOLERANCE,
    Request,
    answer_of,
    difference,
)
from operations.records.manifest import ReleaseManifest
from operations.releases.model_control import ModelControl
from operations.releases.models.contracts import ServedContract
from operations.releases.models.placing import models_of

# Without live tables: what is out of stock today is not what the release was recorded with.
AS_RELEASED: Final = {"live": np.array([[b"-"]], object)}


def check_golden(control: ModelControl, release: ReleaseManifest) -> None:
    """Ask sampler and scorer of exactly this release, chained as the ensemble chains them.

    Raises CestaError naming the first request whose answer is not the manifest's. The ensemble is not asked:
    it serves another release meanwhile.
    """
    tolerance = ACCELERATED_TOLERANCE if control.config_name() else TOLERANCE
    _check_parts(control, release)
    contract = ServedContract.of(release.contract)
    models, handed_over = models_of(release), contract.tensors[SCORER].inputs
    as_released = AS_RELEASED if "live" in contract.tensors[SAMPLER].inputs else {}
    for number, pair in enumerate(release.golden):
        _, sampled = control.ask(
            models[SAMPLER], request_tensors(pair.request) | as_released, release.release
        )
        asked = {name: sampled[name] for name in handed_over}
        _, scored = control.ask(models[SCORER], asked, release.release)
        if problem := difference(answer_of(scored), pair.answer, tolerance):
            raise CestaError(f"golden request {number} has another answer than in the manifest: {problem}")


def _check_parts(control: ModelControl, release: ReleaseManifest) -> None:
    """Ask the further parts of a release."""
    for part, pairs in (release.part_golden or {}).items():
        model, tensors = models_of(release)[part], ServedContract.of(release.contract).tensors[part]
        for number, pair in enumerate(pairs):
            asked = {name: _row(tensors.inputs[name][0], values) for name, values in pair.inputs.items()}
            asked |= AS_RELEASED if "live" in tensors.inputs else {}
            _, answered = control.ask(model, asked, release.release)
            if problem := difference(answer_of(answered), pair.answer):
                raise CestaError(
                    f"golden request {number} to {part} has another answer than in the manifest: {problem}"
                )


def _row(kind: str, values: Sequence[str | int | float]) -> NDArray[Any]:  # as the tensor's type says
    """(1, n) the values of one input tensor."""
    if kind == "STRING":
        return np.array([[str(value).encode() for value in values]], object)
    return np.array([values], np.int32 if kind == "INT32" else np.float32)


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
