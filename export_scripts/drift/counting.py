"""Counts baskets by period of time and feature, as the sampler of a release would see them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ensemble.candidate_sampler.groups import TENTHS, Groups
from export_scripts.receipts.shop import DAY_S, Shop
from operations.drift.features import HOURS, KINDS, SIZE_BOUNDS, SIZES, USERS, WEEKDAYS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

AT_ONCE: Final = 200_000  # baskets: some 50 MB
MONDAY: Final = 3  # 1970 began on a Thursday


@dataclass(frozen=True)
class Baskets:
    """Baskets in time order, in the rows of a release; row 0 is unknown to it."""

    offsets: Ints  # (baskets + 1,) into items
    items: NDArray[np.int32]
    users: NDArray[np.int32]  # (baskets,)
    named: NDArray[np.bool_]  # (baskets,) is there a user at all?
    times: Ints
    day: float  # in the unit of times

    def __len__(self) -> int:
        return len(self.users)

    @property
    def has_clock(self) -> bool:
        """Are the times seconds, or only ordinals?"""
        return self.day == DAY_S

    def part(self, start: int, end: int) -> "Baskets":
        """The baskets from start to end - 1."""
        offsets = self.offsets[start : end + 1]
        return Baskets(
            offsets - offsets[0],
            self.items[offsets[0] : offsets[-1]],
            self.users[start:end],
            self.named[start:end],
            self.times[start:end],
            self.day,
        )


class Counted(NamedTuple):
    """Counts and numbers of observations of each feature, by period."""

    counts: Mapping[str, Floats]  # (periods, labels)
    observations: Mapping[str, Floats]  # (periods,)


def labels_of(groups: Groups) -> dict[str, tuple[str, ...]]:
    """Feature → its labels, in the order of the counts."""
    return {
        "basket_size": SIZES,
        "users": USERS,
        "unknown_users": KINDS,
        "unknown_items": KINDS,
        "category": groups.categories,
        "popularity": TENTHS,
        "hour": HOURS,
        "weekday": WEEKDAYS,
    }


def baskets_of(shop: Shop, start: int, end: int) -> Baskets:
    """The shop's own baskets, all of whose items and users it knows."""
    whole = Baskets(shop.offsets, shop.items, shop.users, shop.users > 0, shop.times, shop.day)
    return whole.part(start, end)


def count(baskets: Baskets, period: Ints, periods: int, groups: Groups) -> Counted:
    """Count the baskets, of which each belongs to a ``period`` (baskets,)."""
    labels = labels_of(groups)
    counts = {name: np.zeros((periods, len(names))) for name, names in labels.items()}
    for start in range(0, len(baskets), AT_ONCE):
        end = min(start + AT_ONCE, len(baskets))
        found = _places(baskets.part(start, end), period[start:end], groups)
        for name, (of_period, place) in found.items():
            counts[name] += tally(of_period, place, periods, len(labels[name]))
    asked = counts["basket_size"].sum(1)
    observations = dict.fromkeys(labels, asked) | {"unknown_users": counts["unknown_users"].sum(1)}
    if not baskets.has_clock:
        for name in ("hour", "weekday"):
            del counts[name], observations[name]
    return Counted(counts, observations)


def tally(period: Ints, place: NDArray[np.integer], periods: int, places: int) -> Floats:
    """(periods, places) How often each place occurs in each period."""
    cells = np.bincount(period * places + place, minlength=periods * places)
    return cells.reshape(periods, places).astype(np.float64)


def _places(baskets: Baskets, period: Ints, groups: Groups) -> dict[str, tuple[Ints, Ints]]:
    """Feature → (periods, places of the labels), one for each basket or item."""
    sizes = np.diff(baskets.offsets)
    of_item = np.repeat(period, sizes)
    known = baskets.items > 0
    rows, of_known = baskets.items[known], of_item[known]
    named = baskets.named
    hours = np.floor_divide(baskets.times, DAY_S // 24)
    return {
        "basket_size": (period, np.searchsorted(SIZE_BOUNDS, sizes)),
        "users": (period, named.astype(np.int64)),
        "unknown_users": (period[named], (baskets.users[named] == 0).astype(np.int64)),
        "unknown_items": (of_item, (~known).astype(np.int64)),
        "category": (of_known, groups.category_of[rows].astype(np.int64)),
        "popularity": (of_known, groups.tenth_of[rows].astype(np.int64)),
        "hour": (period, hours % 24),
        "weekday": (period, (hours // 24 + MONDAY) % 7),
    }
