"""What a running server is asked: counters by hand, on a clock that the test sets."""

from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from ensemble.candidate_sampler.groups import TENTHS
from ensemble.candidate_sampler.metrics import BASKET_SIZES
from operations.drift.comparison import Finding, compare
from operations.drift.counters import gained, read_page
from operations.drift.features import DAY, HOUR, SIZE_BOUNDS, SIZES, UNSOLD, WEEK, Histogram
from operations.drift.live import LEAST, NO_RECORD, Follower
from operations.records.drift_record import DriftRecord
from tests.building.drift_pages import RECORD, page

NOON_S = datetime(2024, 5, 6, 12, tzinfo=UTC).timestamp()  # a Monday


def follower(record: DriftRecord | None = RECORD) -> Follower:
    following = Follower()
    following.begin(3, record, 128)
    return following


def findings(following: Follower, window: str) -> Mapping[str, Finding]:
    (look,) = [look for look in following.looks if look.window == window]
    return {finding.feature: finding for finding in look.findings}


def test_a_till_that_sends_other_ids_is_drift_within_the_hour() -> None:
    """Half of the items of 500 questions are unknown. The categories of the others are as before."""
    following = follower()
    following.see(page(0, 0, 0), 0, NOON_S)
    following.see(page(500, 500, 500, tea=250, milk=250), 0, NOON_S + 600)
    found = findings(following, HOUR)
    assert (found["unknown_items"].drifted, found["category"].drifted) == (True, False)
    assert "unknown 1.0% → 50.0%" in found["unknown_items"].words()
    assert findings(following, DAY) == {}, "ten minutes are no day"


def test_fewer_unknown_items_are_no_drift() -> None:
    record = RECORD.model_copy(update={"features": {"unknown_items": RECORD.features["unknown_items"]}})
    kept = record.features["unknown_items"].model_copy(update={"counts": {"known": 1, "unknown": 1}})
    record = record.model_copy(update={"features": {"unknown_items": kept}})
    (found,) = compare(record, {"unknown_items": Histogram({"known": 900.0, "unknown": 0.0}, 900)}, HOUR)
    assert (found.distance, found.drifted) == (0, False)


def test_listed_items_that_never_sold_count_as_unknown() -> None:
    """The products table names items before their first sale; a release expects new items to be unknown."""
    record = DriftRecord.model_validate(
        RECORD.model_dump()
        | {
            "features": {
                "unknown_items": {"counts": {"known": 970, "unknown": 30}, "observations": 1000},
                "popularity": {"counts": {"1": 500, "2": 500, UNSOLD: 0}, "observations": 1000},
            },
            "thresholds": {WEEK: {"unknown_items": 0.04, "popularity": 0.04}},
        }
    )
    asked = {
        "unknown_items": Histogram({"known": 9_950, "unknown": 50}, 10_000),
        "popularity": Histogram({"1": 4_850, "2": 4_850, UNSOLD: 250}, 10_000),
    }
    unknown, popularity = compare(record, asked, WEEK)
    assert (unknown.drifted, popularity.drifted) == (False, False)
    assert unknown.words() == ""
    assert {c.label: c.now for c in popularity.changes} == {"1": 0.5, "2": 0.5, UNSOLD: 0}


def test_what_was_asked_earlier_leaves_the_hour() -> None:
    """The wrong ids stop; an hour later the window has only good ones, and the day still holds both."""
    following = follower()
    following.see(page(0, 0, 0), 0, NOON_S)
    following.see(page(500, 500, 500, tea=250, milk=250), 0, NOON_S + 60)
    following.see(page(1500, 2500, 500, tea=750, milk=750), 0, NOON_S + 3700)
    assert not findings(following, HOUR)["unknown_items"].drifted
    (day,) = [look for look in following.looks if look.window == DAY]
    assert (day.questions, day.complete) == (1500, False)


