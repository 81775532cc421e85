"""The figures of a replay: quality by week and schedule, what it costs, and how the gate judges."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from export_scripts.quality.metrics import NAMES, Ranks, gains, interval, summary
from export_scripts.receipts.shop import Shop, load_shop
from export_scripts.replay.judge import judge
from export_scripts.replay.kept import day_name
from export_scripts.replay.plan import EVERY_DAYS, WEEK, WEEKLY
from export_scripts.replay.questions import Asked, DayQuestions, unknown_shares
from export_scripts.replay.run import COLD, TRIALS, WARM, Replay
from export_scripts.replay.trial import was_tried

COMPARED_WITH: Final = WEEKLY
REDRAWN: Final = 20  # draws of each pair of the gate, besides the pair itself

Figures = dict[str, Any]


class _Answered:
    """Everything that a schedule answered in some days, (n,) each."""

    def __init__(self, replay: Replay, days: Sequence[DayQuestions], schedule: str, numbers: Sequence[int]):
        plan = replay.plan
        ranks = [replay.kept(plan.made_on(schedule, day)).read(day_name(day)) for day in numbers]
        chosen = [days[day] for day in numbers]
        self.ranks: Ranks = np.concatenate([np.zeros(0), *ranks])
        self.owners = _joined([day.owners for day in chosen], np.int64)
        self.repeat = _joined([day.repeat for day in chosen], np.bool_)


def collect(
    replay: Replay,
    until: int,
    redrawn: int = REDRAWN,
    cold: Replay | None = None,
    schedules: Sequence[str] = tuple(EVERY_DAYS),
) -> Figures:
    """The figures of the days before ``until`` that are there. A week counts once all its days are.

    A warm replay is compared with the ``cold`` one of the same schedule, another with COMPARED_WITH.
    """
    shop = load_shop(replay.data)
    asked, plan = Asked(shop, replay.settings), replay.plan
    days = [asked.on(plan.midnight(day)) for day in range(until)]
    found = {name: _schedule(replay, shop, days, name, until, cold) for name in schedules}
    folders = [replay.kept(made).folder / TRIALS for made in range(WEEK, until, WEEK)]
    trials = [folder for folder in folders if was_tried(folder)]
    return {
        "start": WARM if replay.warm else COLD,
        "first_day": _date(plan.first),
        "weeks": until // WEEK,
        "chosen_weeks": plan.chosen_days // WEEK,
        "schedules": {name: figures for name, figures in found.items() if figures["weeks"]},
        "gate": judge(trials, replay.settings, redrawn) if len(trials) > 1 else {},
    }


def _schedule(
    replay: Replay,
    shop: Shop,
    days: Sequence[DayQuestions],
    schedule: str,
    until: int,
    cold: Replay | None,
) -> Figures:
    """A schedule's figures by week, and over the chosen and the held-out weeks."""
    plan = replay.plan
    followed = plan.days(schedule, until)
    weeks = [range(begin, begin + WEEK) for begin in followed[::WEEK]]
    whole = [week for week in weeks if all(_is_there(replay, schedule, day) for day in week)]
    made = sorted({plan.made_on(schedule, day) for week in whole for day in week})
    abouts = [replay.kept(day).about for day in made]
    found: Figures = {
        "trainings": len(made),
        "cpu_s": round(sum(about["cpu_s"] for about in abouts if about), 1),
        "weeks": {},
    }
    for week in whole:
        answered = _Answered(replay, days, schedule, week)
        found["weeks"][week.start // WEEK + 1] = {
            "first_day": _date(plan.midnight(week.start)),
            **_summaries(answered, replay),
            "unknown_items": _unknown(replay, shop, schedule, week),
        }
    chosen = [week for week in whole if week.stop <= plan.chosen_days]
    for name, part in (("chosen", chosen), ("held_out", [week for week in whole if week not in chosen])):
        if part:
            found[name] = _over(replay, days, schedule, part, cold)
    return found


def _over(
    replay: Replay,
    days: Sequence[DayQuestions],
    schedule: str,
    weeks: Sequence[range],
    cold: Replay | None,
) -> Figures:
    """A schedule's figures over weeks, and its difference from another one's on the same questions."""
    numbers = [day for week in weeks for day in week]
    answered = _Answered(replay, days, schedule, numbers)
    found: Figures = {"weeks": len(weeks), **_summaries(answered, replay)}
    beside, named = (cold, schedule) if cold else (replay, COMPARED_WITH)
    is_other = cold is not None or schedule != COMPARED_WITH
    if is_other and all(_is_there(beside, named, day) for day in numbers):
        other = _Answered(beside, days, named, numbers)
        settings = replay.settings
        values = gains(answered.ranks)[:, :2] - gains(other.ranks)[:, :2]
        rng = np.random.default_rng(settings.train.seed)
        bounds = interval(values, answered.owners, settings.evaluate.bootstrap, rng)
        found["difference"] = dict(zip(NAMES, values.mean(0).round(4).tolist(), strict=False))
        found["interval"] = dict(zip(NAMES, bounds.round(4).tolist(), strict=False))
    return found


def _summaries(answered: _Answered, replay: Replay) -> Figures:
    resamples, seed = replay.settings.evaluate.bootstrap, replay.settings.train.seed

    def of(chosen: NDArray[np.bool_] | slice) -> Figures:
        rng = np.random.default_rng(seed)
        return {**summary(answered.ranks[chosen], answered.owners[chosen], resamples, rng)}

    return {
        "all": of(slice(None)),
        "repeat": of(answered.repeat),
        "explore": of(~answered.repeat),
    }


def _unknown(replay: Replay, shop: Shop, schedule: str, week: range) -> float:
    """The share of a week's sales by items that the schedule's releases had not seen sold."""
    plan = replay.plan
    pairs = [
        unknown_shares(shop, plan.midnight(day), plan.midnight(plan.made_on(schedule, day))) for day in week
    ]
    return round(sum(share * n for share, n in pairs) / max(sum(n for _, n in pairs), 1), 4)


def _is_there(replay: Replay, schedule: str, day: int) -> bool:
    return replay.kept(replay.plan.made_on(schedule, day)).has(day_name(day))


def _joined(parts: list[NDArray[Any]], kind: type) -> NDArray[Any]:  # of int64 or bool
    return np.concatenate([np.zeros(0, kind), *parts])


def _date(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()
