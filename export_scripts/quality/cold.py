"""Items that hardly sold before the test period, asked for apart: what content and habits are worth for them.

They are no part of the other measures, which rank what can be counted.
"""

from typing import Any

import numpy as np

from ensemble.candidate_sampler.arrays import SamplerArrays
from ensemble.candidate_sampler.sampler import CandidateSampler
from export_scripts.quality.groups import Groups
from export_scripts.quality.metrics import MISSED
from export_scripts.quality.questions import Questions
from export_scripts.quality.rankers import Ranker
from export_scripts.receipts.shop import Shop
from export_scripts.settings import Settings
from export_scripts.snapshots.snapshot import recommendable, with_content
from export_scripts.snapshots.splits import HiddenItems, hide_items


def hide_cold(
    shop: Shop, arrays: SamplerArrays, start: int, end: int, settings: Settings, rng: np.random.Generator
) -> HiddenItems:
    """The queries of Protocol W for cold items, had it been asked for all items with support or category."""
    known, most = recommendable(arrays), settings.splits.hidden_per_basket
    hidden = hide_items(shop, start, end, known | with_content(arrays), most, rng)
    cold = ~known[hidden.items]
    return HiddenItems(hidden.baskets[cold], hidden.items[cold]).sample(settings.evaluate.queries, rng)


def cold_items(
    shop: Shop, hidden: HiddenItems, ranker: Ranker, sampler: CandidateSampler, start: int, settings: Settings
) -> dict[str, Any]:
    """Metrics of ``ranker``, and ``recall`` among the candidates; the period begins with basket ``start``.

    By whether the user bought the item before, and by whether anybody did before the period.
    """
    ranks = Questions(shop, hidden, sampler).rank([ranker], True, "cold items")[ranker.names[0]].ranks
    groups = Groups.of(shop, sampler.arrays, hidden, start, settings)
    sold = groups.support[hidden.items] > 0
    kinds = {
        "all": np.ones(len(hidden), bool),
        "repeat": groups.repeat,
        "explore": ~groups.repeat,
        "sold": sold,
        "never_sold": ~sold,
    }
    found = ranks < MISSED
    return {"fewer_than": settings.sampler.min_support} | {
        name: groups.of_ranks(ranks, keep)
        | {"recall": round(float(found[keep].mean()), 4) if keep.any() else None}
        for name, keep in kinds.items()
    }
