"""Put the queries of a period to any number of rankers, by partitions that an engine computes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np

from ensemble.candidate_sampler.sampler import CandidateSampler
from export_scripts.durations import step
from export_scripts.engines.interface import Engine
from export_scripts.progress import Progress
from export_scripts.quality.baselines import bought_before
from export_scripts.quality.metrics import TOP, Placement
from export_scripts.quality.rankers import QueryBatch, Ranker
from export_scripts.receipts.shop import Shop
from export_scripts.snapshots.splits import HiddenItems, as_queries

BATCH: Final = 64
PARTITION: Final = 128  # queries; whole batches, so that a query is in the same batch whatever the engine


@dataclass(frozen=True)
class Questions:
    """Hidden items, to be found with the rest of their baskets, and the sampler that proposes candidates."""

    shop: Shop
    hidden: HiddenItems
    sampler: CandidateSampler
    rankers: Sequence[Ranker] = ()

    def __getstate__(self) -> dict[str, Any]:
        """What a worker needs: of the shop the receipts, without names."""
        receipts = replace(self.shop, catalog=self.shop.catalog.iloc[:0], user_ids=[])
        return self.__dict__ | {"shop": receipts}

    @step("questions")
    def rank(self, engine: Engine, known_user: bool, what: str, batch: int = BATCH) -> dict[str, Placement]:
        """Have every ranker rank all queries, with their users or without; returns placements by name.

        ``what`` names the progress bar.
        """
        parts: dict[str, list[Placement]] = {name: [] for ranker in self.rankers for name in ranker.names}
        chosen = [_Chosen(places, known_user, batch) for places in self.partitions()]
        with Progress(what, len(self.hidden)) as progress:
            for placements, (places, _, _) in zip(engine.map(_rank, chosen, self), chosen, strict=True):
                for name, placement in placements.items():
                    parts[name].append(placement)
                progress.advance(len(places))
        return {name: _join(placements) for name, placements in parts.items()}

    def partitions(self) -> list[range]:
        """The places of the queries, PARTITION at a time."""
        n = len(self.hidden)
        return [range(start, min(start + PARTITION, n)) for start in range(0, n, PARTITION)]


class _Chosen(NamedTuple):
    """A partition: its queries, and how they are asked."""

    places: range
    known_user: bool
    batch: int


def _rank(questions: Questions, chosen: _Chosen) -> dict[str, Placement]:
    """Have every ranker rank the queries of one partition."""
    parts: dict[str, list[Placement]] = {name: [] for ranker in questions.rankers for name in ranker.names}
    for hidden in questions.hidden.part(chosen.places).batches(chosen.batch):
        known = as_queries(questions.shop, hidden)
        queries = known if chosen.known_user else as_queries(questions.shop, hidden, known_user=False)
        bought = bought_before(questions.sampler.arrays, known)
        query_batch = QueryBatch(queries, hidden.items, questions.sampler.sample(queries), bought)
        for ranker in questions.rankers:
            for name, placement in ranker.place(query_batch).items():
                parts[name].append(placement)
    return {name: _join(placements) for name, placements in parts.items()}


def _join(parts: list[Placement]) -> Placement:
    if not parts:
        return Placement(
            np.zeros(0), np.zeros((0, TOP), np.int32), np.zeros(0), np.zeros((0, TOP), np.float32)
        )
    chances = [part.chances for part in parts if part.chances is not None]
    moved = [part.moved for part in parts if part.moved is not None]
    return Placement(
        np.concatenate([part.ranks for part in parts]),
        np.concatenate([part.top for part in parts]),
        np.concatenate([part.new_ranks for part in parts]),
        np.concatenate(chances) if chances else None,
        np.concatenate(moved) if moved else None,
    )
