"""Compares receipts that a release has not seen with its reference."""

from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ensemble.candidate_sampler.groups import TENTHS, Groups, groups_of
from ensemble.candidate_sampler.ids import Ids, Rows
from ensemble.candidate_sampler.sampler import CandidateSampler
from ensemble.candidate_sampler.sources import SOURCES
from ensemble.reference import Reference
from export_scripts.drift.answers import answer
from export_scripts.drift.counting import Baskets, Ints, count, labels_of
from export_scripts.drift.record import answer_counts
from export_scripts.receipts.assembly import time_range
from export_scripts.receipts.shop import DAY_S, Shop, load_shop
from export_scripts.receipts.times.calendar import now_at_the_latest
from operations.drift.comparison import Finding, compare
from operations.drift.features import DAY, SCORES, UNSOLD, WEEK, Histogram, Profile, of_counts
from operations.drift.live import NO_RECORD
from operations.errors import CestaError
from operations.records.contract import GRAPH
from operations.records.drift_record import DriftRecord
from operations.records.manifest import ReleaseManifest
from operations.releases.mirror.local_files import local_files
from operations.releases.repository import require_active
from operations.releases.stores.store import Repository

DAYS_OF: Final = {DAY: 1, WEEK: 7}
COMPLETE: Final = 0.95  # of a window that the receipts must cover
QUESTIONS: Final = 1_500  # that sampler and scorer answer, for a window


@dataclass(frozen=True)
class Released:
    """A release with its reference, and the chain that answers."""

    manifest: ReleaseManifest
    record: DriftRecord
    chain: Reference

    @cached_property
    def groups(self) -> Groups:
        """The groups of its items."""
        return groups_of(self.chain.sampler.arrays)


@dataclass(frozen=True)
class Drift:
    """What the new receipts say."""

    release: int
    since: str  # the release's last receipt
    until: str  # the last of the new receipts
    days: float  # that they cover
    baskets: int
    in_future: int  # receipts that are left out: a till's clock is wrong
    unknown_sales: float | None  # share of the units sold, of items that the release never saw sold
    findings: tuple[Finding, ...]
    daily: dict[str, list[tuple[float, float]]]  # feature → (day after the release, distance)


def open_release(repository: Repository, number: int | None) -> Released:
    """Open a release, by default the active one. Raises CestaError if it has no reference."""
    with closing(local_files(repository)) as local:
        local.refresh()
        manifest = local.fetch(require_active(repository) if number is None else number)
        if manifest.drift is None:
            raise CestaError(f"release {manifest.release}: {NO_RECORD}")
        root = Path(local.folder.root)
        graph = next(root / name for name in manifest.files if name.endswith(f"/{GRAPH}"))
        arrays = next(root / name for name in manifest.files if "/arrays/" in name).parent
        try:
            reference = Reference(CandidateSampler.load(arrays), graph)
        except (OSError, KeyError, ValueError) as error:  # arrays that another version has not written
            raise CestaError(
                f"release {manifest.release} was made by another version of cesta "
                f"({type(error).__name__}: {error}); use that version, or build and publish anew"
            ) from None
        return Released(manifest, manifest.drift, reference)


def compare_receipts(data: Path, released: Released) -> Drift:
    """Compare etl's receipts after the release's last one, up to now; nothing is found if there are none."""
    whole, record = load_shop(data), released.record
    shop = without_future(whole)
    in_future = whole.n_baskets - shop.n_baskets
    if (shop.day == DAY_S) == record.last.isdecimal():
        ours, its = ("times", "none") if shop.day == DAY_S else ("no times", "some")
        raise CestaError(
            f"{data} has receipts with {ours}, and those of release {released.manifest.release} have {its}: "
            "what is new cannot be told; name a release of such receipts with --release, "
            'or make one with "cesta build"'
        )
    since = _time(record.last)
    start = shop.first_basket_at(since + 1)
    if start >= shop.n_baskets:
        if shop.day == DAY_S and since > now_at_the_latest():
            raise CestaError(
                f"release {released.manifest.release} has a receipt of {record.last}, which is in the "
                "future, so what is new cannot be told; correct or remove that receipt and build again"
            )
        return Drift(released.manifest.release, record.last, record.last, 0.0, 0, in_future, None, (), {})
    baskets = in_rows_of(shop, start, released)
    end = int(shop.times[-1]) + 1
    days = (end - 1 - since) / shop.day
    findings = [
        finding
        for window, length in DAYS_OF.items()
        if days >= COMPLETE * length
        for finding in compare(record, profile(_since(baskets, end - length * shop.day), released), window)
    ]
    return Drift(
        release=released.manifest.release,
        since=record.last,
        until=shop.last,
        days=days,
        baskets=len(baskets),
        in_future=in_future,
        unknown_sales=unknown_sales(data, start, shop, released),
        findings=tuple(findings),
        daily=_daily(baskets, end, days, released),
    )


