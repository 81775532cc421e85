"""Compare query by query: asked with the customer and without, and cesta with the best other ranker.

A paired interval is that of the mean of differences. It is narrower than the intervals of the two means,
because the same queries are hard for both.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from export_scripts.quality.groups import Bools, Groups
from export_scripts.quality.metrics import NAMES, Placement, Ranks, gains
from export_scripts.quality.rankers import ServedRanker
from export_scripts.quality.results import BestOther, Difference, NewOnly, Summary

COMPARED: Final = NAMES[:2]  # of the first ten places: an interval of MRR decides nothing
DIGITS: Final = 4
Placements = Mapping[str, Placement]  # by ranker
Values = NDArray[np.float64]


class Asked(NamedTuple):
    """A kind of query: the ranks by ranker, and the chosen queries."""

    ranks: dict[str, Ranks]
    chosen: Bools


def measure_new_only(groups: Groups, with_users: Placements, without_users: Placements) -> dict[str, NewOnly]:
    """Measure every ranker with all that the customer bought before taken out of lists and queries."""
    new = groups.named & ~groups.repeat
    if not new.any():
        return {}
    known = {name: gains(placed.new_ranks[new]) for name, placed in with_users.items()}
    unknown = {name: gains(placed.new_ranks[new]) for name, placed in without_users.items()}
    added = {name: (known[name] - unknown[name])[:, : len(COMPARED)] for name in known}
    bounds = groups.intervals(np.hstack([*known.values(), *unknown.values(), *added.values()]), new)
    intervals = iter(bounds.round(DIGITS).tolist())
    summaries = [
        {name: _summary(values, [next(intervals) for _ in NAMES]) for name, values in kind.items()}
        for kind in (known, unknown)
    ]
    differences = {
        name: {
            metric: _difference(column, next(intervals))
            for metric, column in zip(COMPARED, values.T, strict=True)
        }
        for name, values in added.items()
    }
    return {
        name: {"known": summaries[0][name], "unknown": summaries[1][name], "customer_adds": differences[name]}
        for name in known
    }


def compare_with_best(
    groups: Groups, with_users: Placements, without_users: Placements
) -> dict[str, dict[str, BestOther]]:
    """For each kind of query and each metric: the best other ranker, and cesta's paired difference to it."""
    known, unknown = _ranks(with_users), _ranks(without_users)
    new = groups.named & ~groups.repeat
    everything = np.ones(len(new), bool)
    kinds = {
        "known": Asked(known, everything),
        "unknown": Asked(unknown, everything),
        "repeat": Asked(known, groups.repeat),
        "explore": Asked(known, ~groups.repeat),
        "new_known": Asked({name: placed.new_ranks for name, placed in with_users.items()}, new),
        "new_unknown": Asked({name: placed.new_ranks for name, placed in without_users.items()}, new),
    }
    return {kind: _with_best(groups, asked) for kind, asked in kinds.items() if asked.chosen.any()}


def _with_best(groups: Groups, asked: Asked) -> dict[str, BestOther]:
    values = {name: gains(ranks[asked.chosen]) for name, ranks in asked.ranks.items()}
    ours = values.pop(ServedRanker.NAME)
    best = [max(values, key=lambda name: values[name][:, k].mean()) for k in range(len(COMPARED))]
    differences = np.column_stack([ours[:, k] - values[name][:, k] for k, name in enumerate(best)])
    bounds = groups.intervals(differences, asked.chosen).round(DIGITS).tolist()
    return {
        metric: {
            "ranker": name,
            "value": round(float(values[name][:, k].mean()), DIGITS),
            **_difference(differences[:, k], bounds[k]),
        }
        for k, (metric, name) in enumerate(zip(COMPARED, best, strict=True))
    }


def _ranks(placements: Placements) -> dict[str, Ranks]:
    return {name: placed.ranks for name, placed in placements.items()}


def _summary(values: Values, bounds: list[list[float]]) -> Summary:
    hr, ndcg, mrr = values.mean(0).round(DIGITS).tolist()
    between = dict(zip(NAMES, bounds, strict=True))
    return {"hr_at_10": hr, "ndcg_at_10": ndcg, "mrr": mrr, "interval": between, "n": len(values)}


def _difference(values: Values, bounds: list[float]) -> Difference:
    return {"difference": round(float(values.mean()), DIGITS), "interval": bounds}
