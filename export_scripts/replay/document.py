"""The tables and the plot of docs/quality.md about a replay."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from export_scripts.replay.figures import COMPARED_WITH, Figures
from export_scripts.replay.judge import Rate
from export_scripts.replay.run import COLD, WARM

ROOT: Final = Path(__file__).parents[2]
DOCUMENT: Final = ROOT / "docs" / "quality.md"
PLOT: Final = Path("images") / "replay.svg"  # relative to the document's folder
COLORS: Final = ("#999", "#c60", "#47b", "#2a7")  # by schedule
METRIC: Final = "ndcg_at_10"
ALT: Final = "NDCG@10 of each week by schedule of retraining"


def write(figures: Figures, document: Path) -> None:
    """Replace the sections of the document, and its plot, which shows cold starts."""
    if figures["start"] == COLD:
        plotted = document.parent / PLOT
        plotted.parent.mkdir(exist_ok=True)
        plotted.write_text(plot(figures), encoding="utf-8")
    text = document.read_text(encoding="utf-8")
    for name, content in sections(figures).items():
        text = fill(text, name, content)
    document.write_text(text, encoding="utf-8")


def fill(text: str, name: str, content: str) -> str:
    """The text with new content between the markers of a section."""
    begin, end = f"<!-- replay:{name} -->", "<!-- end -->"
    section = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    return section.sub(lambda _: f"{begin}\n{content}\n{end}", text)


def sections(figures: Figures) -> dict[str, str]:
    """The generated sections by name, in markdown."""
    if figures["start"] == WARM:
        return {"warm": table(_totals(figures, "chosen"))}
    return {
        "schedules": table(_totals(figures, "chosen")),
        "held_out": table(_totals(figures, "held_out")),
        "weeks": f"{table(_weeks(figures))}\n\n![{ALT}]({PLOT.as_posix()})",
        "gate": table(_gate(figures["gate"])),
    }


def table(rows: Sequence[Sequence[str]]) -> str:
    """A table from its rows, the header first; all columns but the first are right-aligned."""
    if len(rows) < 2:
        return "Not measured yet."
    lines = [rows[0], ["---", *["---:"] * (len(rows[0]) - 1)], *rows[1:]]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _totals(figures: Figures, part: str) -> list[list[str]]:
    """One row a schedule over the chosen or the held-out weeks."""
    other = f"of {COLD} starts" if figures["start"] == WARM else f"of {COMPARED_WITH}"
    header = ["schedule", "weeks", "HR@10", "NDCG@10", f"difference from NDCG@10 {other}, 95 %"]
    rows = [[*header, "repeat", "explore", "questions", "trainings", "CPU s of training"]]
    for name, schedule in figures["schedules"].items():
        if part not in schedule:
            continue
        found = schedule[part]
        cells = [name, str(found["weeks"]), *_values(found["all"]), _difference(found)]
        cells += [_number(found[kind][METRIC]) for kind in ("repeat", "explore")]
        cells += [f"{found['all']['n']:,}", str(schedule["trainings"]), f"{schedule['cpu_s']:,.0f}"]
        rows.append(cells)
    return rows


def _weeks(figures: Figures) -> list[list[str]]:
    """One row a week: NDCG@10 and its interval by schedule, and the share of unknown items."""
    names = list(figures["schedules"])
    rows = [["week from", *names, *(f"unknown items, {name}" for name in names)]]
    numbers = sorted({int(week) for found in figures["schedules"].values() for week in found["weeks"]})
    for number in numbers:
        weeks = [_week(figures, name, number) for name in names]
        first = next(week["first_day"] for week in weeks if week)
        shares = [f"{week['unknown_items']:.1%}" if week else "-" for week in weeks]
        rows.append([first, *(_with_interval(week) for week in weeks), *shares])
    return rows


def _week(figures: Figures, schedule: str, number: int) -> Figures | None:
    """The figures of a week; json turned its number into text."""
    weeks: Mapping[Any, Figures] = figures["schedules"][schedule]["weeks"]
    return weeks.get(number) or weeks.get(str(number))


def _gate(rates: Mapping[str, Rate]) -> list[list[str]]:
    rows = [["candidate", "refused", "refused by the gate of before", "pairs"]]
    for case, rate in rates.items():
        shares = [f"{rate[name]:.1%}" for name in ("refused", "refused_before")]
        rows.append([case, *shares, f"{rate['judged']:,}"])
    return rows


def _values(summary: Figures) -> list[str]:
    return [_number(summary["hr_at_10"]), _number(summary[METRIC])]


def _with_interval(week: Figures | None) -> str:
    if week is None or week["all"][METRIC] is None:
        return "-"
    low, high = week["all"]["interval"][METRIC]
    return f"{week['all'][METRIC]:.4f} ({low:.3f}-{high:.3f})"


def _difference(found: Figures) -> str:
    if "difference" not in found:
        return "-"
    low, high = found["interval"][METRIC]
    return f"{found['difference'][METRIC]:+.4f} ({low:+.4f} to {high:+.4f})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def plot(figures: Figures) -> str:
    """An SVG of the NDCG@10 of each week by schedule. The held-out weeks lie right of a line."""
    series = {
        name: {int(week): found["all"][METRIC] for week, found in schedule["weeks"].items()}
        for name, schedule in figures["schedules"].items()
    }
    values = [value for points in series.values() for value in points.values() if value is not None] or [0.0]
    low, high = float(min(values)) * 0.97, float(max(values)) * 1.02 or 1.0
    last = max(int(figures["weeks"]), 2)

    def x(week: float) -> float:
        return 60 + 460 * (week - 1) / (last - 1)

    def y(value: float) -> float:
        return 280 - 240 * (value - low) / (high - low)

    marks = [low + (high - low) * part / 4 for part in range(5)]
    parts = [
        f'<path d="M60 {y(mark):.0f}H540" stroke="#999" stroke-opacity=".4"/>'
        f'<text x="52" y="{y(mark) + 4:.0f}" text-anchor="end">{mark:.3f}</text>'
        for mark in marks
    ]
    parts += [
        f'<text x="{x(week):.0f}" y="300" text-anchor="middle">{week}</text>' for week in range(1, last + 1)
    ]
    if figures["chosen_weeks"] < last:
        parts.append(
            f'<path d="M{x(figures["chosen_weeks"] + 0.5):.0f} 30V285" stroke="#999" stroke-dasharray="4"/>'
        )
    for i, (name, points) in enumerate(series.items()):
        color = COLORS[i % len(COLORS)]
        line = " ".join(f"{x(week):.1f},{y(value):.1f}" for week, value in sorted(points.items()))
        parts.append(f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts.append(f'<text x="556" y="{60 + 20 * i}" style="fill:{color}">{name}</text>')
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 680 320" font-family="sans-serif" '
        'font-size="12"><style>text{fill:#333}@media(prefers-color-scheme:dark){text{fill:#ddd}}</style>'
        f'<text x="0" y="14" font-weight="bold">NDCG@10 by week</text>{"".join(parts)}</svg>\n'
    )
