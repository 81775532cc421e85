"""An answer as a manifest holds it, and whether another one is the same beyond rounding."""

from typing import Any

TOLERANCE = 2e-4  # manifests hold four decimals; the order of a sum may differ between backends
# A GPU multiplies with 11 significant bits (TF32), which changed the scores of 1,024 queries by up to 0.006.
ACCELERATED_TOLERANCE = 0.02

Answer = dict[str, Any]  # item_ids, scores, reasons; K each


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
