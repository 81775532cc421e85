"""An explained question as JSON: its answer, and what became of other items."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

import numpy as np

from ensemble.candidate_sampler.query import Query
from ensemble.explanation.explainer import Explainer, Explanation, GroupPart, Loss
from ensemble.explanation.groups import MEANINGS

BASELINE: Final = "mean score of the candidates of this question"
FURTHER: Final = ("store_id", "exclude_categories", "items", "history", "history_ages")
LISTS: Final = ("basket", "exclude", "categories")


def explain(explainer: Explainer, question: Mapping[str, Any], k: int, item_ids: list[str]) -> dict[str, Any]:
    """Explain the first ``k`` items of the answer to a question, and what became of ``item_ids``.

    ``question`` has the fields of a query of `/v1/recommend` except ``k``, each as text or a list of texts.
    The result can be written as JSON; ``milliseconds`` are of CPU. Raises BadRequest for what the sampler
    refuses.
    """
    began = time.process_time()
    query = explainer.vocabulary.query(
        _bytes(question.get("basket")),
        (question.get("user_id") or "").encode(),
        _bytes(question.get("exclude")),
        _bytes(question.get("categories")),
        None,
        **_further(question),
    )
    asked = explainer.ask(query)
    answer = asked.explain_first(k)
    others = [asked.explain_loss(one) for one in dict.fromkeys(item_ids)]
    return {
        "question": _told(question, query),
        "proposed": int(np.count_nonzero(asked.proposed.rows)),
        "candidates": asked.size,
        "baseline": {"score": _baseline(answer, others), "meaning": BASELINE},
        "items": [_explanation(one) for one in answer],
        "others": [_loss(one) for one in others],
        "milliseconds": round(1000 * (time.process_time() - began), 1),
    }


def _knows_further() -> bool:
    """Does the release's sampler know the fields FURTHER? An older one answers without them."""
    return hasattr(Query, "unwanted")


def _further(question: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs FURTHER that the question has, as the sampler takes them."""
    if not _knows_further():
        return {}
    given: dict[str, Any] = {name: question[name] for name in FURTHER if question.get(name)}
    if "store_id" in given:
        given["store_id"] = [given["store_id"]]
    return {name: values if name == "history_ages" else _bytes(values) for name, values in given.items()}


def _told(question: Mapping[str, Any], query: Query) -> dict[str, Any]:
    """The question, and what the release knows of it."""
    lists = {name: list(question.get(name) or ()) for name in LISTS}
    return {
        "user_id": question.get("user_id") or "",
        **lists,
        "known_user": bool(query.user_row),
        "unknown_items": query.unknown_items,
        **{name: question[name] for name in FURTHER if name in question},
        "unsupported": [] if _knows_further() else [name for name in FURTHER if name in question],
        "unknown_categories": [name.decode() for name in query.unknown_categories],
    }


def _baseline(answer: list[Explanation], others: list[Loss]) -> float | None:
    """The one baseline of all explanations; None if there is none."""
    explained = [*answer, *(loss.explanation for loss in others if loss.explanation)]
    return explained[0].baseline if explained else None


def _bytes(ids: list[str] | None) -> list[bytes]:
    return [one.encode() for one in ids or ()]


def _explanation(one: Explanation) -> dict[str, Any]:
    return {
        "item_id": one.item_id,
        "rank": one.rank,
        "score": one.score,
        "sources": {name: asdict(who) if who else None for name, who in one.sources.items()},
        "groups": [_group(part) for part in one.groups],
    }


def _group(part: GroupPart) -> dict[str, Any]:
    return {
        "group": part.group,
        "meaning": MEANINGS[part.group],
        "wide": part.wide,
        "network": part.network,
        "total": part.total,
        "features": [asdict(of) for of in part.features],
    }


def _loss(loss: Loss) -> dict[str, Any]:
    fate = loss.fate
    return {
        "item_id": fate.item_id,
        "stage": str(fate.stage),
        "place": fate.place,
        "of": fate.of,
        "sentence": fate.sentence,
        "sources": {name: asdict(who) if who else None for name, who in loss.sources.items()},
        "prior": loss.prior or None,
        "misses": {name: asdict(miss) for name, miss in loss.misses.items()},
        "explanation": _explanation(loss.explanation) if loss.explanation else None,
    }
