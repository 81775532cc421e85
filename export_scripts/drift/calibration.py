"""Measures false alarms on a shop's own receipts, and which planted drifts are found how soon.

python -m export_scripts.drift.calibration [OUT]

Every second week a release is imagined that knows only what came before. The four weeks after it are compared
day by day, as `cesta drift` would each evening: the last day, and from the seventh day on the last week.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from ensemble.candidate_sampler.arrays import load_arrays
from ensemble.candidate_sampler.groups import Groups, groups_of
from export_scripts.drift.counting import Baskets, baskets_of, count, labels_of
from export_scripts.drift.planting import PLANTS
from export_scripts.drift.record import record_of_receipts
from export_scripts.receipts.shop import Shop, load_shop
from export_scripts.settings import load_settings
from operations.drift.comparison import Finding, compare
from operations.drift.features import DAY, WEEK, of_counts
from operations.outputs import ARTIFACTS, Outputs
from operations.records.drift_record import DriftRecord

STEP_DAYS: Final = 14  # between two imagined releases
AGE_DAYS: Final = 28
LEAST_DAYS: Final = 20 * 7  # of receipts before the first imagined release
SEED: Final = 7


class Month(NamedTuple):
    """The four weeks after an imagined release: the findings beyond their thresholds, day by day."""

    alarms: list[list[Finding]]

    @property
    def episodes(self) -> int:
        """How often somebody would have been called: a feature that goes on is the same alarm."""
        features = [{finding.feature for finding in of_day} for of_day in self.alarms]
        before: list[set[str]] = [set(), *features]
        return sum(bool(now - earlier) for earlier, now in zip(before, features, strict=False))

    def first(self) -> int | None:
        """The day of the first alarm, from 1."""
        return next((day for day, found in enumerate(self.alarms, 1) if found), None)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?", default=ARTIFACTS)
    out = Outputs(parser.parse_args().out)
    shop, settings = load_shop(out.data), load_settings().drift
    groups = groups_of(load_arrays(out.run / "arrays"))
    ends = list(release_baskets(shop))
    print(f"{len(ends)} imagined releases, {shop.first} to {shop.last}\n")
    print("| planted | alarms in four weeks | found on day 1 | within 7 days | within four weeks | by |")
    print("|---|--:|--:|--:|--:|---|")
    records = [record_of_receipts(shop, end, groups, settings) for end in ends]
    for name in PLANTS:
        print(row(name, months(shop, ends, records, groups, name)))


def release_baskets(shop: Shop) -> Iterator[int]:
    """Numbers of the baskets before which releases are imagined."""
    last = float(shop.times[-1]) + 1 - AGE_DAYS * shop.day
    days = int((last - float(shop.times[0])) / shop.day) - LEAST_DAYS
    for step in reversed(range(0, max(days + 1, 0), STEP_DAYS)):
        yield shop.first_basket_at(int(np.ceil(last - step * shop.day)))


def months(
    shop: Shop, ends: Sequence[int], records: Sequence[DriftRecord], groups: Groups, name: str
) -> list[Month]:
    """What each release's four weeks would have raised with this drift planted in them."""
    found = []
    for end, record in zip(ends, records, strict=True):
        start_s = float(shop.times[end])
        stop = shop.first_basket_at(int(np.ceil(start_s + AGE_DAYS * shop.day)))
        known = np.zeros(shop.n_items, bool)
        known[shop.items[: shop.offsets[end]]] = True
        seen = np.zeros(shop.n_users, bool)
        seen[shop.users[:end]] = True
        own = baskets_of(shop, end, stop)
        rows = np.where(known[own.items], own.items, 0)
        users = np.where(seen[own.users], own.users, 0)
        as_released = Baskets(own.offsets, rows, users, own.named, own.times, own.day)
        planted = PLANTS[name](as_released, groups, np.random.default_rng(SEED))
        found.append(Month(list(_alarms(planted, start_s, record, groups))))
    return found


def _alarms(baskets: Baskets, start_s: float, record: DriftRecord, groups: Groups) -> Iterator[list[Finding]]:
    """The alarms of each day."""
    day = np.floor((baskets.times - start_s) / baskets.day).astype(np.int64)
    counted = count(baskets, np.clip(day, 0, AGE_DAYS - 1), AGE_DAYS, groups)
    labels = labels_of(groups)
    for last in range(AGE_DAYS):
        alarms = []
        for window, days in ((DAY, 1), (WEEK, 7)):
            part = slice(last + 1 - days, last + 1)
            if part.start < 0:
                continue
            asked = {
                name: of_counts(labels[name], counts[part].sum(0), counted.observations[name][part].sum())
                for name, counts in counted.counts.items()
            }
            alarms += [finding for finding in compare(record, asked, window) if finding.drifted]
        yield alarms


def row(name: str, found: Sequence[Month]) -> str:
    """A line of the table."""
    first = [month.first() for month in found]
    raised = [finding for month in found for of_day in month.alarms for finding in of_day]
    features = [finding.feature for finding in raised]
    by = sorted(set(features), key=lambda feature: -features.count(feature))[:3]
    shares = [sum(day is not None and day <= most for day in first) / len(found) for most in (1, 7, 28)]
    episodes = sum(month.episodes for month in found) / len(found)
    cells = [f"{episodes:.2f}", *(f"{share:.0%}" for share in shares), ", ".join(by)]
    return f"| {name} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
