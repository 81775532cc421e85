"""Put the queries of a period to any number of rankers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ensemble.candidate_sampler.sampler import CandidateSampler
from export_scripts.durations import step
from export_scripts.progress import Progress
from export_scripts.quality.metrics import TOP, Placement
from export_scripts.quality.rankers import QueryBatch, Ranker
from export_scripts.receipts.shop import Shop
from export_scripts.snapshots.splits import HiddenItems, as_queries

BATCH: Final = 64


@dataclass(frozen=True)
class Questions:
    """Hidden items, to be found with the rest of their baskets, and the sampler that proposes candidates."""

    shop: Shop
    hidden: HiddenItems
    sampler: CandidateSampler

    @step("questions")
    def rank(
        self, rankers: Sequence[Ranker], known_user: bool, what: str, batch: int = BATCH
    ) -> dict[str, Placement]:
        """Have every ranker rank all queries, with their users or without; returns placements by name.

        ``what`` names the progress bar.
        """
        parts: dict[str, list[Placement]] = {name: [] for ranker in rankers for name in ranker.names}
        with Progress(what, len(self.hidden)) as progress:
            for hidden in self.hidden.batches(batch):
                queries = as_queries(self.shop, hidden, known_user)
                query_batch = QueryBatch(queries, hidden.items, self.sampler.sample(queries))
                for ranker in rankers:
                    for name, placement in ranker.place(query_batch).items():
                        parts[name].append(placement)
                progress.advance(len(hidden))
        return {name: _join(placements) for name, placements in parts.items()}


def _join(parts: list[Placement]) -> Placement:
    if not parts:
        return Placement(np.zeros(0), np.zeros((0, TOP), np.int32), np.zeros((0, TOP), np.float32))
    chances = [part.chances for part in parts if part.chances is not None]
    return Placement(
        np.concatenate([part.ranks for part in parts]),
        np.concatenate([part.top for part in parts]),
        np.concatenate(chances) if chances else None,
    )
