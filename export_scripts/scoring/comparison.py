"""Asks a sample of the questions both ways, and explains each difference to the served answer.

The scorer is the same, so an item that the served answer lacks is no candidate: no source proposes it, or the
prior chose others. An item that the served list has in its place follows from that and is not counted. What
nothing explains is a defect.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from pydantic import JsonValue
from rich.console import Console
from rich.table import Table

from ensemble.candidate_sampler.batch import Candidates
from ensemble.candidate_sampler.query import Query
from ensemble.candidate_sampler.sources import SIMILAR, USUAL
from ensemble.reference import Reference
from export_scripts.scoring.catalog import CatalogRanker, Ranked, Scores, ranker_of
from export_scripts.scoring.partition import Shared, queries_of
from export_scripts.scoring.questions import Asked

TIE: Final = 1e-5  # closer scores may change places: the order of a sum depends on the batch that it is in

NOT_PROPOSED: Final = "no source proposes it"
CUT: Final = "the prior prefers others"
COLD: Final = "its place is kept for cold items"
TIED: Final = "its score ties"
UNEXPLAINED: Final = "unexplained"
CAUSES: Final = (NOT_PROPOSED, CUT, COLD, TIED, UNEXPLAINED)


class Difference(NamedTuple):
    """An item at ``place`` of one list that the other has not there."""

    place: int  # from 1, in the list of the whole catalog; 0: only the served list has it
    item_id: str
    cause: str


class Compared(NamedTuple):
    """One question asked both ways."""

    key: str
    differences: list[Difference]
    score_error: float  # the largest, of items that both lists have


def sampled(partitions: Iterable[Asked], count: int, most: int) -> Iterator[Asked]:
    """Yield at most ``most`` of ``count`` questions, evenly spread, in partitions of their own."""
    chosen = set(np.unique(np.linspace(0, count - 1, min(most, count)).astype(np.int64)).tolist())
    start = 0
    for asked in partitions:
        own = [place for place in range(len(asked.keys)) if start + place in chosen]
        start += len(asked.keys)
        if own:
            yield Asked(
                asked.number,
                [asked.keys[place] for place in own],
                [asked.users[place] for place in own],
                [asked.baskets[place] for place in own],
            )


def compare_partition(shared: Shared, asked: Asked) -> list[Compared]:
    """Ask each question of a partition both ways."""
    ranker, facts, contract = ranker_of(shared.files), shared.facts, shared.files.contract
    places, queries, _ = queries_of(ranker, asked, facts.kind)
    reference = Reference(ranker.serving, shared.files.graph)
    item_ids = [item_id.decode() for item_id in ranker.arrays.item_ids.unpack()]
    rows = {item_id: row for row, item_id in enumerate(item_ids)}
    k = min(facts.k, contract.answers)
    compared = []
    for place, query in zip(places, queries, strict=True):
        (whole,) = ranker.rank([query], k)
        answer = reference.recommend([query])
        n = np.count_nonzero(answer.item_ids[0, :k] != "")
        found = np.array([rows[item_id] for item_id in answer.item_ids[0, :n]], np.int32)
        served = Ranked(found, answer.scores[0, :n], answer.reasons[0, :n])
        differences = [
            Difference(where, item_ids[row], cause)
            for where, row, cause in explain(ranker, query, whole, served)
        ]
        compared.append(Compared(asked.keys[place], differences, _score_error(whole, served)))
    return compared


def explain(ranker: CatalogRanker, query: Query, whole: Ranked, served: Ranked) -> list[tuple[int, int, str]]:
    """(place, row, cause) for each difference of the two lists, those of ``Difference``."""
    served_at = {row: place for place, row in enumerate(served.rows.tolist())}
    missing = [place for place, row in enumerate(whole.rows.tolist()) if row not in served_at]
    found: list[tuple[int, int, str]] = []
    if missing:
        lost = Losses(ranker, query)
        for place in missing:
            row, score = int(whole.rows[place]), float(whole.scores[place])
            ties = len(served.scores) and abs(score - float(served.scores[-1])) <= TIE
            found.append((place + 1, row, lost.cause(row) or (TIED if ties else UNEXPLAINED)))
    both = [row for row in whole.rows.tolist() if row in served_at]
    whole_at = {row: place for place, row in enumerate(whole.rows.tolist())}
    in_served_order = sorted(both, key=lambda row: served_at[row])
    for row, other in zip(both, in_served_order, strict=True):
        one, two = whole_at[row], served_at[row]
        other_reasons = int(whole.reasons[one]) != int(served.reasons[two])
        if other_reasons or _apart(whole.scores[one], served.scores[two]):
            found.append((one + 1, row, UNEXPLAINED))
        elif row != other:
            tied = not _apart(whole.scores[one], whole.scores[whole_at[other]])
            found.append((one + 1, row, TIED if tied else UNEXPLAINED))
    last = whole.scores[-1] if len(whole.scores) else np.float32(-np.inf)
    for place, row in enumerate(served.rows.tolist()):
        if row not in whole_at and served.scores[place] > last + TIE:
            found.append((0, row, UNEXPLAINED))
    return found


class Losses:
    """Why items are not among the candidates of one query."""

    def __init__(self, ranker: CatalogRanker, query: Query):
        self._capacity = ranker.serving.capacity
        proposed = ranker.propose([query])
        n = int(np.count_nonzero(proposed.rows[0]))
        self._place = {row: place for place, row in enumerate(proposed.rows[0, :n].tolist())}
        self._prior: Scores = proposed.features[0, :n] @ ranker.arrays.prior.weights
        self._candidates = set(ranker.serving.sample([query]).rows[0].tolist())
        self._kept = _kept_places(ranker, proposed, n)

    def cause(self, row: int) -> str | None:
        """Why the item is no candidate; None if it is one."""
        if row in self._candidates:
            return None
        if row not in self._place:
            return NOT_PROPOSED
        better = np.count_nonzero(self._prior > self._prior[self._place[row]])
        return COLD if self._kept and better < self._capacity else CUT


def _kept_places(ranker: CatalogRanker, proposed: Candidates, n: int) -> int:
    """How many candidates stay whatever the prior: cold items that are near, and were not bought before."""
    cold = np.ones(ranker.items, bool)
    cold[ranker.arrays.popularity.order] = False
    near = proposed.sources[0, :n] & (SIMILAR | USUAL) == SIMILAR
    return int(np.count_nonzero(near & cold[proposed.rows[0, :n]]))


def _apart(one: np.float32, other: np.float32) -> bool:
    return abs(float(one) - float(other)) > TIE


def _score_error(whole: Ranked, served: Ranked) -> float:
    ours = dict(zip(whole.rows.tolist(), whole.scores.tolist(), strict=True))
    theirs = zip(served.rows.tolist(), served.scores.tolist(), strict=True)
    return max((abs(ours[row] - score) for row, score in theirs if row in ours), default=0.0)


def summarise(compared: Sequence[Compared]) -> dict[str, JsonValue]:
    """How many lists are identical, and how many items and lists differ by each cause."""
    items: Counter[str] = Counter()
    questions: Counter[str] = Counter()
    for one in compared:
        causes = [difference.cause for difference in one.differences]
        items.update(causes)
        questions.update(set(causes))
    return {
        "questions": len(compared),
        "identical": sum(not one.differences for one in compared),
        "score_error": max((one.score_error for one in compared), default=0.0),
        "items": {cause: items[cause] for cause in CAUSES},
        "lists": {cause: questions[cause] for cause in CAUSES},
    }


def print_comparison(counts: Mapping[str, Any], console: Console) -> None:
    """Print the counts of ``summarise`` as a table."""
    table = Table("difference to the served answer", "items", "lists")
    for cause in CAUSES:
        table.add_row(cause, str(counts["items"][cause]), str(counts["lists"][cause]))
    table.add_row("none: the lists are identical", "", f"{counts['identical']} of {counts['questions']}")
    console.print(table)
