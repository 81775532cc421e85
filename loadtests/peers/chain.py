"""The code that a Python web server would hold: questions in plain JSON, the reference's answers out."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ensemble.candidate_sampler.query import Query
from ensemble.reference import Reference

RUN: Final = "CESTA_BENCH_RUN"  # the run folder, for worker processes
WORKERS: Final = os.cpu_count() or 1
MAX_BATCH: Final = 64  # as in model_repository/
MAX_WAIT_S: Final = 0.001  # for a batch to fill, where a server has a setting for it


class Chain:
    """Sampler and scorer of the run in one process, warmed up."""

    def __init__(self, run: Path | None = None) -> None:
        self._reference = Reference.load(run or Path(os.environ[RUN]))
        self._vocabulary = self._reference.vocabulary
        self._reference.recommend([Query()])

    def recommend(self, questions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """One answer per question, as one batch."""
        queries = [
            self._vocabulary.query(
                basket=[item.encode() for item in question.get("basket", ())],
                user_id=question.get("user_id", "").encode(),
            )
            for question in questions
        ]
        found = self._reference.recommend(queries)
        return [
            {"item_ids": ids, "scores": scores, "reasons": reasons}
            for ids, scores, reasons in zip(
                found.item_ids.tolist(), found.scores.tolist(), found.reasons.tolist(), strict=True
            )
        ]
