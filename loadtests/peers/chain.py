"""The chain as a Python web server would hold it: answers questions in plain JSON with the reference."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ensemble.candidate_sampler.query import Query
from ensemble.reference import Reference

RUN: Final = "CESTA_BENCH_RUN"  # variable that tells worker processes the run folder
GUARD: Final = (
    "CESTA_BENCH_GUARD"  # variable that tells them the folder of keys.json, where they log requests
)
WORKERS: Final = os.cpu_count() or 1
MAX_BATCH: Final = 64  # as in model_repository/
MAX_WAIT_S: Final = 0.001  # longest wait for a batch to fill, in servers that have such a setting


class Chain:
    """The sampler and the scorer of the run in one process, warmed up."""

    def __init__(self, run: Path | None = None) -> None:
        self._reference = Reference.load(run or Path(os.environ[RUN]))
        self._vocabulary = self._reference.vocabulary
        self._reference.recommend([Query()])

    def recommend(self, questions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Answer all questions as one batch."""
        queries = [
            self._vocabulary.query(
                basket=[item.encode() for item in question.get("basket", ())],
                user_id=question.get("user_id", "").encode(),
            )
            for question in questions
        ]
        answers = self._reference.recommend(queries)
        return [
            {"item_ids": ids, "scores": scores, "reasons": reasons}
            for ids, scores, reasons in zip(
                answers.item_ids.tolist(), answers.scores.tolist(), answers.reasons.tolist(), strict=True
            )
        ]
