"""Measure cold items separately: content and habits must find what hardly sold before the test period.

The other measures exclude cold items, because they rank only items with enough support.
"""

import numpy as np

from ensemble.candidate_sampler.arrays import SamplerArrays
from ensemble.candidate_sampler.sampler import CandidateSampler
from export_scripts.engines.interface import Engine
from export_scripts.quality.groups import Bools, Groups
from export_scripts.quality.metrics import MISSED
from export_scripts.quality.questions import Questions
from export_scripts.quality.rankers import Ranker
from export_scripts.quality.results import ColdResult, ColdSummary
from export_scripts.receipts.shop import Shop
from export_scripts.settings import Settings
from export_scripts.snapshots.snapshot import recommendable, with_content
from export_scripts.snapshots.splits import HiddenItems, hide_items


def hide_cold(
    shop: Shop, arrays: SamplerArrays, start: int, end: int, settings: Settings, rng: np.random.Generator
) -> HiddenItems:
    """Make queries for cold items as the test-month protocol does for the others.

    Items with support and items with a category are hidden alike; then the queries for cold items are chosen.
    """
    warm, per_basket = recommendable(arrays), settings.splits.hidden_per_basket
    hidden = hide_items(shop, start, end, warm | with_content(arrays), per_basket, rng)
    cold = ~warm[hidden.items]
    return HiddenItems(hidden.baskets[cold], hidden.items[cold]).sample(settings.evaluate.queries, rng)


def measure_cold_items(
    shop: Shop,
    hidden: HiddenItems,
    ranker: Ranker,
    sampler: CandidateSampler,
    start: int,
    settings: Settings,
    engine: Engine,
) -> ColdResult:
    """Metrics of ``ranker`` and ``recall`` of the sampler in a period that begins with basket ``start``.

    The queries are grouped by whether their user bought the item before (repeat, explore), and by whether
    anyone bought it before the period (sold, never_sold).
    """
    questions = Questions(shop, hidden, sampler, [ranker])
    ranks = questions.rank(engine, True, "cold items")[ranker.names[0]].ranks
    groups = Groups.of(shop, sampler.arrays, hidden, start, settings)
    sold = groups.support[hidden.items] > 0
    is_candidate = ranks < MISSED

    def summarise(chosen: Bools) -> ColdSummary:
        recall = round(float(is_candidate[chosen].mean()), 4) if chosen.any() else None
        return {**groups.summarise(ranks, chosen), "recall": recall}

    return {
        "fewer_than": settings.sampler.min_support,
        "all": summarise(np.ones(len(hidden), bool)),
        "repeat": summarise(groups.repeat),
        "explore": summarise(~groups.repeat),
        "sold": summarise(sold),
        "never_sold": summarise(~sold),
    }
