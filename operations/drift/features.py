"""The features that are compared, their labels and the windows of time."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

SIZE_BOUNDS: Final = (0, 1, 2, 3, 5, 10, 20, 50, 100)  # of the sampler's histogram; a contract test compares
SIZES: Final = ("0", "1", "2", "3", "4-5", "6-10", "11-20", "21-50", "51-100", "101+")
HOURS: Final = tuple(f"{hour:02}" for hour in range(24))
WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
KNOWN, UNKNOWN = KINDS = ("known", "unknown")
NONE, NAMED = USERS = ("none", "named")
UNSOLD: Final = "unsold"  # the sampler's label; a contract test compares
SCORES: Final = tuple(map(str, range(1, 11)))

HOUR, DAY, WEEK = "hour", "day", "week"
WINDOWS_S: Final = {HOUR: 3600, DAY: 86_400, WEEK: 7 * 86_400}


@dataclass(frozen=True)
class Feature:
    """A property of questions that has a distribution."""

    name: str
    title: str  # for people
    windows: tuple[str, ...] = (HOUR, DAY, WEEK)  # the weekdays of one day say nothing
    rising: str = ""  # only a larger share of this label is drift
    least: float = 0.0  # no threshold is lower: a release uses neither hours nor weekdays


FEATURES: Final = (
    Feature("basket_size", "basket sizes"),
    Feature("users", "share of questions that name a user"),
    Feature("unknown_users", "share of unknown users among those named", rising=UNKNOWN),
    Feature("unknown_items", "share of unknown items", rising=UNKNOWN),
    Feature("category", "category mix"),
    Feature("popularity", "popularity of the items, in tenths of the sales"),
    Feature("sources", "sources of the candidates", windows=(DAY, WEEK)),
    Feature("first_score", "score of the first place, in tenths", windows=(WEEK,)),
    Feature("hour", "hours of the day", windows=(DAY, WEEK), least=0.15),
    Feature("weekday", "days of the week", windows=(WEEK,), least=0.15),
)
BY_NAME: Final[Mapping[str, Feature]] = {feature.name: feature for feature in FEATURES}


@dataclass(frozen=True)
class Histogram:
    """Counts by label, made of so many independent observations."""

    counts: Mapping[str, float]
    observations: float

    def over(self, labels: tuple[str, ...]) -> NDArray[np.float64]:
        """(labels,) The counts in the order of ``labels``."""
        return np.array([self.counts.get(label, 0.0) for label in labels], np.float64)


Profile = Mapping[str, Histogram]  # by feature


def of_counts(
    labels: tuple[str, ...], counts: NDArray[np.float64] | NDArray[np.int64], observations: float
) -> Histogram:
    """The histogram of counts (labels,)."""
    values = (float(count) for count in counts)
    return Histogram(dict(zip(labels, values, strict=True)), float(observations))
