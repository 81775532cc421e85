"""``model_manifest.json``: all releases of a repository in one file, for programs that know nothing of cesta.

The configs and manifests are the truth. A folder or a bucket cannot change two files in one step, so the
index is written by a command of its own, under the repository's lock, and says when.
"""

import hashlib
import json
from datetime import UTC, datetime
from typing import Final, TypedDict

from operations.records.comparison import Metric
from operations.records.contract import ENSEMBLE
from operations.records.manifest import GROUPS, Group, ReleaseManifest
from operations.records.manifest import NAME as MANIFEST
from operations.releases.models.placing import models_of
from operations.releases.overview.listing import Canary, list_releases
from operations.releases.repository import manifest_place
from operations.releases.stores.store import Repository

NAME: Final = "model_manifest.json"
METRICS: Final[tuple[Metric, ...]] = ("hr_at_10", "ndcg_at_10", "mrr")


class Entry(TypedDict):
    """A whole release. Names of files and folders are relative to the index."""

    release: int
    stage: str  # active, previous, canary; "" for others
    created_at: str | None
    data_until: str | None
    metrics: dict[str, dict[str, float]]  # group of test queries → metric → its mean
    manifest: str
    manifest_sha256: str
    models: dict[str, str]  # part → the folder of its version
    bytes: int


class Index(TypedDict):
    """The content of the file."""

    written_at: str  # ISO 8601
    active: int | None
    previous: int | None
    canary: Canary | None
    damaged: list[int]  # releases that are not listed, since they cannot be read
    releases: list[Entry]


def write_index(repository: Repository) -> Index:
    """Write the index at the top of the repository, and return it. Nobody changes a release meanwhile."""
    with repository.lock():
        index = read_index(repository)
        repository.write(NAME, (json.dumps(index, indent=2, ensure_ascii=False) + "\n").encode())
    return index


def read_index(repository: Repository) -> Index:
    """What an index that is written now would hold."""
    listing = list_releases(repository)
    canary = listing["canary"]
    stages = {listing["previous"]: "previous", listing["active"]: "active"}
    if canary:
        stages[canary["release"]] = "canary"
    damaged = [row["release"] for row in listing["releases"] if "damaged" in row]
    numbers = [row["release"] for row in listing["releases"] if "damaged" not in row]
    return {
        "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "active": listing["active"],
        "previous": listing["previous"],
        "canary": canary,
        "damaged": damaged,
        "releases": [_entry(repository, number, stages.get(number, "")) for number in numbers],
    }


def _entry(repository: Repository, number: int, stage: str) -> Entry:
    place = manifest_place(repository, number)
    content = place.read_bytes()
    release = ReleaseManifest.parse(content, place)
    return {
        "release": number,
        "stage": stage,
        "created_at": release.created_at,
        "data_until": release.data.last if release.data else None,
        "metrics": {group: measured for group in GROUPS if (measured := _means(release, group))},
        "manifest": f"{ENSEMBLE}/{number}/{MANIFEST}",
        "manifest_sha256": hashlib.sha256(content).hexdigest(),
        "models": {part: f"{model}/{number}" for part, model in models_of(release).items()},
        "bytes": sum(file.bytes for file in release.files.values()),
    }


def _means(release: ReleaseManifest, group: Group) -> dict[str, float]:
    measured = release.measured(group)
    means = {metric: measured.value(metric) for metric in METRICS}
    return {metric: mean for metric, mean in means.items() if mean is not None}
