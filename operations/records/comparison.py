"""What evaluate found when the active release and a candidate for its place met the same newest receipts."""

from collections.abc import Mapping
from typing import Literal

from operations.records.json_record import JsonRecord

Metric = Literal["hr_at_10", "ndcg_at_10", "mrr"]


class ThenAndNow(JsonRecord, frozen=True):
    """A number as it was, or as the active release has it, and as it is now."""

    then: float
    now: float


class Day(JsonRecord, frozen=True):
    """A day's baskets, and what they usually are, or were when the active release was made."""

    day: str  # ISO date, UTC
    baskets: int
    usual: float


class ReceiptsCompared(JsonRecord, frozen=True):
    """The candidate's receipts beside those that the active release was made from.

    ``shared`` counts the baskets of the days that both have, ``new`` those since, beside what as many days
    usually hold. ``familiar_items`` and ``familiar_customers`` are shares of new sales and new baskets: now,
    of those that the active release knows; then, of those known at the start of as many days before.
    """

    shared: ThenAndNow | None = None  # None: the active release's manifest does not count days
    shrunk_days: tuple[Day, ...] = ()  # shared days with the largest loss
    customers: ThenAndNow
    new: ThenAndNow | None = None  # None: no whole day is new
    quiet_days: tuple[Day, ...] = ()  # whole new days with the least of their usual baskets
    familiar_items: ThenAndNow | None = None
    familiar_customers: ThenAndNow | None = None


class Comparison(JsonRecord, frozen=True):
    """``n`` questions that both answered; ``problem`` says why there are none.

    Each metric has the means of both, their difference (candidate - active), and its 95 % interval.
    """

    release: int  # the active one when the candidate was evaluated
    digest: str  # of its files
    problem: str | None = None
    since: str | None = None  # the moment of the first receipt that is asked about
    n: int = 0
    active: Mapping[Metric, float] = {}
    candidate: Mapping[Metric, float] = {}
    difference: Mapping[Metric, float] = {}
    interval: Mapping[Metric, tuple[float, float]] = {}
    receipts: ReceiptsCompared | None = None

    def is_decisive(self, metric: Metric, uncertain: float) -> bool:
        """Is half of the interval at most the share ``uncertain`` of what the active release reaches?"""
        return self.n > 0 and self.half_width(metric) <= uncertain * self.active[metric]

    def half_width(self, metric: Metric) -> float:
        """Half of the interval."""
        low, high = self.interval[metric]
        return (high - low) / 2

    def in_words(self) -> str:
        """The difference in NDCG@10, or why there is none."""
        if not self.n:
            return f"{self.release}: {self.problem or 'no questions'}"
        (low, high), difference = self.interval["ndcg_at_10"], self.difference["ndcg_at_10"]
        return f"{self.release}: {difference:+.4f} ({low:+.4f} to {high:+.4f}), {self.n:,} questions"
