"""Makes the reference that a release keeps in its manifest."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ensemble.candidate_sampler.groups import Groups, groups_of
from ensemble.candidate_sampler.sources import SOURCES
from ensemble.reference import Reference
from export_scripts.drift.answers import Answered, answer
from export_scripts.drift.counting import (
    AT_ONCE,
    Baskets,
    Counted,
    Floats,
    Ints,
    baskets_of,
    count,
    labels_of,
    tally,
)
from export_scripts.drift.thresholds import calibrate, release_hours, threshold, unknown_share
from export_scripts.durations import step
from export_scripts.receipts.shop import DAY_S, Shop
from export_scripts.settings import DriftSettings
from operations.drift.divergence import distances
from operations.drift.features import BY_NAME, DAY, KINDS, SCORES, WEEK
from operations.records.drift_record import DriftRecord, HistogramRecord

WEEK_HOURS = 7 * 24


@step("drift")
def make_record(shop: Shop, reference: Reference, settings: DriftSettings) -> DriftRecord:
    """The reference of a release of the whole shop: its last weeks, with thresholds from the weeks before.

    A shop whose receipts cover less time keeps what there is, down to a half of it for the reference.
    """
    record = record_of_receipts(shop, shop.n_baskets, groups_of(reference.sampler.arrays), settings)
    spans = Spans.of(shop, shop.n_baskets, settings)
    start = shop.first_basket_at(int(np.ceil(spans.start + (spans.hours - spans.reference) * spans.hour)))
    baskets = baskets_of(shop, start, shop.n_baskets)
    answered = answer(baskets, reference, settings.questions)
    edges = tuple(np.round(np.quantile(answered.scores, np.arange(1, 10) / 10), 6).tolist())
    days = spans.hour_of(baskets.times)[answered.places] // 24
    features, thresholds = dict(record.features), {w: dict(of) for w, of in record.thresholds.items()}
    for name, per_question in answer_counts(answered, edges).items():
        labels = tuple(SOURCES) if name == "sources" else SCORES
        features[name] = _record(labels, per_question.sum(0), float(len(per_question)))
        for window, period in ((DAY, days), (WEEK, days // 7)):
            if window not in BY_NAME[name].windows:
                continue
            healthy = threshold(name, _leave_one_out(per_question, period), settings)
            thresholds[window][name] = settings.thresholds.get(name, healthy)
    changes = {"features": features, "thresholds": thresholds, "score_edges": edges}
    return record.model_copy(update=changes)


def record_of_receipts(shop: Shop, end: int, groups: Groups, settings: DriftSettings) -> DriftRecord:
    """The part that the baskets before ``end`` tell, without asking the release for anything."""
    spans = Spans.of(shop, end, settings)
    start = shop.first_basket_at(int(np.ceil(spans.start)))
    baskets = baskets_of(shop, start, end)
    hours = spans.hour_of(baskets.times)
    hourly = count(baskets, hours, spans.hours, groups)
    new_items, new_users = first_sales(shop, start, baskets, hours, spans)
    calibrated, weeks = calibrate(hourly, new_items, new_users, spans.reference, settings)
    return DriftRecord(
        first=_moment(shop, spans.start + (spans.hours - spans.reference) * spans.hour),
        last=shop.last if end == shop.n_baskets else _moment(shop, float(shop.times[end - 1])),
        features=_features(hourly, new_items, new_users, spans, groups),
        thresholds={
            window: {name: settings.thresholds.get(name, value) for name, value in of_window.items()}
            for window, of_window in calibrated.items()
        },
        timezone=settings.timezone,
        calibrated=weeks,
    )


class Spans(NamedTuple):
    """The time that a reference looks at, in hours counted from ``start``."""

    start: float  # in the unit of the shop's times
    hour: float  # likewise
    hours: int
    reference: int  # of them, the last

    @classmethod
    def of(cls, shop: Shop, end_basket: int, settings: DriftSettings) -> "Spans":
        """The hours back from ``end_basket``; the first one may not be complete."""
        hour, end = shop.day / 24, float(shop.times[end_basket - 1]) + 1
        covered = max(int(np.ceil((end - float(shop.times[0])) / hour)), 2)
        hours = min((settings.weeks + settings.calibration_weeks) * WEEK_HOURS, covered)
        reference = min(settings.weeks * WEEK_HOURS, max(hours // 2 // 24 * 24, hours // 2, 1))
        return cls(end - hours * hour, hour, hours, reference)

    def hour_of(self, times: Ints) -> Ints:
        """(baskets,) The hours in which they were bought."""
        hours = np.floor((times - self.start) / self.hour).astype(np.int64)
        clipped: Ints = np.clip(hours, 0, self.hours - 1)
        return clipped


def first_sales(shop: Shop, start: int, baskets: Baskets, hours: Ints, spans: Spans) -> tuple[Floats, Floats]:
    """(hours, days + 1) Counts of items, and of baskets with a user, by the day of their first sale.

    Day 0 also stands for the time before. What was first sold on day d was unknown to a release made before.
    """
    days = spans.hours // 24 + 1
    first_item = _first_days(shop.n_items, shop.items[: shop.offsets[start]])
    first_user = _first_days(shop.n_users, shop.users[:start])
    of_basket = (hours // 24).astype(np.int16)
    sizes = np.diff(baskets.offsets)
    _note(first_item, baskets.items, np.repeat(of_basket, sizes))
    _note(first_user, baskets.users, of_basket)
    items, named = np.zeros((spans.hours, days)), baskets.named
    for begin in range(0, len(baskets), AT_ONCE):
        part = baskets.part(begin, min(begin + AT_ONCE, len(baskets)))
        of_item = np.repeat(hours[begin : begin + AT_ONCE], np.diff(part.offsets))
        items += tally(of_item, first_item[part.items], spans.hours, days)
    return items, tally(hours[named], first_user[baskets.users[named]], spans.hours, days)


def _first_days(n: int, before: NDArray[np.int32]) -> NDArray[np.int16]:
    """(n,) 0 for rows that were sold ``before``, else the largest number."""
    first = np.full(n, np.iinfo(np.int16).max, np.int16)
    first[before] = 0
    return first


def _note(first: NDArray[np.int16], rows: NDArray[np.int32], days: NDArray[np.int16]) -> None:
    """Lower ``first`` to the day on which a row comes first: the earliest is written last."""
    fresh = np.flatnonzero(first[rows] == np.iinfo(np.int16).max)[::-1]
    first[rows[fresh]] = days[fresh]


def _features(
    hourly: Counted, new_items: Floats, new_users: Floats, spans: Spans, groups: Groups
) -> dict[str, HistogramRecord]:
    """The histograms of the last weeks; the shares of what is unknown are those of past releases."""
    labels, last = labels_of(groups), slice(spans.hours - spans.reference, None)
    features = {
        name: _record(labels[name], counts[last].sum(0), hourly.observations[name][last].sum())
        for name, counts in hourly.counts.items()
    }
    made = list(release_hours(spans.hours, spans.reference))
    for name, new in (("unknown_items", new_items), ("unknown_users", new_users)):
        share = unknown_share(new, made)
        if share.sum():
            features[name] = _record(KINDS, share, hourly.observations[name].sum())
    return features


def answer_counts(answered: Answered, edges: tuple[float, ...]) -> dict[str, Floats]:
    """Feature → (questions, labels) of what was answered."""
    tenths = np.searchsorted(edges, answered.scores)
    scores = np.zeros((len(tenths), len(SCORES)))
    scores[np.arange(len(tenths)), tenths] = 1
    return {"sources": answered.sources, "first_score": scores}


def _leave_one_out(per_question: Floats, period: Ints) -> Floats:
    """(periods,) The distance of each period's questions from all others.

    Chance is not subtracted: it is part of what a sample of so few questions shows.
    """
    numbers, places = np.unique(period, return_inverse=True)
    counts = np.zeros((len(numbers), per_question.shape[1]))
    np.add.at(counts, places, per_question)
    return distances(counts.sum(0) - counts, counts, np.inf, np.inf).distance


def _record(labels: tuple[str, ...], counts: Floats, observations: float) -> HistogramRecord:
    values = {label: round(float(value), 4) for label, value in zip(labels, counts, strict=True)}
    return HistogramRecord(counts=values, observations=float(observations))


def _moment(shop: Shop, time: float) -> str:
    """A time in words: an ISO date, or the ordinal of a shop without time stamps."""
    whole = int(np.ceil(time))
    return f"{np.datetime64(whole, 's')}Z" if shop.day == DAY_S else str(whole)
