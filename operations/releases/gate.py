"""The gate: may a release replace the active one? Its metrics and categories against bars and that one."""

from typing import Final

from operations.errors import CestaError
from operations.records.manifest import Measured, Metric, ReleaseManifest
from operations.releases.categories import category_objections
from operations.releases.history import Forced
from operations.releases.repository import read_release
from operations.releases.stores.store import Repository
from operations.settings import ReleaseSettings

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
    those of unknown ones.
    """
    ours, theirs = _measured(candidate), _measured(active) if active else None
    against = []
    for metric in METRICS:
        bar: float = getattr(bars, metric) if bars else 0.0
        bounds = theirs.bounds(metric) if theirs else None
        value = ours.value(metric)
        if value is None:
            if bar or bounds:
                against.append(f"its {metric} was not measured")
            continue
        if bar and value < bar:
            against.append(f"its {metric} {value:.4f} is below the bar of {bar:.4f} (release.{metric})")
        if active and bounds and value < bounds[0]:
            against.append(
                f"its {metric} {value:.4f} is below release {active.release}'s 95 % interval from "
                f"{bounds[0]:.4f}"
            )
    return against


def _measured(release: ReleaseManifest) -> Measured:
    known_users = release.measured("known")
    return known_users if known_users.n else release.measured("unknown")
