"""Are the receipts of a candidate as complete as those of the active release, and the new ones as usual?

Quality on questions cannot see every fault of the receipts: a lost day among hundreds changes nothing that
can be measured, and customers who are missing from the receipts ask no questions.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray

from export_scripts.receipts.shop import DAY_S, Shop
from operations.records.comparison import Day, ReceiptsCompared, ThenAndNow
from operations.records.manifest import DataRecord

WEEK: Final = 7
WEEKS_BEFORE: Final = 8  # give the usual number of a weekday's baskets, their median
LEAST_WEEKS: Final = 4
LEAST_BASKETS: Final = 30  # that are usual on a day; smaller numbers halve by chance
LISTED: Final = 10  # days, those with the lowest shares

Counts = NDArray[np.int64]
Bools = NDArray[np.bool_]
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def baskets_by_day(shop: Shop) -> Counts | None:
    """The baskets of each day (UTC) from that of the first receipt on; None for receipts without times."""
    if shop.day != DAY_S:
        return None
    days = shop.times // DAY_S
    return np.bincount(days - days[0])


def customers_of(shop: Shop) -> int:
    """The number of known customers with a basket."""
    return int(np.count_nonzero(np.bincount(shop.users)[1:]))


def compare_receipts(
    shop: Shop, active: DataRecord, now: int, items: Bools, customers: Bools
) -> ReceiptsCompared:
    """Compare the receipts of ``shop`` with those of the active release.

    Its clock stands at ``now``. Marked are the shop's ``items`` (items,) that it has seen sold, and the
    ``customers`` (users,) that it knows.
    """
    counts, start = baskets_by_day(shop), shop.first_basket_at(now)
    customers_now = ThenAndNow(then=active.users or 0, now=customers_of(shop))
    described: dict[str, object] = {"customers": customers_now}
    if counts is not None:
        first = int(shop.times[0] // DAY_S)
        described |= _shared_days(counts, first, active) | _new_days(shop, counts, first, now)
    if shop.n_baskets - start >= LEAST_BASKETS:
        described |= _familiar(shop, start, now, items, customers)
    return ReceiptsCompared.model_validate(described)


def _shared_days(counts: Counts, first: int, active: DataRecord) -> dict[str, object]:
    """Compare the days that both have. The candidate's first day may be cut where its window begins."""
    if not active.baskets_by_day or not active.first:
        return {}
    theirs = np.array(active.baskets_by_day.split(), np.int64)
    their_first = (datetime.fromisoformat(active.first) - EPOCH).days
    begin = max(their_first, first + (first > their_first))
    end = min(their_first + len(theirs), first + len(counts))
    if begin >= end:
        return {}
    then, now = theirs[begin - their_first : end - their_first], counts[begin - first : end - first]
    judged = then >= LEAST_BASKETS
    return {
        "shared": ThenAndNow(then=int(then.sum()), now=int(now.sum())),
        "shrunk_days": _lowest(begin, now, then.astype(np.float64), judged),
    }


def _new_days(shop: Shop, counts: Counts, first: int, now: int) -> dict[str, object]:
    """Compare the days since the active release's last receipt with the weeks before.

    The last day may be unfinished: it is compared with what other days hold at that time of day.
    """
    begin, last = (now - 1) // DAY_S - first, len(counts) - 1
    if begin > last:
        return {}
    seconds = shop.times % DAY_S
    so_far = np.bincount(shop.times[seconds <= seconds[-1]] // DAY_S - first, minlength=len(counts))
    usual_week, usual_so_far = _usual_week(counts, begin), _usual_week(so_far, begin)
    if usual_week is None or usual_so_far is None:
        return {}
    weekdays = np.arange(last + 1 - begin) % WEEK
    usual = usual_week[weekdays]
    usual[-1] = usual_so_far[weekdays[-1]]
    new = counts[begin:]
    described: dict[str, object] = {"quiet_days": _lowest(first + begin, new, usual, usual >= LEAST_BASKETS)}
    if usual.sum() >= LEAST_BASKETS:
        described["new"] = ThenAndNow(then=float(usual.sum()), now=int(new.sum()))
    return described


def _usual_week(counts: Counts, begin: int) -> NDArray[np.float64] | None:
    """(7,) the median baskets of each weekday before day ``begin``, whose weekday is the first."""
    before = counts[max(0, begin - WEEK * WEEKS_BEFORE) : max(0, begin)]
    weeks = before[len(before) % WEEK :].reshape(-1, WEEK)
    return np.median(weeks, axis=0) if len(weeks) >= LEAST_WEEKS else None


def _lowest(begin: int, counts: Counts, usual: NDArray[np.float64], judged: Bools) -> list[Day]:
    """The days with the lowest shares of their usual baskets; ``begin`` is the first one's number."""
    shares = np.where(judged, counts / np.maximum(usual, 1), 1)
    places = [place for place in np.argsort(shares, kind="stable")[:LISTED].tolist() if shares[place] < 1]
    return [
        Day(
            day=(EPOCH + timedelta(days=begin + place)).date().isoformat(),
            baskets=int(counts[place]),
            usual=float(usual[place]),
        )
        for place in places
    ]


def _familiar(shop: Shop, start: int, now: int, items: Bools, customers: Bools) -> dict[str, object]:
    """Shares of new sales and baskets that the active release knows, beside those of as long before."""
    earlier = shop.first_basket_at(2 * now - int(shop.times[-1]) - 1)
    if earlier == 0 or start - earlier < LEAST_BASKETS:
        return {}
    sold = np.bincount(shop.items[: shop.offsets[earlier]], minlength=shop.n_items) > 0
    seen = np.bincount(shop.users[:earlier], minlength=shop.n_users) > 0
    seen[0] = False
    lines, ends = shop.items, shop.offsets
    described: dict[str, object] = {
        "familiar_items": _shares(sold[lines[ends[earlier] : ends[start]]], items[lines[ends[start] :]])
    }
    if shop.n_users > 1:
        described["familiar_customers"] = _shares(
            seen[shop.users[earlier:start]], customers[shop.users[start:]]
        )
    return described


def _shares(then: Bools, now: Bools) -> ThenAndNow:
    return ThenAndNow(then=round(float(then.mean()), 4), now=round(float(now.mean()), 4))
