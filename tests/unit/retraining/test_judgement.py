"""A canary release beside the active one: intervals by hand, three outcomes, counters that begin anew."""

from __future__ import annotations

import numpy as np
import pytest

from export_scripts.retraining.journal import Canary
from export_scripts.retraining.judgement import difference, is_evidently_worse, judge
from export_scripts.retraining.tally import add
from export_scripts.settings import RetrainSettings, load_settings

SETTINGS: RetrainSettings = load_settings().retrain


def watched(**changes: dict[str, float]) -> Canary:
    """Release 2 beside release 1: 1,000 and 9,000 requests, none failed, slow or about an unknown item."""
    releases = {"1": 9000.0, "2": 1000.0}
    sums = {"answered": {"recommender": 9000.0, "recommender_canary": 1000.0}}
    sums |= {name: dict(releases) for name in ("timed", "quick", "queries", "items")}
    return Canary(release=2, percent=10, started_s=0, until_s=60, sums=sums | changes)


def test_the_interval_of_a_difference_is_newcombes() -> None:
    """His example of 1998: 56 of 70 beside 48 of 80 differ by 0.0524 to 0.3339."""
    assert difference((56, 70), (48, 80)) == pytest.approx((0.0524, 0.3339), abs=1e-4)


def test_nothing_is_known_without_a_request() -> None:
    assert difference((0, 0), (0, 0)) == pytest.approx((-1, 1))


def test_an_equal_release_is_as_good() -> None:
    verdict = judge(watched(), 1, SETTINGS)
    assert (verdict.found, verdict.requests, verdict.objections) == ("as good", 1000, [])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"failed": {"recommender_canary": 20.0}}, "failed requests: 2.00% beside 0.00%"),
        ({"covered": {"": 30.0}}, "failed requests: 2.91% beside 0.00%"),  # 30 of 1,030
        ({"quick": {"1": 9000.0, "2": 940.0}}, "requests over 50 ms: 6.00% beside 0.00%"),
        ({"unknown": {"1": 90.0, "2": 90.0}}, "unknown items: 9.00% beside 1.00%"),
    ],
)
def test_each_share_can_condemn_a_release(changes: dict[str, dict[str, float]], words: str) -> None:
    verdict = judge(watched(**changes), 1, SETTINGS)
    assert verdict.found == "worse"
    assert len(verdict.objections) == 1
    assert verdict.objections[0].startswith(words)


def test_the_supervisors_probes_are_no_unknown_items_of_shops() -> None:
    """The active release has 900 unknown items, all of probes, so the canary's 8 % are more."""
    changes = {"unknown": {"1": 900.0, "2": 80.0}, "probes": {"": 900.0}}
    assert judge(watched(**changes), 1, SETTINGS).found == "worse"
    assert judge(watched(unknown=changes["unknown"]), 1, SETTINGS).found == "as good"


def test_many_items_of_few_baskets_prove_little() -> None:
    """1,000 items of 20 baskets count as 20."""
    changes = {"unknown": {"1": 90.0, "2": 90.0}, "queries": {"1": 9000.0, "2": 20.0}}
    assert judge(watched(**changes), 1, SETTINGS).found == "as good"


def test_too_few_requests_decide_nothing() -> None:
    """Not even if all of them failed."""
    few = {"recommender": 9000.0, "recommender_canary": 999.0}
    verdict = judge(watched(answered=few, failed={"recommender_canary": 999.0}), 1, SETTINGS)
    assert (verdict.found, verdict.requests) == ("undecided", 999)
    assert verdict.objections == ["it answered 999 requests, and 1000 are needed to judge it"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"answered": {"recommender": 10.0, "recommender_canary": 1000.0}},
            "the active release answered 10 requests",
        ),
        ({"timed": {"1": 9000.0}}, "nobody counted its requests by their time"),
        ({"queries": {"1": 9000.0}}, "nobody counted its items in baskets"),
    ],
)
def test_what_was_not_counted_passes_no_release(changes: dict[str, dict[str, float]], words: str) -> None:
    verdict = judge(watched(**changes), 1, SETTINGS)
    assert verdict.found == "undecided"
    assert verdict.objections[0].startswith(words)


def test_what_is_evident_needs_no_more_minutes() -> None:
    """1.2 % of failures may be chance in one of many looks, 5 % are not; 999 requests are too few."""

    def is_evident(failed: float, answered: float = 1000.0) -> bool:
        of = {"recommender": 9000.0, "recommender_canary": answered}
        return is_evidently_worse(watched(answered=of, failed={"recommender_canary": failed}), 1, SETTINGS)

    assert not is_evident(12.0)
    assert is_evident(50.0)
    assert not is_evident(999.0, answered=999.0)


def test_the_settings_catch_what_they_say() -> None:
    """1,000 requests show 2 % of failures beside 0.1 % in 98 of 100 cases, and condemn no equal release."""
    rng = np.random.default_rng(1)

    def share_condemned(failing: float) -> float:
        drawn = zip(rng.binomial(1000, failing, 1000), rng.binomial(9000, 0.001, 1000), strict=True)
        found = [difference((ours, 1000), (theirs, 9000))[0] > SETTINGS.errors for ours, theirs in drawn]
        return float(np.mean(found))

    assert share_condemned(0.02) > 0.97
    assert share_condemned(0.001) == 0


def test_counts_outlive_the_programs_that_count() -> None:
    """5 more, then a program that began anew and has 3, then one that does not answer, then 2 more."""
    canary = Canary(release=2, percent=10, started_s=0, until_s=60)
    for value in (100.0, 105.0, 3.0):
        add(canary, {"answered": {"recommender": value}})
    add(canary, {})
    add(canary, {"answered": {"recommender": 5.0}})
    assert canary.sums["answered"] == {"recommender": 10.0}


def test_a_label_that_appears_later_began_at_nothing() -> None:
    canary = Canary(release=2, percent=10, started_s=0, until_s=60)
    add(canary, {"answered": {"recommender": 100.0}})
    add(canary, {"answered": {"recommender": 100.0, "recommender_canary": 7.0}})
    assert canary.sums["answered"] == {"recommender": 0.0, "recommender_canary": 7.0}
