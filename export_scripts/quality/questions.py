"""The queries of a period, put to any number of rankers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ensemble.candidate_sampler.sampler import CandidateSampler
from export_scripts.progress import Progress
from export_scripts.quality.metrics import TOP, Placed
from export_scripts.quality.rankers import Asked, Ranker
from export_scripts.receipts.shop import Shop
from export_scripts.snapshots.splits import HiddenItems, as_queries

BATCH: Final = 64


@dataclass(frozen=True)
class Questions:
    """Hidden items, each asked for with the rest of its basket, and the sampler that proposes candidates."""

    shop: Shop
    hidden: HiddenItems
    sampler: CandidateSampler

    def rank(
        self, rankers: Sequence[Ranker], known_user: bool, what: str, batch: int = BATCH
    ) -> dict[str, Placed]:
        """Ranks and lists of all queries by every ranker, the users known or blanked."""
        found: dict[str, list[Placed]] = {name: [] for ranker in rankers for name in ranker.names}
        with Progress(what, len(self.hidden)) as progress:
            for hidden in self.hidden.batches(batch):
                queries = as_queries(self.shop, hidden, known_user)
                asked = Asked(queries, hidden.items, self.sampler.sample(queries))
                for ranker in rankers:
                    for name, placed in ranker.place(asked).items():
                        found[name].append(placed)
                progress.advance(len(hidden))
        return {name: _joined(parts) for name, parts in found.items()}


def _joined(parts: list[Placed]) -> Placed:
    if not parts:
        return Placed(np.zeros(0), np.zeros((0, TOP), np.int32), np.zeros((0, TOP), np.float32))
    columns = zip(*parts, strict=True)
    return Placed(*(None if values[0] is None else np.concatenate(values) for values in columns))
