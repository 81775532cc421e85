"""Thresholds from an A/A comparison: how far apart a healthy shop's own weeks are.

For each past week a release is imagined that was made at its beginning. Its reference are the weeks before;
what was asked in the four weeks after it is compared, in windows of an hour, a day and a week.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from export_scripts.drift.counting import Counted, Floats
from export_scripts.settings import DriftSettings
from operations.drift.comparison import LEAST_OBSERVED
from operations.drift.divergence import distances
from operations.drift.features import BY_NAME, DAY, HOUR, WEEK

HOURS_OF: Final = {HOUR: 1, DAY: 24, WEEK: 7 * 24}
AGE_HOURS: Final = 28 * 24  # how old a release may get
STEP_HOURS: Final = {HOUR: 1, DAY: 24, WEEK: 24}  # between the starts of windows
FEWEST: Final = 8  # windows that make a threshold
LATEST: Final = 8  # imagined releases that tell what is new: a longer history knows more of what is sold
QUANTILE: Final = 0.99  # of the healthy windows: the few holidays of a year need not fit below


class Compared(NamedTuple):
    """The lower bounds of one feature's distances in healthy windows, by the hour in which each began."""

    low: Floats
    starts: Floats


def calibrate(
    hourly: Counted, new_items: Floats, new_users: Floats, reference_hours: int, settings: DriftSettings
) -> tuple[dict[str, dict[str, float]], int]:
    """Return window → feature → threshold, and the number of windows of a week behind them.

    ``new_items`` and ``new_users`` (hours, days) are counts by the day of the first sale; see `record.py`.
    """
    thresholds: dict[str, dict[str, float]] = {}
    weeks = 0
    for window in HOURS_OF:
        compared = compare_healthy(hourly, new_items, new_users, reference_hours, window)
        weeks = max((len(found.low) for found in compared.values()), default=0) if window == WEEK else weeks
        thresholds[window] = {name: threshold(name, found.low, settings) for name, found in compared.items()}
    return thresholds, weeks


def threshold(name: str, healthy: Floats, settings: DriftSettings) -> float:
    """The threshold of a feature that the distances of healthy windows give."""
    if len(healthy) < FEWEST:
        return settings.uncalibrated
    largest = settings.margin * float(np.quantile(healthy, QUANTILE))
    return round(min(max(largest, settings.least, BY_NAME[name].least), 1.0), 4)


def compare_healthy(
    hourly: Counted, new_items: Floats, new_users: Floats, reference_hours: int, window: str
) -> dict[str, Compared]:
    """Compare each past week's imagined release with what followed."""
    hours = len(new_items)
    made = list(release_hours(hours, reference_hours))
    compared = {}
    for name, counts in hourly.counts.items():
        if window in BY_NAME[name].windows and not BY_NAME[name].rising:
            sums = (_cumulative(counts), _cumulative(hourly.observations[name]))
            compared[name] = _compare_all(sums, made, reference_hours, window)
    for name, new in (("unknown_items", new_items), ("unknown_users", new_users)):
        compared[name] = _compare_unknown(new, hourly.observations[name], made, window)
    return compared


def release_hours(hours: int, reference_hours: int) -> Iterator[int]:
    """The hours at which releases are imagined: weeks apart, counted back from the end."""
    week = HOURS_OF[WEEK]
    yield from reversed(range(hours - week, reference_hours - 1, -week))


def unknown_share(new: Floats, made: list[int]) -> Floats:
    """(known, unknown) Counts in the four weeks after each of the latest imagined releases, in sum."""
    total = np.zeros(2)
    for hour in made[-LATEST:]:
        after = new[hour : hour + AGE_HOURS]
        unknown = after[:, hour // 24 :].sum()
        total += (after.sum() - unknown, unknown)
    return total


def _compare_all(sums: tuple[Floats, Floats], made: list[int], reference_hours: int, window: str) -> Compared:
    counts, observed = sums
    low, starts = [np.zeros(0)], [np.zeros(0)]
    for hour in made:
        begin, end = _windows(hour, len(counts) - 1, window)
        before = counts[hour] - counts[hour - reference_hours]
        n = observed[hour] - observed[hour - reference_hours]
        asked = observed[end] - observed[begin]
        found = distances(before, counts[end] - counts[begin], n, asked)
        enough = asked >= LEAST_OBSERVED
        low.append(found.low[enough])
        starts.append(begin[enough].astype(np.float64))
    return Compared(np.concatenate(low), np.concatenate(starts))


def _compare_unknown(new: Floats, observations: Floats, made: list[int], window: str) -> Compared:
    before, whole = unknown_share(new, made), _cumulative(new.sum(1))
    observed = _cumulative(observations)
    low, starts = [np.zeros(0)], [np.zeros(0)]
    for hour in made[-LATEST:]:
        unknown = _cumulative(new[:, hour // 24 :].sum(1))
        begin, end = _windows(hour, len(new), window)
        n_unknown, n = unknown[end] - unknown[begin], whole[end] - whole[begin]
        asked = observed[end] - observed[begin]
        found = distances(before, np.stack([n - n_unknown, n_unknown], 1), observed[-1], asked)
        rises = n_unknown * before.sum() > n * before[1]
        enough = asked >= LEAST_OBSERVED
        low.append(np.where(rises, found.low, 0.0)[enough])
        starts.append(begin[enough].astype(np.float64))
    return Compared(np.concatenate(low), np.concatenate(starts))


def _windows(hour: int, hours: int, window: str) -> tuple[np.ndarray, np.ndarray]:
    """First hours and ends of the windows after a release."""
    last = min(hour + AGE_HOURS, hours) - HOURS_OF[window]
    begin = np.arange(hour, last + 1, STEP_HOURS[window])
    return begin, begin + HOURS_OF[window]


def _cumulative(counts: Floats) -> Floats:
    """Sums of all hours before each one: (hours, …) → (hours + 1, …)."""
    return np.concatenate([np.zeros((1, *counts.shape[1:])), np.cumsum(counts, axis=0)])
