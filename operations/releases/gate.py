"""The gate: may a release replace the active one? Its metrics, receipts and categories against that one's.

Both are compared on the same newest questions. Where they were not, or where too few questions leave the
comparison open, each one's own test period decides.
"""

from collections.abc import Sequence
from typing import Final

from operations.errors import CestaError
from operations.records.comparison import Metric
from operations.records.manifest import Measured, ReleaseManifest
from operations.releases.categories import category_objections
from operations.releases.compared import comparison_with, loss_objections, receipt_objections
from operations.releases.history import Forced
from operations.releases.repository import read_release
from operations.releases.stores.store import Repository
from operations.settings import ReleaseSettings, load_bars

METRICS: Final[tuple[Metric, ...]] = ("hr_at_10", "ndcg_at_10")


def check_gate(
    repository: Repository,
    candidate: ReleaseManifest,
    active: int | None,
    bars: ReleaseSettings | None,
    force: bool,
) -> Forced:
    """Compare a release with the bars and the active release; return what the record says about it.

    Raises CestaError with the objections unless ``force``. The active release itself passes.
    """
    if active == candidate.release:
        return {}
    try:
        replaced = None if active is None else read_release(repository, active)
    except CestaError as error:  # a damaged release must not keep another one from replacing it
        against = [*objections(candidate, None, bars), f"it cannot be compared with the active one: {error}"]
    else:
        against = objections(candidate, replaced, bars)
        if replaced and bars:
            against += category_objections(repository, candidate, replaced, bars)
    if against and not force:
        raise CestaError(f"{'; '.join(against)}; --force passes the gate all the same, and is recorded")
    return {"forced": against} if against else {}


def objections(
    candidate: ReleaseManifest, active: ReleaseManifest | None, bars: ReleaseSettings | None
) -> list[str]:
    """Reasons against promoting ``candidate``, a clause each; none if it may be promoted.

    ``active`` is None if no release is active. The metrics are those of known users; in a shop without users,
    those of unknown ones. ``bars`` are by default those of release.toml.
    """
    bars = bars or load_bars()
    against = _below_bars(candidate, bars)
    if active is None:
        return against
    comparison = comparison_with(candidate, active)
    if comparison is None:
        return against + _below_interval(candidate, active, METRICS)
    decisive = [metric for metric in METRICS if comparison.is_decisive(metric, bars.uncertain)]
    against += loss_objections(comparison, decisive, bars)
    against += receipt_objections(comparison, _measured(active).value("ndcg_at_10"), bars)
    why = comparison.problem or f"{comparison.n:,} new questions leave the comparison open"
    undecided = [metric for metric in METRICS if metric not in decisive]
    return against + [f"{clause} ({why})" for clause in _below_interval(candidate, active, undecided)]


def _below_bars(candidate: ReleaseManifest, bars: ReleaseSettings) -> list[str]:
    against = []
    for metric in METRICS:
        bar: float = getattr(bars, metric)
        value = _measured(candidate).value(metric)
        if bar and value is None:
            against.append(f"its {metric} was not measured")
        elif value is not None and value < bar:
            against.append(f"its {metric} {value:.4f} is below the bar of {bar:.4f} (release.{metric})")
    return against


def _below_interval(
    candidate: ReleaseManifest, active: ReleaseManifest, metrics: Sequence[Metric]
) -> list[str]:
    """Compare each one's own test period, which are different weeks unless both have the same receipts."""
    against = []
    for metric in metrics:
        value, bounds = _measured(candidate).value(metric), _measured(active).bounds(metric)
        if bounds and value is None:
            against.append(f"its {metric} was not measured")
        elif bounds and value is not None and value < bounds[0]:
            against.append(
                f"its {metric} {value:.4f} is below release {active.release}'s 95 % interval from "
                f"{bounds[0]:.4f}"
            )
    return against


def _measured(release: ReleaseManifest) -> Measured:
    known_users = release.measured("known")
    return known_users if known_users.n else release.measured("unknown")
