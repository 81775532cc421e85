"""Plots of the report as numbers in percent of the axes; ``report.html.j2`` draws them."""

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Final, NamedTuple

from export_scripts.quality.results import Summary

METRIC: Final = "hr_at_10"
NONE: Final = "-"  # shown where there is no number
STEPS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5)  # between two marks of an axis
MOST_MARKS: Final = 6
LABEL: Final = 4  # width of a label on the line, in percent
LINE: Final = 5  # height of a label in percent, and distance of two lifts
DIGIT: Final = 2  # width of a single mark's label

Points = list[tuple[float, float]]  # (x, y)


class Axis(NamedTuple):
    """An axis from 0 to ``end`` with its marks: (label, percent of the width)."""

    end: float
    marks: list[tuple[str, float]]


class Dot(NamedTuple):
    """A value with its interval; ``at``, ``low`` and ``high`` are in percent of the axis."""

    name: str
    value: str
    at: float
    low: float
    high: float
    n: str
    ours: bool


class Series(NamedTuple):
    """A line of a plot; the points are in percent of the axes, each with a title shown on hovering."""

    name: str
    points: Points
    titles: list[str]


class Plot(NamedTuple):
    """Lines over two axes, whose marks are (label, percent)."""

    series: list[Series]
    x: list[tuple[str, float]]
    y: list[tuple[str, float]]


class Mark(NamedTuple):
    """A point with a label, which is ``lift`` lines above it; an empty label is not drawn."""

    x: float
    y: float
    label: str
    title: str
    lift: int = 0


class Field(NamedTuple):
    """A line of marks, one mark of them that stands out, single marks, and the axes as of a Plot."""

    line: list[Mark]
    chosen: Mark
    single: list[Mark]
    x: list[tuple[str, float]]
    y: list[tuple[str, float]]


def number(value: float | None, digits: int = 3) -> str:
    """Format a number such as 0.238; a dash for None."""
    return NONE if value is None else f"{value:.{digits}f}"


def percent(value: float | None, digits: int = 1) -> str:
    """Format a share such as 23.8 %; a dash for None."""
    return NONE if value is None else f"{100 * value:.{digits}f} %"


def axis(largest: float) -> Axis:
    """Make an axis that ends at a round number of at least ``largest``."""
    step = next((step for step in STEPS if largest / step <= MOST_MARKS), STEPS[-1])
    marks = max(1, -(-largest // step))
    return Axis(marks * step, [(f"{i * step:.2g}", 100 * i / marks) for i in range(int(marks) + 1)])


def dots(groups: Mapping[str, Summary], ours: str = "") -> tuple[list[Dot], Axis]:
    """Plot HR@10 of named groups of queries; groups without queries are left out."""
    intervals = [group["interval"] for group in groups.values()]
    scale = axis(max((interval[METRIC][1] for interval in intervals if interval), default=0.1))

    def at(value: float) -> float:
        return round(100 * value / scale.end, 2)

    plotted = []
    for name, group in groups.items():
        value, interval = group[METRIC], group["interval"]
        if value is not None and interval is not None:
            low, high = map(at, interval[METRIC])
            plotted.append(Dot(name, number(value), at(value), low, high, f"{group['n']:,}", name == ours))
    return plotted, scale


def field(line: Sequence[Mark], chosen: Mark, single: Sequence[Mark]) -> Field:
    """Plot a line of marks, the ``chosen`` one among them, and ``single`` marks, whose labels are lifted.

    Where labels on the line would cover each other, the first is drawn. The label of ``chosen`` always is.
    """
    drawn = [*line, *single]
    x, y = axis(max(mark.x for mark in drawn)), axis(max(mark.y for mark in drawn))

    def placed(mark: Mark) -> Mark:
        return mark._replace(x=round(100 * mark.x / x.end, 2), y=round(100 * mark.y / y.end, 2))

    in_use, on_line = placed(chosen), []
    labelled = [in_use]
    for mark in map(placed, line):
        if is_free := all(max(abs(mark.x - m.x), abs(mark.y - m.y)) > LABEL for m in labelled):
            labelled.append(mark)
        on_line.append(mark if is_free else mark._replace(label=""))
    lifted: list[Mark] = []
    for mark in sorted(map(placed, single)):
        taken = [m.y + LINE * m.lift for m in lifted if abs(mark.x - m.x) < DIGIT]
        free = (k for k in count() if all(abs(mark.y + LINE * k - height) >= LINE for height in taken))
        lifted.append(mark._replace(lift=next(free)))
    return Field(on_line, in_use, lifted, x.marks, y.marks)


def lines(points_of: Mapping[str, Points], x: Axis, y: Axis) -> Plot:
    """Plot named lines; lines without points are left out."""
    return Plot(
        [
            Series(
                name,
                [(round(100 * a / x.end, 2), round(100 * b / y.end, 2)) for a, b in points],
                [f"{name}: {number(b)} at {a:g}" for a, b in points],
            )
            for name, points in points_of.items()
            if points
        ],
        x.marks,
        y.marks,
    )
