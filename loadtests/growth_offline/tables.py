"""The tables and the plot of docs/performance.md about the growth of a build."""

from collections.abc import Mapping
from math import ceil, floor, log10
from pathlib import Path
from typing import Any, Final

from loadtests.growth_offline.figures import (
    by_lines,
    exponent,
    stage_names,
    step_names,
    values,
)
from loadtests.growth_offline.records import Records
from loadtests.growth_offline.stages import BAR, STAGES
from loadtests.running.environments import ROOT
from loadtests.running.machine import remark_on
from loadtests.tables import fill

DOCUMENT: Final = ROOT / "docs" / "performance.md"
PLOT: Final = Path("images") / "growth-offline.svg"  # relative to the document's folder
COLORS: Final = ("#999", "#2a7", "#47b", "#c60", "#a4a", "#b33")  # the bar first
NOT_MEASURED: Final = "-"
SHORTEST_STEP_S: Final = 0.1  # of the largest size; shorter steps have no row

Row = dict[str, Any]


def write(records: Records, document: Path) -> None:
    """Replace the sections of the document and its plot."""
    plotted = document.parent / PLOT
    plotted.parent.mkdir(exist_ok=True)
    plotted.write_text(plot(records), encoding="utf-8")
    text = document.read_text(encoding="utf-8")
    document.write_text(fill(text, sections(records)), encoding="utf-8")


def sections(records: Records) -> dict[str, str]:
    """The generated sections of the document by name, in markdown."""
    alt = "CPU seconds of each stage by number of receipt lines"
    return {
        "growth_offline_sizes": markdown(_sizes(records)),
        "growth_offline": f"{markdown(_stages(records))}\n\n![{alt}]({PLOT.as_posix()})",
    }


def markdown(rows: list[list[str]]) -> str:
    """A table from its rows, the header first; all columns but the first are right-aligned."""
    lines = [rows[0], ["---", *["---:"] * (len(rows[0]) - 1)], *rows[1:]]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def describe(row: Row) -> str:
    """The figures of one stage in a line of text."""
    if "failed" in row:
        return _failure(row, limit=None)
    disk = f", {row['temporary_mib']:,.0f} MiB of temporary files" if row["temporary_mib"] >= 1 else ""
    return f"{row['cpu_s']:,.1f} s CPU, {row['wall_s']:,.1f} s, {row['peak_mib']:,.0f} MiB{disk}"


def _sizes(records: Records) -> list[list[str]]:
    rows = [["shop", "lines", "baskets", "users", "items", "measured", "commit", "machine", "memory limit"]]
    for name, record in by_lines(records):
        machine = record["machine"]
        counts = [f"{record[what]:,}" for what in ("lines", "baskets", "users", "items")]
        where = f"{machine['cores']} cores of {machine['cpu']}{remark_on(record['busy_cores_before'])}"
        limit = record["memory_limit"] or "none"
        rows.append([name, *counts, record["measured"][:10], record["commit"], where, limit])
    return rows


def _stages(records: Records) -> list[list[str]]:
    sizes = [name for name, _ in by_lines(records)]
    rows = [["", *sizes, "CPU exponent", "memory exponent"]]
    stages = stage_names(records)
    for stage in stages:
        cells = [_cell(records[size], stage) for size in sizes]
        rows.append([f"**{stage}**", *cells, *_exponents(records, stage)])
        for step in step_names(records, stage):
            spent = values(records, stage, "cpu_s", step)
            if max(spent.values()) >= SHORTEST_STEP_S:
                cells = [f"{spent[size]:,.1f} s" if size in spent else NOT_MEASURED for size in sizes]
                rows.append([f"{stage}: {step}", *cells, _power(records, spent), ""])
    own = [stage for stage in STAGES if stage != BAR]
    rows.append(
        ["**whole build**", *(_together(records[size], own) for size in sizes), *_of_all(records, own)]
    )
    if BAR in stages and "etl" in stages:
        rows.append(["etl over DuckDB", *(_over_bar(records[size]) for size in sizes), "", ""])
    return rows


