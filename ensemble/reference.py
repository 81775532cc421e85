"""The served chain in one process, without a server. Evaluation measures it and tests compare with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from ensemble.candidate_sampler.batch import Candidates
from ensemble.candidate_sampler.query import Query, Vocabulary
from ensemble.candidate_sampler.sampler import CandidateSampler


@dataclass(frozen=True)
class Answers:
    """Item ids (str objects), scores and reasons, each (batch, K), best first. "" pads the item ids."""

    item_ids: NDArray[np.object_]
    scores: NDArray[np.float32]
    reasons: NDArray[np.int32]


class Reference:
    """The sampler and the scorer of one run, chained as the ensemble chains them. Not thread-safe."""

    def __init__(self, sampler: CandidateSampler, graph: Path | bytes, threads: int = 1):
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self.sampler = sampler
        self._session = ort.InferenceSession(
            graph if isinstance(graph, bytes) else str(graph), options, providers=["CPUExecutionProvider"]
        )
        self._vocabulary: Vocabulary | None = None

    @classmethod
    def load(cls, run: Path, threads: int = 1) -> "Reference":
        """Load the chain from a run folder (``model.onnx`` and ``arrays/``)."""
        return cls(CandidateSampler.load(run / "arrays"), run / "model.onnx", threads)

    @property
    def vocabulary(self) -> Vocabulary:
        """The run's ids, which ``Vocabulary.query`` looks up."""
        if self._vocabulary is None:
            self._vocabulary = self.sampler.vocabulary()
        return self._vocabulary

    def recommend(self, queries: Sequence[Query]) -> Answers:
        """Answer a batch of queries: (batch,) → (batch, K)."""
        return self.score(queries, self.sampler.sample(queries))

    def score(self, queries: Sequence[Query], candidates: Candidates) -> Answers:
        """Rank candidates that the sampler has already proposed."""
        inputs = self.inputs(queries, candidates)
        item_ids, scores, reasons = self._session.run(["item_ids", "scores", "reasons"], inputs)
        return Answers(item_ids, scores, reasons)

    def inputs(self, queries: Sequence[Query], candidates: Candidates) -> dict[str, NDArray[Any]]:
        """The scorer's inputs by name. The candidate features are a view of the sampler's own arrays."""
        return {"rows": self.sampler.rows(queries, candidates), "candidate_features": candidates.features}
