"""Growth exponents: how the cost of a stage grows with the receipt lines."""

from collections.abc import Mapping, Sequence
from math import log

from loadtests.growth_offline.records import Record, Records


def by_lines(records: Records) -> list[tuple[str, Record]]:
    """Return names and records, the smallest shop first."""
    return sorted(records.items(), key=lambda pair: int(pair[1]["lines"]))


def stage_names(records: Records) -> list[str]:
    """Return the stages in the order of a build; the bar comes first."""
    names: dict[str, None] = {}
    for _, record in by_lines(records):
        names |= dict.fromkeys(record["stages"])
    return list(names)


def step_names(records: Records, stage: str) -> list[str]:
    """Return the steps of a stage, in their order."""
    names: dict[str, None] = {}
    for _, record in by_lines(records):
        names |= dict.fromkeys(record["stages"].get(stage, {}).get("steps", {}))
    return list(names)


def values(records: Records, stage: str, figure: str, step: str | None = None) -> dict[str, float]:
    """Return a figure of a stage or of one of its steps, by size; sizes at which it failed are left out."""
    found = {}
    for name, record in by_lines(records):
        row = record["stages"].get(stage)
        if row and "failed" not in row and (step is None or step in row["steps"]):
            found[name] = float(row["steps"][step][figure] if step else row[figure])
    return found


def exponent(records: Records, figures: Mapping[str, float]) -> float | None:
    """Return the slope of the logarithm of the figures over that of the lines; None for fewer than two sizes.

    Least squares: 1 means that ten times the lines cost ten times as much.
    """
    points = [(log(records[name]["lines"]), log(value)) for name, value in figures.items() if value > 0]
    if len(points) < 2 or len({x for x, _ in points}) < 2:
        return None
    return _slope(points)


def _slope(points: Sequence[tuple[float, float]]) -> float:
    mean_x, mean_y = (sum(axis) / len(points) for axis in zip(*points, strict=True))
    products: float = sum((x - mean_x) * (y - mean_y) for x, y in points)
    squares: float = sum((x - mean_x) ** 2 for x, _ in points)
    return products / squares
