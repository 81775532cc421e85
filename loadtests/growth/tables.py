"""Formats a growth result as a line on the terminal, and as the table and plot of docs/performance.md."""

from collections.abc import Callable, Sequence
from math import log10
from pathlib import Path
from typing import Any, Final

from loadtests.running.environments import ROOT
from loadtests.running.machine import remark_on
from loadtests.tables import fill

DOCUMENT: Final = ROOT / "docs" / "performance.md"
PLOT: Final = Path("images") / "growth.svg"  # relative to the document's folder

GREEN, BLUE = "#2a7", "#47b"

Row = dict[str, Any]

COLUMNS: Final[dict[str, Callable[[Row], str]]] = {
    "items": lambda row: f"{row['items']:,}",
    "p50, 1 connection": lambda row: f"{row['load']['1']['p50_ms']:.2f} ms",
    "p99": lambda row: f"{row['load']['1']['p99_ms']:.2f} ms",
    "p50, 8 connections": lambda row: f"{row['load']['8']['p50_ms']:.2f} ms",
    "p99, 8": lambda row: f"{row['load']['8']['p99_ms']:.2f} ms",
    "requests/s, 8": lambda row: f"{row['load']['8']['rps']:,.0f}",
    "requests/s, 128": lambda row: f"{row['load']['128']['rps']:,.0f}",
    "whole catalog by torch": lambda row: _shorten(row["whole_catalog"]["rps"]),
    "times": lambda row: f"{_best_rate(row['load']) / row['whole_catalog']['rps']:,.0f}",
    "CPU, 8": lambda row: f"{row['load']['8']['cpu_us']:,} µs",
    "memory": lambda row: f"{row['memory_mib']['pss']:,.0f} MiB",
    "mapped": lambda row: f"{row['memory_mib']['mapped']:,.0f} MiB",
    "start": lambda row: f"{row['start_s']:.1f} s",
    "release": lambda row: f"{row['release_mib']:,} MiB",
    "export": lambda row: f"{row['export_s']:.0f} s",
    "index": lambda row: f"{row['index_s']:.1f} s",
    "search": lambda row: _describe_search(row["index"]),
    "recall": lambda row: f"{row['recall']:.3f}",
}


def format_line(row: Row) -> str:
    """One size as a line of text."""
    return "  ".join(f"{name} {show(row)}" for name, show in COLUMNS.items())


def write(result: dict[str, Any], document: Path) -> None:
    """Replace the growth sections of the document and its plot."""
    plotted = document.parent / PLOT
    plotted.parent.mkdir(exist_ok=True)
    plotted.write_text(plot(result["rows"]), encoding="utf-8")
    text = document.read_text(encoding="utf-8")
    document.write_text(fill(text, sections(result)), encoding="utf-8")


def sections(result: dict[str, Any]) -> dict[str, str]:
    """The generated sections of the document by name, in markdown."""
    machine, plan, rows = result["machine"], result["plan"], result["rows"]
    busy = result["busy_cores_before"]
    loaded = remark_on(busy)
    run = (
        f"{result['started']}, {machine['cores']} cores of {machine['cpu']}, {plan['repetitions']} times "
        f"{plan['seconds']:g} s; {result['minutes']} minutes. From {rows[0]['items']:,} to "
        f"{rows[-1]['items']:,} items the p50 of one connection grows {_times(rows, '1')} times at most, of "
        f"eight {_times(rows, '8')} times.{loaded}"
    )
    lines = [
        list(COLUMNS),
        ["---:"] * len(COLUMNS),
        *([show(row) for show in COLUMNS.values()] for row in rows),
    ]
    table = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
    alt = "Latency and memory by number of items"
    return {"growth_run": run, "growth": f"{table}\n\n![{alt}]({PLOT.as_posix()})"}


def plot(rows: Sequence[Row]) -> str:
    """An SVG with two panels, p50 and memory, over the number of items on a logarithmic axis."""
    latency = {
        f"p50, {n} connection{'s' * (n != '1')}": [row["load"][n]["p50_ms"] for row in rows]
        for n in ("1", "8")
    }
    memory = {
        "memory": [row["memory_mib"]["pss"] for row in rows],
        "not mapped": [row["memory_mib"]["pss"] - row["memory_mib"]["mapped"] for row in rows],
    }
    items = [row["items"] for row in rows]
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 280" font-family="sans-serif" '
        'font-size="12"><style>text{fill:#333}@media(prefers-color-scheme:dark){text{fill:#ddd}}</style>'
        f"{_panel(0, 'milliseconds', items, latency)}{_panel(390, 'MiB', items, memory)}</svg>\n"
    )


def _panel(left: int, unit: str, items: Sequence[int], series: dict[str, list[float]]) -> str:
    top = max(max(values) for values in series.values()) * 1.15
    low, high = log10(items[0]), log10(items[-1])

    def x(n: int) -> float:
        return left + 20 + 280 * (log10(n) - low) / max(high - low, 1e-9)

    def y(value: float) -> float:
        return 240 - 200 * value / top

    parts = [
        f'<text x="{left}" y="14" font-weight="bold">{unit}</text>',
        f'<path d="M{left + 20} 240H{left + 310}" stroke="#999"/>',
    ]
    parts += [f'<text x="{x(n):.0f}" y="258" text-anchor="middle">{_shorten(n)}</text>' for n in items]
    for (name, values), color in zip(series.items(), (GREEN, BLUE), strict=True):
        points = " ".join(f"{x(n):.1f},{y(v):.1f}" for n, v in zip(items, values, strict=True))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts += [
            f'<text x="{x(n):.0f}" y="{y(v) - 6:.0f}" text-anchor="middle">{_shorten(v)}</text>'
            for n, v in zip(items, values, strict=True)
        ]
        place = left + 20 + 140 * (color != GREEN)
        parts.append(f'<text x="{place}" y="275" style="fill:{color}">{name}</text>')
    return "".join(parts)


def _best_rate(load: dict[str, Any]) -> float:
    """The highest requests/s over all numbers of connections."""
    return max(float(measured["rps"]) for measured in load.values())


def _describe_search(index: dict[str, Any]) -> str:
    return f"{index['probes']} of {index['lists']} lists" if index["lists"] else "all compared"


def _times(rows: Sequence[Row], connections: str) -> str:
    p50s = [row["load"][connections]["p50_ms"] for row in rows]
    return f"{max(p50s) / p50s[0]:.2f}"


def _shorten(n: float) -> str:
    """A number in few characters: 1.23, 820, 28 k, 1 M."""
    if n >= 1e6:
        return f"{n / 1e6:.3g} M"
    return f"{n / 1e3:.0f} k" if n >= 1e4 else f"{n:,.0f}" if n >= 100 else f"{n:.3g}"
