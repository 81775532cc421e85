"""Golden requests with their answers, as a manifest holds them, and the comparison of two answers."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from operations.records.json_record import JsonRecord

TOLERANCE = 2e-4  # manifests hold four decimals; the order of a sum may differ between backends
# A GPU multiplies with 11 significant bits (TF32), which changed the scores of 1,024 queries by up to 0.006.
ACCELERATED_TOLERANCE = 0.02

Tensors = Mapping[str, NDArray[Any]]  # of several types: bytes, float32, int32


class Request(JsonRecord, frozen=True):
    """A question to the ensemble, which has one answer as long as the release is the same."""

    basket: tuple[str, ...]
    user_id: str = ""


class Answer(JsonRecord, frozen=True):
    """Items best first, with their scores and the bits of their reasons; K each."""

    item_ids: tuple[str, ...]
    scores: tuple[float, ...]
    reasons: tuple[int, ...]


class GoldenAnswer(JsonRecord, frozen=True):
    """A request, and the answer that a release must give."""

    request: Request
    answer: Answer


def answer_of(tensors: Tensors) -> Answer:
    """The first row of an answer's tensors."""
    return Answer(
        item_ids=tuple(item_id.decode() for item_id in tensors["item_ids"][0]),
        scores=tuple(tensors["scores"][0].tolist()),
        reasons=tuple(tensors["reasons"][0].tolist()),
    )


def difference(got: Answer, want: Answer, tolerance: float = TOLERANCE) -> str | None:
    """The first difference of two answers beyond rounding, if any. Items of equal score may change places.

    A score that is no number differs from every score.
    """
    sizes = {len(values) for values in (got.item_ids, got.scores, got.reasons)}
    if sizes != {len(want.item_ids)}:
        return f"it has {min(sizes)} items instead of {len(want.item_ids)}"
    wanted = dict(zip(want.item_ids, zip(want.scores, want.reasons, strict=True), strict=True))
    rows = zip(got.item_ids, got.scores, got.reasons, strict=True)
    for place, (item, score, reasons) in enumerate(rows):
        if not abs(score - want.scores[place]) <= tolerance:
            return f"score {place} is {score:.4f} instead of {want.scores[place]:.4f}"
        # An item that is not wanted may have tied with the last one.
        expected_score, expected_reasons = wanted.get(item, (want.scores[-1], reasons))
        if not abs(expected_score - score) <= tolerance:
            return f"place {place} has {item} instead of {want.item_ids[place]}"
        if expected_reasons != reasons:
            return f"the reasons of {item} are {reasons} instead of {expected_reasons}"
    return None
