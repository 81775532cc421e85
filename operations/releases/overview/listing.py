"""The releases of a repository at one moment: what `cesta release list` and `GET /admin/releases` answer."""

from typing import NotRequired, TypedDict

from operations.errors import CestaError
from operations.records.manifest import ReleaseManifest
from operations.releases import history
from operations.releases.models.configs import canary_on_disk
from operations.releases.repository import active_release, read_release, releases
from operations.releases.stores.store import Repository


class Row(TypedDict):
    """A release. A damaged one has the reason and nothing else."""

    release: int
    created_at: NotRequired[str | None]
    data_until: NotRequired[str | None]
    hr_at_10: NotRequired[float | None]
    against: NotRequired[str | None]  # NDCG@10 beside the active release of its evaluation
    damaged: NotRequired[str]


class Canary(TypedDict):
    """The release that gets a share of the requests."""

    release: int
    percent: float


class Listing(TypedDict):
    """All releases, and the parts that some of them play."""

    active: int | None
    damaged: str | None  # why nobody can tell which release is active
    fallback: int | None  # answers, because the active one cannot be served
    previous: int | None
    canary: Canary | None
    releases: list[Row]


def list_releases(repository: Repository) -> Listing:
    """Read the repository's records. A damaged release hides none of the others."""
    canary, fallback = canary_on_disk(repository), history.fallback(history.read(repository))
    active, damaged = None, None
    try:
        active = active_release(repository)
    except CestaError as error:
        damaged = str(error)
    return {
        "active": active,
        "damaged": damaged,
        "fallback": fallback["release"] if fallback else None,
        "previous": history.previous(repository),
        "canary": {"release": canary.release, "percent": canary.percent} if canary else None,
        "releases": [_row(repository, number) for number in releases(repository)],
    }


def marks(listing: Listing) -> dict[int | None, str]:
    """Return release → the part that it plays, in words."""
    active, canary, fallback = listing["active"], listing["canary"], listing["fallback"]
    parts = {listing["previous"]: "previous", active: "active"}
    if canary:
        parts[canary["release"]] = f"canary {canary['percent']:g} %"
    if fallback:
        parts |= {active: "active, cannot be served", fallback: "previous, answers instead"}
    return parts


def _row(repository: Repository, number: int) -> Row:
    try:
        release = read_release(repository, number)
    except CestaError as error:
        return {"release": number, "damaged": str(error)}
    return {
        "release": number,
        "created_at": release.created_at,
        "data_until": release.data.last if release.data else None,
        "hr_at_10": release.measured("known").hr_at_10,
        "against": _against(release),
    }


def _against(release: ReleaseManifest) -> str | None:
    """How a release compared with another one on the same questions, in words."""
    comparison = release.comparison()
    return comparison.in_words() if comparison else None
