"""Objections to a release by its comparison with the active one: on the same questions, and by receipts."""

from collections.abc import Iterator, Sequence
from typing import Final

from operations.records.comparison import Comparison, Day, Metric, ReceiptsCompared, ThenAndNow
from operations.records.manifest import ReleaseManifest
from operations.settings import ReleaseSettings

RANKING: Final = "ndcg_at_10"
NAMED: Final = 3  # days that a sentence names


def comparison_with(candidate: ReleaseManifest, active: ReleaseManifest | None) -> Comparison | None:
    """The candidate's comparison, if it was compared with exactly this release."""
    comparison = candidate.comparison()
    if active is None or comparison is None:
        return None
    same = (comparison.release, comparison.digest) == (active.release, active.digest)
    return comparison if same else None


def loss_objections(comparison: Comparison, metrics: Sequence[Metric], bars: ReleaseSettings) -> list[str]:
    """Clauses against a candidate that finds less than the active release on the same questions.

    A loss counts if it is beyond ``release.worse`` and its interval lies below 0.
    """
    against = []
    for metric in metrics:
        lost, (low, high) = -comparison.difference[metric], comparison.interval[metric]
        if lost > bars.worse * comparison.active[metric] and high < 0:
            against.append(
                f"its {metric} is {lost:.4f} below release {comparison.release}'s on the same "
                f"{comparison.n:,} newest questions (95 % interval {-high:.4f} to {-low:.4f}); at most "
                f"{bars.worse:.0%} of {comparison.active[metric]:.4f} may be lost (release.worse)"
            )
    return against


def receipt_objections(comparison: Comparison, measured: float | None, bars: ReleaseSettings) -> list[str]:
    """Clauses against receipts that look broken beside those of the active release.

    ``measured`` is the active release's NDCG@10 on its own test period.
    """
    receipts = comparison.receipts
    against = [*_about(receipts, comparison.release, bars)] if receipts else []
    if measured and comparison.n and comparison.half_width(RANKING) <= bars.uncertain * measured:
        now = comparison.active[RANKING]
        if now < (1 - bars.collapse) * measured:
            against.append(
                f"release {comparison.release} itself reaches an {RANKING} of {now:.4f} on the newest "
                f"questions, and {measured:.4f} on its own test period: the newest receipts may be broken "
                "(release.collapse)"
            )
    return against


def _about(receipts: ReceiptsCompared, active: int, bars: ReleaseSettings) -> Iterator[str]:
    if (shared := receipts.shared) and _fell(shared, bars.lost_receipts):
        yield (
            f"its receipts hold {shared.now:,.0f} of the {shared.then:,.0f} baskets that "
            f"release {active} was made from (release.lost_receipts)"
        )
    if days := [day for day in receipts.shrunk_days if _is_lost(day, bars, ())]:
        yield (
            f"its receipts lack baskets that release {active} was made from: {_named(days)} "
            "(release.lost_day)"
        )
    if _fell(receipts.customers, bars.lost_customers):
        yield (
            f"its receipts know {receipts.customers.now:,.0f} customers, release {active} "
            f"{receipts.customers.then:,.0f} (release.lost_customers)"
        )
    if (new := receipts.new) and _fell(new, bars.lost_sales):
        yield (
            f"its new days hold {new.now:,.0f} baskets instead of the usual {new.then:,.0f} "
            "(release.lost_sales)"
        )
    if days := [day for day in receipts.quiet_days if _is_lost(day, bars, bars.closed_days)]:
        yield f"days are lost: {_named(days)} (release.lost_day, release.closed_days)"
    for what, share in (
        ("new sales are of items", receipts.familiar_items),
        ("new baskets are of customers", receipts.familiar_customers),
    ):
        if share and share.now < share.then - bars.strangers:
            yield (
                f"{share.now:.0%} of the {what} that release {active} knows; {share.then:.0%} is usual "
                "(release.strangers)"
            )


def _fell(values: ThenAndNow, share: float) -> bool:
    return values.now < (1 - share) * values.then


def _is_lost(day: Day, bars: ReleaseSettings, closed: Sequence[str]) -> bool:
    return day.baskets < bars.lost_day * day.usual and not day.day.endswith(tuple(closed))


def _named(days: Sequence[Day]) -> str:
    named = ", ".join(f"{day.day} has {day.baskets:,} baskets of {day.usual:,.0f}" for day in days[:NAMED])
    return f"{named} and {len(days) - NAMED} more" if len(days) > NAMED else named