def test_the_supervisor_s_own_canaries_do_not_count() -> None:
    """A night with 400 canaries, each of one unknown item, and 300 good questions."""
    following, own = follower(), 'release="3",model_instance="candidate_sampler_0_0"'
    canary = f'cesta_sampler_queries_total{{basket="unknown",user="none",{own}}} '
    following.see(page(0, 0, 0) + canary + "0\n", 10, NOON_S)
    following.see(page(300, 600, 400, tea=300, milk=300) + canary + "400\n", 410, NOON_S + 400)
    found = findings(following, HOUR)["unknown_items"]
    assert (found.observations, found.drifted) == (300, False)


def test_a_server_that_starts_again_loses_no_question() -> None:
    before, after = read_page(page(400, 10, 0), 3), read_page(page(30, 12, 0), 3)
    sums = {key.family + key.labels: value for key, value in gained(before, after).items()}
    assert sums["queries_totalbasket=known,user=known"] == 30
    assert sums["item_ids_totalitem=known"] == 2


def test_other_releases_are_not_counted() -> None:
    assert read_page(page(400, 10, 0, release=4), 3) == {}


def test_few_questions_decide_nothing() -> None:
    following = follower()
    following.see(page(0, 0, 0), 0, NOON_S)
    following.see(page(LEAST - 1, 0, 600), 0, NOON_S + 600)
    assert findings(following, HOUR) == {}


def test_weekdays_are_compared_over_a_week() -> None:
    """Each question of the week is asked on a Monday; the reference has as many on Tuesdays."""
    following = follower()
    following.see(page(0, 0, 0), 0, NOON_S)
    following.see(page(0, 0, 0), 0, NOON_S + 1)
    following.see(page(600, 600, 6, tea=300, milk=300), 0, NOON_S + 7 * 86_400 - 3600)
    assert "Mon 50.0% → 100.0%" in findings(following, WEEK)["weekday"].words()
    assert findings(following, WEEK)["weekday"].drifted


def test_an_older_release_says_what_it_lacks() -> None:
    following = follower(None)
    following.see(page(400, 10, 0), 0, NOON_S)
    told = following.describe()
    assert (told["reference"], told["reason"], told["windows"]) == (None, NO_RECORD, {})


def test_the_answer_can_be_read_back() -> None:
    following = follower()
    following.see(page(0, 0, 0), 0, NOON_S)
    following.see(page(500, 500, 500, tea=250, milk=250), 0, NOON_S + 600)
    told = following.describe()["windows"][HOUR]["findings"]
    assert [Finding.of_object(one) for one in told] == [*findings(following, HOUR).values()]


def test_the_labels_are_those_of_the_sampler() -> None:
    assert SIZE_BOUNDS == BASKET_SIZES
    assert len(SIZES) == len(SIZE_BOUNDS) + 1
    assert TENTHS[-1] == UNSOLD


@pytest.mark.parametrize("zone", ["Europe/Berlin", ""])
def test_hours_are_those_of_the_receipts_clock(zone: str) -> None:
    """Noon in Greenwich is 14 o'clock in Berlin's summer."""
    from operations.drift.live import zone_of
    from operations.drift.windows import Windows

    windows = Windows(zone_of(zone))
    windows.add(NOON_S, {key: 7.0 for _, key in read_page(page(7, 0, 0), 3) if key.family == "queries_total"})
    profile, asked = windows.profile(NOON_S, HOUR)
    assert (asked, profile["hour"].counts["14" if zone else "12"]) == (7, 7)


def test_hours_of_a_clock_that_nobody_knows_are_not_compared() -> None:
    """The machine has no tzdata. In Greenwich's hours a healthy shop of Berlin would drift."""
    following = follower(RECORD.model_copy(update={"timezone": "Europe/Nowhere"}))
    following.see(page(0, 0, 0), 0, NOON_S)
    following.see(page(0, 0, 0), 0, NOON_S + 1)
    following.see(page(600, 600, 6, tea=300, milk=300), 0, NOON_S + 7 * 86_400 - 3600)
    found = findings(following, WEEK)
    assert "unknown_items" in found
    assert not {"hour", "weekday"} & found.keys()
