"""The differences between two releases, by their manifests."""

import hashlib
from collections.abc import Iterator
from typing import Final

from operations.records.comparison import Metric
from operations.records.contract import kind_of
from operations.records.manifest import GROUPS, Measured, ReleaseManifest

SHOWN: Final = ("created_at", "git_commit", "data", "contract", "settings", "made_with", "sampler_code")
METRICS: Final[tuple[Metric, ...]] = ("hr_at_10", "ndcg_at_10", "mrr")

Row = tuple[str, str, str]  # what differs, its value in the one release, its value in the other


def diff(one: ReleaseManifest, other: ReleaseManifest) -> list[Row]:
    """A row per value that differs: settings by their names, metrics with their intervals, files by name."""
    parts = [(dict(_leaves(_values(release))), _files(release)) for release in (one, other)]
    rows = []
    for ours, theirs in zip(*parts, strict=True):
        names = [*ours, *(name for name in theirs if name not in ours)]
        rows += [(n, ours.get(n, "-"), theirs.get(n, "-")) for n in names if ours.get(n) != theirs.get(n)]
    return rows


def _values(release: ReleaseManifest) -> dict[str, object]:
    values = release.json_object()
    groups = {group: measured for group in GROUPS if (measured := release.measured(group)).n}
    metrics = {group: {metric: _text(about, metric) for metric in METRICS} for group, about in groups.items()}
    shown: dict[str, object] = {name: values.get(name) for name in SHOWN} | {"metrics": metrics}
    if release.data and release.data.baskets_by_day:
        shown["data"] = {**release.data.json_object(), "baskets_by_day": _days(release.data.baskets_by_day)}
    return shown


def _days(counts: str) -> str:
    """A number for each day would fill pages."""
    return f"{len(counts.split())} days, {hashlib.sha256(counts.encode()).hexdigest()[:12]}…"


def _text(measured: Measured, metric: Metric) -> str:
    value, bounds = measured.value(metric), measured.bounds(metric)
    if value is None or bounds is None:
        return "not measured"
    return f"{value:.4f} ({bounds[0]:.4f} to {bounds[1]:.4f})"


def _files(release: ReleaseManifest) -> dict[str, str]:
    """Files by their names without the release's number and without the contract in a model's name."""
    files = {}
    for name, file in release.files.items():
        model, *others = name.split("/", 2)
        files["/".join([kind_of(model) or model, *others[1:]])] = f"{file.bytes:,} bytes, {file.sha256[:12]}…"
    return files


def _leaves(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    """Dotted name and text of every value in nested tables."""
    if not isinstance(value, dict):
        yield name, str(value)
        return
    for key, inner in value.items():
        yield from _leaves(inner, f"{name}.{key}" if name else str(key))
