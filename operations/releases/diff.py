"""What is different between two releases, by their manifests."""

from collections.abc import Iterator
from typing import Any

SHOWN = ("created_at", "git_commit", "data", "contract", "settings", "made_with", "sampler_code")
MEASURED = ("known", "unknown", "repeat", "explore")
NAMES = ("hr_at_10", "ndcg_at_10", "mrr")

Row = tuple[str, str, str]  # what, in the one, in the other


def diff(one: dict[str, Any], other: dict[str, Any]) -> list[Row]:
    """A row per value that differs: settings by their names, metrics with their intervals, files by name."""
    parts = [(dict(_leaves(_described(m))), dict(_leaves(_files(m)))) for m in (one, other)]
    rows = []
    for ours, theirs in zip(*parts, strict=True):
        names = [*ours, *(name for name in theirs if name not in ours)]
        rows += [(n, ours.get(n, "-"), theirs.get(n, "-")) for n in names if ours.get(n) != theirs.get(n)]
    return rows


def _described(manifest: dict[str, Any]) -> dict[str, Any]:
    metrics = manifest.get("metrics") or {}
    measured = {
        group: {name: _with_interval(metrics[group], name) for name in NAMES}
        for group in MEASURED
        if metrics.get(group, {}).get("n")
    }
    return {name: manifest.get(name) for name in SHOWN} | {"metrics": measured}


def _with_interval(group: dict[str, Any], name: str) -> str:
    low, high = group["interval"][name]
    return f"{group[name]:.4f} ({low:.4f} to {high:.4f})"


def _files(manifest: dict[str, Any]) -> dict[str, str]:
    """Files by their names without the release's number."""
    found = {}
    for name, about in manifest["files"].items():
        model, _, rest = name.split("/", 2)
        found[f"{model}/{rest}"] = f"{about['bytes']:,} bytes, {about['sha256'][:12]}…"
    return found


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Dotted name and text of every value in nested tables."""
    if not isinstance(value, dict):
        yield name, str(value)
        return
    for key, inner in value.items():
        yield from _leaves(inner, f"{name}.{key}" if name else str(key))