def without_future(shop: Shop) -> Shop:
    """The receipts up to now. One of a wrong time would be the last one, in a window of its own."""
    kept = shop.first_basket_at(int(now_at_the_latest()) + 1) if shop.day == DAY_S else shop.n_baskets
    if kept in (0, shop.n_baskets):
        return shop
    return replace(
        shop,
        offsets=shop.offsets[: kept + 1],
        items=shop.items[: shop.offsets[kept]],
        users=shop.users[:kept],
        times=shop.times[:kept],
        stores=shop.stores and shop.stores.only(slice(kept)),
        last=time_range(shop.times[kept - 1 : kept])[0],
    )


def in_rows_of(shop: Shop, start: int, released: Released) -> Baskets:
    """The baskets from ``start`` on, in the rows of the release."""
    arrays = released.chain.sampler.arrays
    item_rows = _rows(arrays.item_ids, shop.catalog["item_id"].tolist())
    user_rows = _rows(arrays.user_ids, shop.user_ids)
    return Baskets(
        shop.offsets[start:] - shop.offsets[start],
        item_rows[shop.items[shop.offsets[start] :]],
        user_rows[shop.users[start:]],
        shop.users[start:] > 0,
        shop.times[start:],
        shop.day,
    )


def profile(baskets: Baskets, released: Released, questions: int = QUESTIONS) -> Profile:
    """The features of baskets in the rows of the release; none of the answers without ``questions``."""
    groups, one = released.groups, np.zeros(len(baskets), np.int64)
    counted = count(baskets, one, 1, groups)
    labels = labels_of(groups)
    found: dict[str, Histogram] = {
        name: of_counts(labels[name], counts[0], counted.observations[name][0])
        for name, counts in counted.counts.items()
    }
    if questions and len(baskets) and released.record.score_edges:
        answered = answer(baskets, released.chain, questions)
        for name, of_question in answer_counts(answered, released.record.score_edges).items():
            names = tuple(SOURCES) if name == "sources" else SCORES
            found[name] = of_counts(names, of_question.sum(0), len(of_question))
    return found


def unknown_sales(data: Path, start: int, shop: Shop, released: Released) -> float | None:
    """The share of the units sold, from basket ``start`` on, of items that the release never saw sold."""
    with pq.ParquetFile(data / "interactions.parquet") as file:
        first, skipped, quantities = int(shop.offsets[start]), 0, [np.zeros(0)]
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if skipped + rows > first:
                read = file.read_row_group(group, columns=["quantity"])["quantity"].to_numpy()
                quantities.append(read[max(first - skipped, 0) :].astype(np.float64))
            skipped += rows
    units = np.concatenate(quantities)[: len(shop.items) - first]
    rows_of = _rows(released.chain.sampler.arrays.item_ids, shop.catalog["item_id"].tolist())
    unsold = released.groups.tenth_of == TENTHS.index(UNSOLD)
    unsold[0] = True  # the row of unknown items
    unknown = unsold[rows_of[shop.items[first:]]]
    return float(units[unknown].sum() / units.sum()) if units.sum() > 0 else None


def _rows(ids: Ids, texts: list[str]) -> NDArray[np.int32]:
    """(ids,) Rows of the release, 0 for what it does not know."""
    return np.array(Rows(ids).find([text.encode() for text in texts]), np.int32)


def _since(baskets: Baskets, time: float) -> Baskets:
    return baskets.part(int(np.searchsorted(baskets.times, time)), len(baskets))


def _daily(
    baskets: Baskets, end: int, days: float, released: Released
) -> dict[str, list[tuple[float, float]]]:
    """Feature → distances of single days, counted back from the last receipt."""
    number = int(days + 1 - COMPLETE)
    period: Ints = number - 1 - np.floor_divide(end - 1 - baskets.times, int(baskets.day))
    kept = baskets.part(int(np.searchsorted(period, 0)), len(baskets))
    found: dict[str, list[tuple[float, float]]] = {}
    if not number:
        return found
    counted = count(kept, period[len(baskets) - len(kept) :], number, released.groups)
    labels = labels_of(released.groups)
    for day in range(number):
        of_day = {
            name: of_counts(labels[name], counts[day], counted.observations[name][day])
            for name, counts in counted.counts.items()
        }
        for finding in compare(released.record, of_day, DAY):
            found.setdefault(finding.feature, []).append((day + 1.0, finding.distance))
    return found


def _time(moment: str) -> int:
    """A moment of a manifest in the unit of a shop's times."""
    if moment.lstrip("-").isdecimal():
        return int(moment)
    return int(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp())
