"""Formats a bench result as a table for the terminal, as a plot, and as the tables of docs/performance.md.

python -m loadtests.tables artifacts/bench/2026-11-23T060000+0000.json
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from html import escape
from math import log10
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from loadtests.bench.results import HALF, Row
from loadtests.running.environments import ROOT
from loadtests.running.machine import remark_on

DOCUMENT: Final = ROOT / "docs" / "performance.md"
_COLUMNS: Final = (
    "server",
    "wire",
    "cache",
    "concurrency",
    "rps",
    "p50 ms",
    "p99 ms",
    "errors",
    "CPU µs",
    "MiB",
)
_RIGHT: Final = 3  # the first column of numbers
_RATIO_LABELS: Final = {
    "over_best_peer": "requests/s of cesta / best peer with the same candidates",
    "over_best_peer_by_json": "requests/s of cesta by plain JSON, as the peers / best peer",
    "over_whole_vocabulary": "requests/s of cesta / whole catalog by torch",
    "ndcg_share_of_whole_vocabulary": "the release's NDCG@10 as a share of scoring the whole catalog",
    "over_whole_vocabulary_by_onnx": "requests/s of cesta / whole catalog by ONNX Runtime",
    "over_limit": "requests/s of cesta / the chain without a server",
    "cached_over_best_peer": "requests/s of cesta, cache on, the month's questions in order / best peer",
    "hits_over_best_peer": "requests/s of cesta, every answer from the cache / best peer",
    "gateway_over_guarded_peer": "requests/s of cesta through the gateway / FastAPI with keys and limits",
    "p99_at_half_of_saturation_ms": "cesta's p99 at half of saturation, ms",
    "best_peer_p99_at_half_of_saturation_ms": "the best peer's p99 at half of its saturation, ms",
}


def show(result: dict[str, Any], console: Console) -> None:
    """Print the rows, the ratios, and the servers that could not be measured."""
    table = Table()
    for i, column in enumerate(_COLUMNS):
        table.add_column(column, justify="right" if i >= _RIGHT else "left")
    for row in result["rows"]:
        table.add_row(*_cells(row))
    console.print(table)
    for name, value in result["ratios"].items():
        console.print(f"{_RATIO_LABELS[name]}: {_ratio(name, value)}", highlight=False)
    for name, reason in result["not_measured"].items():
        console.print(f"{name} was not measured: {reason}", style="red", markup=False, highlight=False)


def sections(result: dict[str, Any]) -> dict[str, str]:
    """The generated sections of the document by name, in markdown."""
    machine = result["machine"]
    stream, plan = result["stream"], result["plan"]
    busy = result["busy_cores_before"]
    loaded = remark_on(busy)
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    run = (
        f"{result['started']}, {machine['cores']} cores of {machine['cpu']}, Linux {machine['kernel']}, "
        f"Python {machine['python']}, {versions}; {plan['repetitions']} times {plan['seconds']:g} s, "
        f"{stream['questions']:,} questions, {stream['different']:,} different; "
        f"{result['minutes']} minutes.{loaded}"
    )
    rows = [_cells(row) for row in result["rows"]]
    refused = [[name, reason.replace("\n", " ")] for name, reason in result["not_measured"].items()]
    cpu = [
        [
            *_cells(row)[:4],
            ", ".join(f"{process} {us:,.0f}" for process, us in _heaviest(row)),
            f"{row['generator_cpu_share']:.0%}" if row["cpu_us_per_request"] else "-",
        ]
        for row in result["rows"]
    ]
    return {
        "run": run,
        "rows": _markdown(_COLUMNS, rows),
        "ratios": _markdown(
            ("ratio", "value"),
            [[_RATIO_LABELS[name], _ratio(name, value)] for name, value in result["ratios"].items()],
        ),
        "cpu": _markdown(
            (*_COLUMNS[:4], "CPU µs per request, by process", "generator's share of all CPU"), cpu
        ),
        "refused": _markdown(("server", "why it was not measured"), refused) if refused else "None.",
    }


def fill(text: str, parts: dict[str, str]) -> str:
    """Replace each part between its marks `<!-- bench:name -->` and `<!-- end -->` in `text`."""

    def replace(match: re.Match[str]) -> str:
        return f"{match[1]}\n{parts[match[2]]}\n<!-- end -->" if match[2] in parts else match[0]

    return re.sub(r"(<!-- bench:(\w+) -->)\n.*?<!-- end -->", replace, text, flags=re.DOTALL)


def plot(rows: Sequence[Row]) -> str:
    """An SVG bar chart of the highest requests/s per server, wire and cache setting; logarithmic axis."""
    best: dict[tuple[str, str, str], Row] = {}
    for row in rows:
        key = row["server"], row["wire"], row["cache"]
        if row["concurrency"] != HALF and row["rps"] > best.get(key, {"rps": 0})["rps"]:
            best[key] = row
    bars = sorted(best.values(), key=lambda row: row["rps"])
    top = max((row["rps"] for row in bars), default=1)
    parts = [_bar(i, row, top) for i, row in enumerate(bars)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {len(bars) * 22 + 40}" '
        'font-family="sans-serif" font-size="12"><style>text{fill:#333}@media(prefers-color-scheme:dark)'
        "{text{fill:#ddd}}</style>"
        f'<text x="0" y="14" font-weight="bold">requests a second, best concurrency (logarithmic)</text>'
        f"{''.join(parts)}</svg>\n"
    )


def _bar(i: int, row: Row, top: float) -> str:
    y, width = i * 22 + 28, 380 * log10(max(row["rps"], 1.01)) / log10(max(top, 10))
    color = {"ours": "#2a7", "limit": "#999"}.get(row["kind"], "#47b")
    label = escape(
        f"{row['server']}, {row['wire']}" + ("" if row["cache"] == "off" else f", cache {row['cache']}")
    )
    return (
        f'<text x="0" y="{y + 12}">{label}</text><rect x="290" y="{y}" width="{width:.0f}" height="16" '
        f'fill="{color}"/><text x="{295 + width:.0f}" y="{y + 12}">{row["rps"]:,.0f}</text>'
    )


def _cells(row: Row) -> list[str]:
    low, high = row["spread"]["rps"]
    spread = f" ({low:,.0f} to {high:,.0f})" if row["repetitions"] > 1 else ""
    cache = row["cache"] + (
        f" ({row['hit_share']:.0%} hits)" if row["cache"] == "on" and row["hit_share"] is not None else ""
    )
    return [
        row["server"],
        row["wire"],
        cache,
        str(row["concurrency"]),
        f"{row['rps']:,.0f}{spread}",
        f"{row['p50_ms']:.2f}",
        f"{row['p99_ms']:.2f}",
        str(row["errors"]),
        f"{row['cpu_us_per_request_total']:,.0f}" if row["cpu_us_per_request"] else "-",
        f"{row['peak_mib']:,.0f}" if row["peak_mib"] else "-",
    ]


def _heaviest(row: Row, most: int = 4) -> list[tuple[str, float]]:
    by_time = sorted(row["cpu_us_per_request"].items(), key=lambda pair: -pair[1])
    return [pair for pair in by_time[:most] if pair[1] >= 1]


def _ratio(name: str, value: float | None) -> str:
    digits = 4 if name == "ndcg_share_of_whole_vocabulary" else 2  # its target is 0.99
    return "not measured" if value is None else f"{value:,.{digits}f}"


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---" if i < _RIGHT else "---:" for i in range(len(columns))], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a result's tables into docs/performance.md."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.tables", description=main.__doc__)
    parser.add_argument("result", type=Path, help="a result file of python -m loadtests.bench")
    parser.add_argument("--document", type=Path, default=DOCUMENT)
    given = parser.parse_args(arguments)
    result = json.loads(given.result.read_text(encoding="utf-8"))
    text = given.document.read_text(encoding="utf-8")
    given.document.write_text(fill(text, sections(result)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
