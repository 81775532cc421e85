"""Makes the ranker of a model as it is served. Apart from rankers.py, so that workers do not load torch."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ensemble.candidate_sampler.sampler import CandidateSampler
from export_scripts.quality.rankers import ServedRanker
from export_scripts.scorer.fold import fold
from export_scripts.scorer.graph import write_graph
from export_scripts.scorer.ncf import NCF
from operations.records.contract import Contract


def served_ranker(
    model: NCF,
    item_ids: list[str],
    sampler: CandidateSampler,
    contract: Contract,
    answers: int | None = None,
    moves: Sequence[float] = (),
) -> ServedRanker:
    """Return the ranker of ``model``; it answers with all candidates of ``sampler``, or with ``answers``.

    With ``moves``, which need all candidates, its placements have the moved ranks, too.
    """
    sizes = replace(contract, candidates=sampler.capacity, answers=answers or sampler.capacity)
    with tempfile.TemporaryDirectory() as folder:
        write_graph(fold(model), item_ids, sizes, Path(folder))
        graph = {file.name: file.read_bytes() for file in Path(folder).iterdir()}
    return ServedRanker(graph, item_ids, sampler, moves)
