"""The gate compares like with like: the same questions, and receipts beside those of the active release."""

from typing import Any

import pytest

from operations.records.comparison import Comparison
from operations.records.manifest import ReleaseManifest
from operations.releases.compared import receipt_objections
from operations.releases.gate import objections
from operations.releases.overview.listing import _against
from operations.settings import load_bars

BARS = load_bars()
ACTIVE = ReleaseManifest(
    release=3,
    contract={},
    golden=(),
    digest="d3",
    files={},
    metrics={
        "known": {
            "hr_at_10": 0.24,
            "ndcg_at_10": 0.15,
            "interval": {"hr_at_10": [0.23, 0.25], "ndcg_at_10": [0.145, 0.155]},
            "n": 9,
        }
    },
)
FINE = {"customers": {"then": 100, "now": 100}}


def candidate(
    difference: float,
    half: float,
    *,
    own: float = 0.2,
    digest: str = "d3",
    reached: float = 0.15,
    receipts: dict[str, Any] = FINE,
) -> ReleaseManifest:
    """A release whose NDCG@10 differs by so much from the active one's, with this half of an interval."""
    pair = {
        "hr_at_10": [-0.001, 0.001],
        "ndcg_at_10": [difference - half, difference + half],
    }
    against = {
        "release": 3,
        "digest": digest,
        "n": 2_950,
        "since": "2017-12-04T00:00:00Z",
        "active": {"hr_at_10": 0.24, "ndcg_at_10": reached},
        "candidate": {"hr_at_10": 0.24, "ndcg_at_10": reached + difference},
        "difference": {"hr_at_10": 0.0, "ndcg_at_10": difference},
        "interval": pair,
        "receipts": receipts,
    }
    known = {"hr_at_10": own, "ndcg_at_10": own, "interval": {}, "n": 9}
    return ACTIVE.model_copy(
        update={"release": 4, "digest": "d4", "metrics": {"known": known, "against": against}}
    )


@pytest.mark.parametrize(
    ("difference", "half", "clauses"),
    [
        (-0.007, 0.001, 0),  # a clear loss within the margin of 5 % of 0.15
        (-0.008, 0.007, 1),
        (-0.008, 0.009, 0),  # it may be chance
        (+0.010, 0.002, 0),
        (-0.029, 0.031, 0),  # wider than a fifth of 0.15: the own test period decides, and that is fine
    ],
)
def test_a_loss_on_the_same_questions_counts_beyond_the_margin(
    difference: float, half: float, clauses: int
) -> None:
    assert len(objections(candidate(difference, half), ACTIVE, BARS)) == clauses


def test_other_weeks_do_not_refuse_an_equal_release() -> None:
    """The candidate's own weeks are harder than those of the active release, as in December."""
    assert objections(candidate(0.0, 0.002, own=0.1), ACTIVE, BARS) == []
    alone = candidate(0.0, 0.002, own=0.1, digest="another release of that number")
    assert len(objections(alone, ACTIVE, BARS)) == 2


def test_the_sentence_has_both_numbers_and_the_margin() -> None:
    (clause,) = objections(candidate(-0.012, 0.004), ACTIVE, BARS)
    assert clause == (
        "its ndcg_at_10 is 0.0120 below release 3's on the same 2,950 newest questions (95 % interval 0.0080 "
        "to 0.0160); at most 5% of 0.1500 may be lost (release.worse)"
    )


def test_too_few_questions_are_told() -> None:
    (clause,) = objections(candidate(0.0, 0.031, own=0.1), ACTIVE, BARS)
    assert clause.endswith("from 0.1450 (2,950 new questions leave the comparison open)")


def test_the_list_tells_the_difference() -> None:
    assert _against(candidate(-0.012, 0.004)) == "3: -0.0120 (-0.0160 to -0.0080), 2,950 questions"
    assert _against(ACTIVE) is None


def day(share: float, date: str = "2017-12-05") -> dict[str, Any]:
    return {"day": date, "baskets": int(400 * share), "usual": 400}


@pytest.mark.parametrize(
    ("receipts", "key"),
    [
        ({"shared": {"then": 1000, "now": 989}}, "lost_receipts"),
        ({"shared": {"then": 1000, "now": 991}}, None),
        ({"shrunk_days": [day(0.4, "2017-12-25")]}, "lost_day"),
        ({"quiet_days": [day(0.4)]}, "lost_day"),
        ({"quiet_days": [day(0.6)]}, None),
        ({"quiet_days": [day(0.0, "2017-12-25")]}, None),
        ({"new": {"then": 2700, "now": 1880}}, "lost_sales"),
        ({"new": {"then": 2700, "now": 1900}}, None),
        ({"customers": {"then": 100, "now": 79}}, "lost_customers"),
        ({"familiar_items": {"then": 0.99, "now": 0.02}}, "strangers"),
        ({"familiar_customers": {"then": 0.99, "now": 0.78}}, "strangers"),
        ({"familiar_customers": {"then": 0.5, "now": 0.4}}, None),
    ],
)
def test_broken_receipts_are_refused(receipts: dict[str, Any], key: str | None) -> None:
    """Quality on questions is the same in all cases."""
    clauses = objections(candidate(0.0, 0.002, receipts=FINE | receipts), ACTIVE, BARS)
    assert [f"release.{key}" in clause for clause in clauses] == ([True] if key else [])


def test_receipts_that_the_active_release_fails_on_are_suspected() -> None:
    """Shuffled receipts leave both with the same small share of hits."""
    shuffled = candidate(0.0, 0.002, reached=0.002).comparison()
    assert shuffled is not None
    (clause,) = receipt_objections(shuffled, 0.15, BARS)
    assert "release 3 itself reaches an ndcg_at_10 of 0.0020 on the newest questions, and 0.1500" in clause
    usual = candidate(0.0, 0.002, reached=0.1).comparison()
    assert usual is not None
    assert receipt_objections(usual, 0.15, BARS) == []


def test_a_damaged_comparison_is_named() -> None:
    with pytest.raises(ValueError, match=r'in against, the key "release" is missing'):
        ReleaseManifest.model_validate(ACTIVE.json_object() | {"metrics": {"against": {"n": 3}}})
    assert Comparison(release=3, digest="").in_words() == "3: no questions"
