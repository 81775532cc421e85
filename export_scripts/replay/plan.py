"""Which release answers on which day of a replay, by schedule of retraining."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from export_scripts.receipts.shop import DAY_S, Shop
from operations.errors import CestaError

WEEK: Final = 7
FROZEN: Final = "frozen"
WEEKLY: Final = "weekly"
DAILY: Final = "daily"
EVERY_DAYS: Final[Mapping[str, int | None]] = MappingProxyType(
    {FROZEN: None, "every 4 weeks": 28, WEEKLY: WEEK, DAILY: 1}
)


@dataclass(frozen=True)
class Plan:
    """The replayed weeks; days are numbered from 0.

    The last weeks are held out, and the schedule is chosen on those before. Daily releases are made in the
    last ``daily_weeks`` of these only.
    """

    first: int  # the midnight of day 0, in seconds
    weeks: int
    held_out_weeks: int
    daily_weeks: int

    @classmethod
    def last_weeks(cls, shop: Shop, weeks: int, held_out_weeks: int, daily_weeks: int) -> "Plan":
        """The last weeks of a shop's receipts, by whole days. Raises CestaError if there are not so many."""
        if shop.day != DAY_S:
            raise CestaError("receipts without times cannot be replayed day by day")
        end = round((int(shop.times[-1]) + 1) / DAY_S) * DAY_S  # the nearest midnight, like split_by_time
        first = end - weeks * WEEK * DAY_S
        if shop.times[0] > first - weeks * WEEK * DAY_S:
            days = (end - int(shop.times[0])) // DAY_S
            raise CestaError(f"the receipts cover {days} days; a replay of {weeks} weeks needs twice as long")
        return cls(first, weeks, held_out_weeks, min(daily_weeks, weeks - held_out_weeks))

    @property
    def chosen_days(self) -> int:
        """The number of days that are not held out, which come first."""
        return WEEK * (self.weeks - self.held_out_weeks)

    def midnight(self, day: int) -> int:
        """The second at which a day begins."""
        return self.first + day * DAY_S

    def days(self, schedule: str, until: int) -> range:
        """The days before ``until`` on which a schedule is followed."""
        begin = self.chosen_days - WEEK * self.daily_weeks if schedule == DAILY else 0
        return range(begin, min(until, self.chosen_days if schedule == DAILY else until))

    def made_on(self, schedule: str, day: int) -> int:
        """The day at whose midnight the release of a schedule was made that answers on ``day``."""
        every = EVERY_DAYS[schedule]
        return 0 if every is None else day - day % every

    def weekly_before(self, made: int) -> int:
        """The day of the last weekly release before another; a warm start goes on from there."""
        return (made - 1) // WEEK * WEEK

    def answers(self, schedules: Sequence[str], until: int) -> dict[int, list[int]]:
        """The day of each release → the days on which any schedule needs its answers, in order of time."""
        needed: dict[int, set[int]] = {}
        for schedule in schedules:
            for day in self.days(schedule, until):
                needed.setdefault(self.made_on(schedule, day), set()).add(day)
        return {made: sorted(needed[made]) for made in sorted(needed)}
