"""Explains the answers of one release: what each item's score is made of, and where other items were lost.

The baseline is the average candidate of the same question. Training compares candidates of one question only
(a softmax), so a score has no meaning beside another question's, and its difference to this mean has one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from ensemble.candidate_sampler.arrays import load_arrays, load_limits
from ensemble.candidate_sampler.batch import Candidates
from ensemble.candidate_sampler.features import FEATURES
from ensemble.candidate_sampler.nearest import Nearest
from ensemble.candidate_sampler.query import Query
from ensemble.candidate_sampler.sampler import CandidateSampler
from ensemble.candidate_sampler.sources import POPULAR, SOURCES
from ensemble.explanation.evidence import Contributor, Evidence, text_of
from ensemble.explanation.fates import Fate, Stage, early_fate, late_fate
from ensemble.explanation.groups import VECTORS, columns
from ensemble.explanation.misses import Miss, misses
from ensemble.explanation.scored_graph import ExplanationError, ScoredGraph
from ensemble.explanation.scorer import CandidateScorer
from ensemble.explanation.shapley import coalitions, shapley_values

if TYPE_CHECKING:  # not of every release's sampler
    from ensemble.candidate_sampler.live.forbidden import Forbidden

TOLERANCE: Final = 1e-5  # between a score and the sum of its parts; of scores above 1 a share of the score

Float = NDArray[np.float64]


@dataclass(frozen=True)
class FeaturePart:
    """What the wide term adds for one feature, exactly."""

    feature: str
    value: float
    average: float  # over the question's candidates
    wide: float  # weight · (value - average)
    contributor: Contributor | None


@dataclass(frozen=True)
class GroupPart:
    """What a group adds to the score: by the wide term exactly, by the network as a Shapley value."""

    group: str
    wide: float
    network: float
    features: tuple[FeaturePart, ...]

    @property
    def total(self) -> float:
        """Both together."""
        return self.wide + self.network


@dataclass(frozen=True)
class Explanation:
    """Why an item has its score: ``baseline`` and the totals of all groups add up to it."""

    item_id: str
    rank: int
    score: float
    baseline: float
    sources: dict[str, Contributor | None]  # the names of the sources, and who proposed the item
    groups: tuple[GroupPart, ...]


@dataclass(frozen=True)
class Loss:
    """Why an item is not in the answer, or where it is."""

    fate: Fate
    sources: dict[str, Contributor | None] = field(default_factory=dict)  # of an item that was proposed
    explanation: Explanation | None = None  # of an item that was scored
    prior: dict[str, float] = field(default_factory=dict)  # of a cut item: see ``_prior_parts``
    misses: dict[str, Miss] = field(default_factory=dict)  # of an item that no source proposes


class Explainer:
    """Explains answers of one release. Not thread-safe, as its samplers."""

    def __init__(self, folder: Path, graph: ScoredGraph):
        """``folder`` holds the arrays of the release whose graph is given."""
        arrays, self.limits = load_arrays(folder), load_limits(folder)
        limits = self.limits
        nearest, items = Nearest.load(folder, arrays, limits), len(arrays.popularity.score)
        self.sampler = CandidateSampler(arrays, limits, nearest)
        self.proposing = CandidateSampler(arrays, limits | {"capacity": min(items, limits["width"])}, nearest)
        self.live: Forbidden | None = getattr(self.sampler, "live", None)  # a release before stock has none
        if self.live is not None:
            self.proposing.live = self.live
        self.scorer = CandidateScorer(graph)
        self.vocabulary = self.sampler.vocabulary()
        self.columns = columns()

    def item_id(self, row: int) -> str:
        """The id of an item."""
        ids = self.sampler.arrays.item_ids
        return text_of(ids.blob, ids.offsets, row)

    def row(self, item_id: str) -> int:
        """The row of an item, 0 if it is unknown. Raises BadRequest for what is no id."""
        return next(iter(self.vocabulary.query([item_id.encode()]).basket), 0)

    def ask(self, query: Query) -> "AskedQuestion":
        """Sample and score the candidates of a question."""
        return AskedQuestion(self, query)


class AskedQuestion:
    """A question with its candidates and their scores, as the server has them."""

    def __init__(self, explainer: Explainer, query: Query):
        self._explainer, self._query = explainer, query
        found = explainer.sampler.sample([query])
        self._asked = explainer.sampler.rows([query], found)  # (1, 1 + L + 2 C)
        self._rows, self._features = found.rows[0], found.features[0]
        self._sources = found.sources[0]
        scores, bias = explainer.scorer.score(self._asked, found.features)
        self._scores, self._bias = scores[0], bias[0].astype(np.float64)
        self.size = int(np.count_nonzero(self._rows))  # candidates stand before padding
        order = np.argsort(-self._scores[: self.size], kind="stable")  # as TopK: of equals the first
        self._order: list[int] = order.tolist()
        self.ranked: list[int] = self._rows[order].tolist()  # rows of the candidates, best first
        self._evidence = Evidence(explainer.sampler.arrays, query, explainer.item_id)

    @cached_property
    def _average(self) -> Float:
        """(F,) the features' means over the candidates, of which there is at least one."""
        average: Float = self._features[: self.size].mean(0, dtype=np.float64)
        return average

    @cached_property
    def proposed(self) -> Candidates:
        """All that the sources propose, before the prior chooses."""
        return self._explainer.proposing.sample([self._query])

    def explain_first(self, k: int) -> list[Explanation]:
        """Explain the first ``k`` items of the answer, or all if there are fewer."""
        return [self._explain(rank) for rank in range(1, min(k, self.size) + 1)]

    def explain_loss(self, item_id: str) -> Loss:
        """Tell why an item is not in the answer, or its rank. Raises BadRequest for what is no id."""
        arrays, row = self._explainer.sampler.arrays, self._explainer.row(item_id)
        fate = early_fate(item_id, row, self._query, arrays, self._explainer.live)
        if fate:
            return Loss(fate)
        fate = late_fate(item_id, row, self.ranked, self.proposed, arrays)
        if fate.stage is Stage.RANKED and fate.place:
            explanation = self._explain(fate.place)
            return Loss(fate, explanation.sources, explanation)
        if fate.stage is Stage.NOT_PROPOSED:
            limits = self._explainer.limits | {"popular": self._best_sellers()}
            return Loss(fate, misses=misses(arrays, limits, self._query, row))
        place = int(np.flatnonzero(self.proposed.rows[0] == row)[0])
        sources = self._proposed_by(row, int(self.proposed.sources[0, place]))
        return Loss(fate, sources, prior=self._prior_parts(self.proposed.features[0, place]))

    def _explain(self, rank: int) -> Explanation:
        """Explain the candidate at ``rank``. Raises ExplanationError if the parts miss the score."""
        place = self._order[rank - 1]
        row, values, score = int(self._rows[place]), self._features[place], float(self._scores[place])
        baseline, totals = self._share_out(place)
        away = self._explainer.scorer.wide * (values.astype(np.float64) - self._average)
        groups = []
        for name, of_group in self._explainer.columns.items():
            wide = float(away[of_group].sum())
            if name == VECTORS:
                wide += float(self._bias[place] - self._bias[: self.size].mean())
            features = tuple(
                FeaturePart(
                    FEATURES[k],
                    float(values[k]),
                    float(self._average[k]),
                    float(away[k]),
                    self._evidence.largest(FEATURES[k], row) if values[k] else None,
                )
                for k in of_group.tolist()
            )
            groups.append(GroupPart(name, wide, totals[name] - wide, features))
        item_id, reached = self._explainer.item_id(row), baseline + sum(part.total for part in groups)
        if not abs(reached - score) <= TOLERANCE * max(1.0, abs(score)):
            raise ExplanationError(
                f"the parts of the score of {item_id} add up to {reached:.6f}, and the score is {score:.6f}; "
                "please report it with the release"
            )
        sources = self._proposed_by(row, int(self._sources[place]))
        return Explanation(item_id, rank, score, baseline, sources, tuple(groups))

    def _share_out(self, place: int) -> tuple[float, dict[str, float]]:
        """The mean score of the candidates, and what each group adds to it for the candidate at ``place``.

        A coalition of groups is worth the mean score of candidates that have these groups of the explained
        item and all others of their own. A group that is alike in all candidates adds nothing.
        """
        real = slice(0, self.size)
        players = {
            name: of_group
            for name, of_group in self._explainer.columns.items()
            if name == VECTORS or np.ptp(self._features[real, of_group], axis=0).any()
        }
        among = coalitions(len(players))
        taken = np.zeros((len(among), 1, len(FEATURES)), np.bool_)
        for player, of_group in enumerate(players.values()):
            taken[:, :, of_group] = among[:, player, None, None]
        features = np.where(taken, self._features[place], self._features)  # (coalitions, C, F)
        rows = np.repeat(self._asked, len(among), axis=0)
        candidates = slice(1 + self._explainer.sampler.basket_slots, rows.shape[1] - len(self._rows))
        own_vectors = among[:, list(players).index(VECTORS), None] & (self._rows > 0)
        rows[:, candidates] = np.where(own_vectors, self._rows[place], self._rows)
        scores, _ = self._explainer.scorer.score(rows, features)
        worth = scores[:, real].mean(1, dtype=np.float64)
        values: Sequence[float] = shapley_values(worth).tolist()
        return float(worth[0]), dict.fromkeys(self._explainer.columns, 0.0) | dict(
            zip(players, values, strict=True)
        )

    def _best_sellers(self) -> int:
        """How far down the best sellers were proposed: further where the other sources gave few items."""
        order = self._explainer.sampler.arrays.popularity.order
        proposed = self.proposed.rows[0, (self.proposed.sources[0] & POPULAR) > 0]
        return int(np.flatnonzero(np.isin(order, proposed)).max(initial=-1)) + 1

    def _prior_parts(self, values: NDArray[np.float32]) -> dict[str, float]:
        """What each group adds to the prior, beside the average candidate. The prior is linear: exact."""
        weights = self._explainer.sampler.arrays.prior.weights.astype(np.float64)
        parts = weights * (values - self._average)
        return {
            name: float(parts[of_group].sum())
            for name, of_group in self._explainer.columns.items()
            if name != VECTORS
        }

    def _proposed_by(self, row: int, bits: int) -> dict[str, Contributor | None]:
        who = self._evidence.proposers(row, bits)
        return {name: who.get(bit) for name, bit in SOURCES.items() if bits & bit}
