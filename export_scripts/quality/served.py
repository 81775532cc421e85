"""Makes the ranker of a model as it is served. Apart from rankers.py, so that workers do not load torch."""

from dataclasses import replace

from ensemble.candidate_sampler.sampler import CandidateSampler
from export_scripts.quality.rankers import ServedRanker
from export_scripts.scorer.fold import fold
from export_scripts.scorer.graph import build_graph
from export_scripts.scorer.ncf import NCF
from operations.records.contract import Contract


def served_ranker(
    model: NCF, item_ids: list[str], sampler: CandidateSampler, contract: Contract, answers: int | None = None
) -> ServedRanker:
    """Return the ranker of ``model``; it answers with all candidates of ``sampler``, or with ``answers``."""
    sizes = replace(contract, candidates=sampler.capacity, answers=answers or sampler.capacity)
    return ServedRanker(build_graph(fold(model), item_ids, sizes).SerializeToString(), item_ids, sampler)
