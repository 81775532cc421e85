"""Comparisons on the same queries, worked out by hand."""

from typing import Any

import numpy as np
import pytest

from export_scripts.quality.groups import Groups
from export_scripts.quality.metrics import MISSED, Placement
from export_scripts.quality.paired import compare_with_best, measure_new_only
from export_scripts.snapshots.splits import HiddenItems

N = 100
HALF = np.arange(N) < N // 2
NOTHING: Any = None


def groups(named: Any = True) -> Groups:
    """100 queries of 100 users; each fifth is a repeat."""
    return Groups(
        shop=NOTHING,
        arrays=NOTHING,
        hidden=HiddenItems(np.arange(N), np.ones(N, np.int32)),
        owners=np.arange(N),
        repeat=np.arange(N) % 5 == 0,
        named=np.broadcast_to(named, N),
        sizes=np.ones(N, np.int64),
        support=np.ones(2, np.int64),
        baskets=N,
        resamples=500,
        seed=3,
    )


def placed(hits: Any, new_hits: Any = False) -> Placement:
    """First places where it hits, and where it hits without what was bought before."""
    ranks, new = (np.where(np.broadcast_to(hit, N), 0.0, MISSED) for hit in (hits, new_hits))
    return Placement(ranks, np.zeros((N, 10), np.int32), new)


def test_new_only_counts_new_items_alone() -> None:
    """80 of 100 queries are about new items. With the customer half of them are found, without none."""
    measured = measure_new_only(groups(), {"cesta": placed(True, HALF)}, {"cesta": placed(True, False)})[
        "cesta"
    ]
    assert (measured["known"]["n"], measured["known"]["hr_at_10"]) == (80, 0.5)
    assert measured["unknown"]["hr_at_10"] == 0
    added = measured["customer_adds"]["hr_at_10"]
    assert added["difference"] == 0.5
    assert added["interval"] == measured["known"]["interval"]["hr_at_10"]  # of the same resamples


def test_new_only_asks_known_customers() -> None:
    """An item cannot be new to somebody unknown."""
    measured = measure_new_only(groups(HALF), {"cesta": placed(True, HALF)}, {"cesta": placed(True)})
    assert (measured["cesta"]["known"]["n"], measured["cesta"]["known"]["hr_at_10"]) == (40, 1)
    assert measure_new_only(groups(False), {"cesta": placed(True)}, {"cesta": placed(True)}) == {}


def test_the_best_other_ranker_is_chosen_by_kind_and_metric() -> None:
    """One hits more often, the other at better places."""
    often = placed(True)._replace(ranks=np.full(N, 9.0))
    first = placed(HALF)
    rankers = {"cesta": placed(True), "often": often, "first": first}
    best = compare_with_best(groups(), rankers, rankers | {"often": placed(False)})
    assert (best["known"]["hr_at_10"]["ranker"], best["known"]["ndcg_at_10"]["ranker"]) == ("often", "first")
    assert best["known"]["hr_at_10"]["difference"] == 0
    assert best["known"]["ndcg_at_10"]["value"] == 0.5
    assert best["unknown"]["hr_at_10"]["ranker"] == "first"
    assert set(best) == {"known", "unknown", "repeat", "explore", "new_known", "new_unknown"}


def test_a_paired_interval_is_that_of_the_differences() -> None:
    """Both miss the same half, and cesta alone finds each tenth: 0.1 ± 1.96 sqrt(0.09 / 100)."""
    each_tenth = (np.arange(N) % 10 == 0) & ~HALF
    rankers = {"cesta": placed(HALF | each_tenth), "other": placed(HALF)}
    (low, high) = compare_with_best(groups(), rankers, rankers)["known"]["hr_at_10"]["interval"]
    share = each_tenth.mean()
    spread = 1.96 * np.sqrt(share * (1 - share) / N)
    assert (low, high) == pytest.approx((share - spread, share + spread), abs=0.02)
