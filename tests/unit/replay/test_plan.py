"""Which release answers on which day; shops of a few weeks, by hand."""

import pytest

from export_scripts.replay.plan import DAILY, FROZEN, WEEKLY, Plan
from operations.errors import CestaError
from tests.building.world import DAY, shop_of

PLAN = Plan(first=0, weeks=6, held_out_weeks=1, daily_weeks=1)  # chosen on days 0 to 34


def test_the_last_release_before_a_day_answers() -> None:
    made = {name: PLAN.made_on(name, 30) for name in (FROZEN, "every 4 weeks", WEEKLY, DAILY)}
    assert made == {FROZEN: 0, "every 4 weeks": 28, WEEKLY: 28, DAILY: 30}


def test_a_release_is_made_once_for_all_schedules() -> None:
    answers = PLAN.answers([FROZEN, WEEKLY], until=14)
    assert answers == {0: list(range(14)), 7: list(range(7, 14))}


def test_daily_releases_are_made_in_the_last_chosen_weeks_only() -> None:
    assert PLAN.days(DAILY, 42) == range(28, 35)
    assert PLAN.days(WEEKLY, 42) == range(42)
    assert sorted(PLAN.answers([DAILY], until=42)) == list(range(28, 35))


def test_the_last_weeks_end_at_the_midnight_nearest_to_the_last_receipt() -> None:
    """The last day ends at four in the morning of the next, as in a shop west of Greenwich."""
    shop = shop_of([(1, 0.5, [1]), (1, 42.1, [1])], items=1)
    plan = Plan.last_weeks(shop, weeks=2, held_out_weeks=1, daily_weeks=4)
    assert (plan.first, plan.chosen_days, plan.daily_weeks) == (28 * DAY, 7, 1)
    assert plan.midnight(14) == 42 * DAY


def test_a_warm_start_goes_on_from_the_week_before() -> None:
    assert [PLAN.weekly_before(made) for made in (7, 28, 30, 35)] == [0, 21, 28, 28]


def test_too_few_weeks_are_refused() -> None:
    shop = shop_of([(1, 0.5, [1]), (1, 20.9, [1])], items=1)
    with pytest.raises(CestaError, match="cover 20 days; a replay of 2 weeks needs twice as long"):
        Plan.last_weeks(shop, weeks=2, held_out_weeks=1, daily_weeks=1)
