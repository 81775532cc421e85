"""Compares a profile of questions with the record of a release, feature by feature."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from operations.drift.divergence import distances
from operations.drift.features import FEATURES, KNOWN, UNKNOWN, UNSOLD, Feature, Histogram, Profile
from operations.records.drift_record import DriftRecord

LEAST_OBSERVED: Final = 30  # with fewer observations the interval is not to be trusted
SHOWN: Final = 3  # labels in a sentence


class Change(NamedTuple):
    """A label and its shares."""

    label: str
    before: float
    now: float


class Finding(NamedTuple):
    """One feature in one window of time. ``low`` above ``threshold`` is drift."""

    feature: str
    window: str
    distance: float
    low: float
    high: float
    threshold: float
    observations: float
    changes: tuple[Change, ...]  # the shares of every label

    @property
    def drifted(self) -> bool:
        """Is it further away than chance and a healthy shop explain?"""
        return self.low > self.threshold

    def words(self) -> str:
        """The labels whose shares changed most, with their shares."""
        largest = sorted(self.changes, key=lambda change: -abs(change.now - change.before))[:SHOWN]
        return ", ".join(f"{c.label} {c.before:.1%} → {c.now:.1%}" for c in largest if c.now != c.before)

    def as_object(self) -> dict[str, Any]:
        """The finding as JSON."""
        changes = [change._asdict() for change in self.changes]
        return self._asdict() | {"changes": changes, "drifted": self.drifted}

    @classmethod
    def of_object(cls, described: Mapping[str, Any]) -> "Finding":
        """The finding that ``as_object`` described."""
        values = {name: described[name] for name in cls._fields}
        return cls(**values | {"changes": tuple(Change(**change) for change in described["changes"])})


def compare(record: DriftRecord, asked: Profile, window: str) -> list[Finding]:
    """The findings for the features that ``asked`` has and that the record has a threshold for."""
    asked = _with_unsold_as_unknown(asked)
    thresholds = record.thresholds.get(window, {})
    return [
        _compare(feature, record, asked[feature.name], window, thresholds[feature.name])
        for feature in FEATURES
        if feature.name in asked
        and feature.name in record.features
        and feature.name in thresholds
        and asked[feature.name].observations >= LEAST_OBSERVED
    ]


def _with_unsold_as_unknown(asked: Profile) -> Profile:
    """Count items that the release lists and never saw sold as unknown, as its expected share does.

    A products table may list items before their first sale. Each release would drift by their sales.
    """
    items, tenths = asked.get("unknown_items"), asked.get("popularity")
    unsold = tenths.counts.get(UNSOLD, 0.0) if tenths else 0.0
    if not items or not tenths or not unsold:
        return asked
    kinds = {
        KNOWN: max(items.counts.get(KNOWN, 0.0) - unsold, 0.0),
        UNKNOWN: items.counts.get(UNKNOWN, 0.0) + unsold,
    }
    sold = {label: n for label, n in tenths.counts.items() if label != UNSOLD}
    return {
        **asked,
        "unknown_items": Histogram(kinds, items.observations),
        "popularity": Histogram(sold, tenths.observations),
    }


def _compare(
    feature: Feature, record: DriftRecord, asked: Histogram, window: str, threshold: float
) -> Finding:
    kept = record.features[feature.name]
    before = Histogram(kept.counts, kept.observations)
    labels = (*before.counts, *(label for label in asked.counts if label not in before.counts))
    p, q = before.over(labels), asked.over(labels)
    found = distances(p, q[None], before.observations, asked.observations)
    shares = p / max(p.sum(), 1e-9), q / max(q.sum(), 1e-9)
    distance, low, high = (float(value[0]) for value in found)
    if feature.rising and not _rises(feature.rising, labels, *shares):
        distance = low = high = 0.0
    changes = tuple(
        Change(label, round(float(a), 6), round(float(b), 6))
        for label, a, b in zip(labels, *shares, strict=True)
    )
    return Finding(feature.name, window, distance, low, high, threshold, asked.observations, changes)


def _rises(label: str, labels: tuple[str, ...], before: Any, now: Any) -> bool:
    place = labels.index(label) if label in labels else -1
    return place >= 0 and bool(now[place] > before[place])
