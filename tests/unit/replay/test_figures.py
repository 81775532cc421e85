"""The figures of a replay that has answered only a part of its weeks."""

from pathlib import Path

import numpy as np
import pytest

from export_scripts.replay import figures
from export_scripts.replay.kept import day_name
from export_scripts.replay.plan import Plan
from export_scripts.replay.questions import Asked
from export_scripts.replay.run import Replay
from export_scripts.settings import load_settings
from tests.building.world import DAY, shop_of

WEEKS = 5
SETTINGS = load_settings(overrides={"sampler.min_support": 1, "evaluate.bootstrap": 20})
SHOP = shop_of([(1, day + 0.5, [1, 2, 3]) for day in range(8 * WEEKS)], items=4)


def test_only_whole_weeks_of_the_chosen_schedules_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weekly releases have answered the first and the fifth week. Others share some of these answers."""
    monkeypatch.setattr(figures, "load_shop", lambda _: SHOP)
    plan = Plan(first=DAY * WEEKS, weeks=WEEKS, held_out_weeks=0, daily_weeks=0)
    replay = Replay(tmp_path, tmp_path, plan, SETTINGS)
    asked, answered = Asked(SHOP, SETTINGS), [*range(7), *range(28, 35)]
    for day in answered:
        questions = asked.on(plan.midnight(day))
        replay.kept(day - day % 7).keep(day_name(day), np.zeros(len(questions.owners)))
    found = figures.collect(replay, 7 * WEEKS, schedules=["every 4 weeks", "weekly"])["schedules"]
    assert list(found) == ["every 4 weeks", "weekly"]
    for schedule in found.values():
        assert list(schedule["weeks"]) == [1, 5]
        assert schedule["chosen"]["weeks"] == 2
        assert schedule["chosen"]["all"]["n"] == sum(week["all"]["n"] for week in schedule["weeks"].values())
