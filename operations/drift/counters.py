"""Reads the sampler's counters from Triton's metrics page, and turns sums of them into a profile."""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ensemble.candidate_sampler.sources import SOURCES
from operations.drift.features import (
    HOURS,
    KINDS,
    NAMED,
    NONE,
    SIZES,
    UNKNOWN,
    WEEKDAYS,
    Histogram,
    Profile,
    of_counts,
)

LINE: Final = re.compile(r"^cesta_sampler_(\w+)\{(.*)\} (\S+)$", re.MULTILINE)
LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
OF_PROCESS: Final = ("release", "model_instance")
CANARY: Final = (  # what the supervisor's canary adds to the counts: one unknown item, no user
    ("queries_total", "basket=unknown,user=none"),
    ("item_ids_total", f"item={UNKNOWN}"),
)


class Key(NamedTuple):
    """A series of the sampler, whatever the process: the family without its prefix, and the other labels."""

    family: str
    labels: str  # as name=value, sorted


Counts = Mapping[Key, float]
Floats = NDArray[np.float64]


def read_page(text: str, release: int) -> dict[tuple[str, Key], float]:
    """The counters of a release by process (its instance) and series."""
    found = {}
    for family, labels, value in LINE.findall(text):
        by_name = {name: _plain(quoted) for name, quoted in LABEL.findall(labels)}
        if by_name.get("release") == str(release) and not family.startswith("stage_seconds"):
            key = Key(family, _joined(by_name))
            found[by_name.get("model_instance", ""), key] = float(value)
    return found


def _joined(labels: Mapping[str, str]) -> str:
    return ",".join(f"{name}={labels[name]}" for name in sorted(labels) if name not in OF_PROCESS)


def _plain(quoted: str) -> str:
    return quoted.replace('\\"', '"').replace("\\n", "\n").replace("\\\\", "\\")


def gained(before: Mapping[tuple[str, Key], float], now: Mapping[tuple[str, Key], float]) -> dict[Key, float]:
    """What the counters gained between two looks. One that is smaller than before has begun again at 0."""
    sums: dict[Key, float] = {}
    for place, value in now.items():
        earlier = before.get(place, 0.0)
        sums[place[1]] = sums.get(place[1], 0.0) + (value - earlier if value >= earlier else value)
    return sums


def without_canaries(counts: Counts, canaries: float, candidates: int) -> dict[Key, float]:
    """The counts of shops: canaries are questions, too, and their candidates are best sellers."""
    shops = dict(counts)
    taken = {Key(*place): canaries for place in CANARY}
    taken[Key("candidates_total", "source=popular")] = canaries * candidates
    taken |= {key: canaries for key in counts if key.family == "basket_items_bucket" and key.labels != "le=0"}
    for key, number in taken.items():
        if key in shops:
            shops[key] -= number
    return shops


def questions(counts: Counts) -> float:
    """The number of queries."""
    return max(sum(count for key, count in counts.items() if key.family == "queries_total"), 0.0)


def profile_of(counts: Counts, by_hour: Floats, by_weekday: Floats) -> Profile:
    """The features of counted queries, with their numbers (24,) by hour of the day and (7,) by weekday."""
    asked = questions(counts)

    def total(family: str, part: str) -> float:
        found = (n for key, n in counts.items() if key.family == family and part in key.labels.split(","))
        return max(sum(found), 0.0)

    def by_label(family: str, name: str, observations: float = asked) -> Histogram:
        prefix = f"{name}="
        labels = {k.labels.removeprefix(prefix): max(n, 0.0) for k, n in counts.items() if k.family == family}
        return Histogram(labels, observations)

    named = {kind: total("queries_total", f"user={kind}") for kind in KINDS}
    users = {NONE: total("queries_total", f"user={NONE}"), NAMED: sum(named.values())}
    sources = {source: total("candidates_total", f"source={source}") for source in SOURCES}
    return {
        "basket_size": of_counts(SIZES, _sizes(counts), asked),
        "users": Histogram(users, asked),
        "unknown_users": Histogram(named, users[NAMED]),
        "unknown_items": by_label("item_ids_total", "item"),
        "category": by_label("basket_categories_total", "category"),
        "popularity": by_label("basket_tenths_total", "tenth"),
        "sources": Histogram(sources, asked),
        "hour": of_counts(HOURS, by_hour, float(by_hour.sum())),
        "weekday": of_counts(WEEKDAYS, by_weekday, float(by_weekday.sum())),
    }


def _sizes(counts: Counts) -> Floats:
    """(sizes,) Queries by the size of their basket, from the cumulative buckets."""
    buckets = {
        float(key.labels.removeprefix("le=")): count
        for key, count in counts.items()
        if key.family == "basket_items_bucket"
    }
    cumulative = [buckets[bound] for bound in sorted(buckets)] or [0.0] * len(SIZES)
    sizes: Floats = np.maximum(np.diff([0.0, *cumulative]), 0.0)
    return sizes
