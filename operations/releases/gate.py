"""May a release replace the active one? Metrics against bars and the active one's interval."""

from typing import Any

from operations.errors import CestaError
from operations.releases.repository import read_release
from operations.releases.store import Repository
from operations.settings import ReleaseSettings

MEASURES = ("hr_at_10", "ndcg_at_10")


def check_gate(
    repository: Repository,
    described: dict[str, Any],
    active: int | None,
    bars: ReleaseSettings | None,
    force: bool,
) -> dict[str, list[str]]:
    """What a record says of the gate: {"forced": objections}, or nothing where there are none.

    Raises CestaError with the objections unless ``force``. The active release itself passes.
    """
    if active == described["release"]:
        return {}
    against = objections(described, None if active is None else read_release(repository, active), bars)
    if against and not force:
        raise CestaError(f"{'; '.join(against)}; --force passes the gate all the same, and is recorded")
    return {"forced": against} if against else {}


def objections(
    candidate: dict[str, Any], active: dict[str, Any] | None, bars: ReleaseSettings | None
) -> list[str]:
    """Why the release of manifest ``candidate`` should not be promoted, a clause each; none if it may.

    ``active`` is None where nothing is active. Metrics are those of known users, in a shop without users
    those of unknown ones.
    """
    ours, theirs = _measured(candidate), _measured(active or {})
    found = []
    for name in MEASURES:
        bar = getattr(bars, name) if bars else 0.0
        low = (theirs.get("interval") or {}).get(name, [None])[0]
        value = ours.get(name)
        if value is None and (bar or low is not None):
            found.append(f"its {name} was not measured")
            continue
        if bar and value < bar:
            found.append(f"its {name} {value:.4f} is below the bar of {bar:.4f} (release.{name})")
        if low is not None and value < low:
            number = (active or {}).get("release")
            found.append(f"its {name} {value:.4f} is below release {number}'s 95 % interval from {low:.4f}")
    return found


def _measured(described: dict[str, Any]) -> dict[str, Any]:
    metrics = described.get("metrics") or {}
    known = metrics.get("known") or {}
    return known if known.get("n") else metrics.get("unknown") or {}