def _cell(record: Mapping[str, Any], stage: str) -> str:
    row = record["stages"].get(stage)
    if row is None:
        return NOT_MEASURED
    if "failed" in row:
        return _failure(row, record["memory_limit"])
    disk = f" / {row['temporary_mib']:,.0f} MiB" if row["temporary_mib"] >= 1 else ""
    return f"{row['cpu_s']:,.1f} s / {row['wall_s']:,.1f} s / {row['peak_mib']:,.0f} MiB{disk}"


def _failure(row: Row, limit: str | None) -> str:
    if row["failed"] == "memory":
        return f"killed at {limit or 'the memory limit'} after {row['wall_s']:,.0f} s"
    return f"failed: {row['failed']}".replace("|", "/").replace("\n", " ")


def _together(record: Mapping[str, Any], stages: list[str]) -> str:
    rows = [record["stages"].get(stage) for stage in stages]
    done = [row for row in rows if row and "failed" not in row]
    if len(done) < len(rows):
        return NOT_MEASURED
    cpu, wall = (sum(row[figure] for row in done) for figure in ("cpu_s", "wall_s"))
    return f"{cpu:,.0f} s / {wall:,.0f} s / {max(row['peak_mib'] for row in done):,.0f} MiB"


def _exponents(records: Records, stage: str) -> list[str]:
    return [_power(records, values(records, stage, figure)) for figure in ("cpu_s", "peak_mib")]


def _of_all(records: Records, stages: list[str]) -> list[str]:
    whole: list[str] = []
    for figure, total in (("cpu_s", sum), ("peak_mib", max)):
        found = [values(records, stage, figure) for stage in stages]
        sizes = set.intersection(*(set(each) for each in found)) if found else set()
        whole.append(_power(records, {size: total(each[size] for each in found) for size in sizes}))
    return whole


def _power(records: Records, figures: Mapping[str, float]) -> str:
    power = exponent(records, figures)
    return NOT_MEASURED if power is None else f"{power:.2f}"


def _over_bar(record: Mapping[str, Any]) -> str:
    rows = [record["stages"].get(stage, {"failed": ""}) for stage in ("etl", BAR)]
    if any("failed" in row for row in rows):
        return NOT_MEASURED
    cpu, memory = (rows[0][figure] / rows[1][figure] for figure in ("cpu_s", "peak_mib"))
    return f"CPU {cpu:.2f}, memory {memory:.2f}"


def plot(records: Records) -> str:
    """An SVG of the CPU seconds of each stage over the lines, both axes logarithmic."""
    series = {stage: values(records, stage, "cpu_s") for stage in stage_names(records)}
    series = {stage: figures for stage, figures in series.items() if figures}
    spent = [max(value, 0.1) for figures in series.values() for value in figures.values()] or [1]
    lines = [record["lines"] for record in records.values()]
    left, right = log10(min(lines)) - 0.1, log10(max(lines)) + 0.1
    low, high = floor(log10(min(spent))), ceil(log10(max(spent)) + 1e-9)

    def x(n: float) -> float:
        return 60 + 480 * (log10(n) - left) / (right - left)

    def y(value: float) -> float:
        return 290 - 260 * (log10(max(value, 0.1)) - low) / max(high - low, 1)

    parts = [
        f'<path d="M60 {y(10.0**power):.0f}H540" stroke="#999" stroke-opacity=".4"/>'
        f'<text x="52" y="{y(10.0**power) + 4:.0f}" text-anchor="end">{10.0**power:,g}</text>'
        for power in range(low, high + 1)
    ]
    parts += [
        f'<text x="{x(record["lines"]):.0f}" y="308" text-anchor="middle">{name}</text>'
        for name, record in by_lines(records)
    ]
    for i, (stage, figures) in enumerate(series.items()):
        color = COLORS[i % len(COLORS)]
        places = [(x(records[size]["lines"]), y(value)) for size, value in figures.items()]
        points = " ".join(f"{across:.1f},{down:.1f}" for across, down in places)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts += [f'<circle cx="{a:.1f}" cy="{d:.1f}" r="3" fill="{color}"/>' for a, d in places]
        parts.append(f'<text x="560" y="{50 + 20 * i}" style="fill:{color}">{stage}</text>')
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 680 320" font-family="sans-serif" '
        'font-size="12"><style>text{fill:#333}@media(prefers-color-scheme:dark){text{fill:#ddd}}</style>'
        f'<text x="0" y="14" font-weight="bold">CPU seconds</text>{"".join(parts)}</svg>\n'
    )
