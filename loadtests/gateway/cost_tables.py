"""Formats the gateway's cost as tables for the terminal and for docs/performance.md."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from loadtests.running.machine import remark_on
from loadtests.tables import fill

_COLUMNS: Final = ("load", "asked", "requests/s", "p99 ms")
_LEFT: Final = 2  # columns of words; the others hold numbers
_NAMES: Final = {
    "direct": "Triton itself",
    "bare": "nginx as a bare proxy",
    "gateway": "the gateway",
    "other gateway": "the other gateway",
}


def describe(traffic: Mapping[str, Any]) -> str:
    """A load in words."""
    number = traffic["connections"]
    return f"{traffic['protocol']}, {traffic['baskets']} baskets, {number} connection{'s' * (number != 1)}"


def show(result: dict[str, Any], console: Console) -> None:
    """Print the table."""
    table = Table()
    columns, *lines = _lines(result)
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i < _LEFT else "right")
    for cells in lines:
        table.add_row(*cells)
    console.print(table)
    console.print(_run(result), highlight=False, soft_wrap=True)


def write(result: dict[str, Any], document: Path) -> None:
    """Replace the sections of the gateway's cost in the document."""
    text = document.read_text(encoding="utf-8")
    document.write_text(fill(text, sections(result)), encoding="utf-8")


def sections(result: dict[str, Any]) -> dict[str, str]:
    """The generated sections of the document by name, in markdown."""
    columns, *lines = _lines(result)
    ruler = ["---" if i < _LEFT else "---:" for i in range(len(columns))]
    table = "\n".join("| " + " | ".join(line) + " |" for line in [columns, ruler, *lines])
    return {"gateway_run": _run(result), "gateway": table}


def _run(result: dict[str, Any]) -> str:
    machine, plan, busy = result["machine"], result["plan"], result["busy_cores_before"]
    loaded = remark_on(busy)
    return (
        f"{result['started']}, {machine['cores']} cores of {machine['cpu']}, {plan['pairs']} rounds of "
        f"{plan['seconds']} s; {result['minutes']} minutes. Medians; in brackets the 95% interval of the "
        f"median.{loaded}"
    )


def _lines(result: dict[str, Any]) -> list[list[str]]:
    """The names of the columns, then a line for each load and target."""
    rows = result["rows"]
    compared = list(dict.fromkeys(share["to"] for row in rows for share in row["shares"]))
    columns = [*_COLUMNS, *(f"share of {name}" for name in compared), "budget"]
    return [columns, *(_line(row, name, compared) for row in rows for name in row["rps"])]


def _line(row: dict[str, Any], name: str, compared: Sequence[str]) -> list[str]:
    shares = {share["to"]: share for share in row["shares"] if share["of"] == name}
    held = [share for share in shares.values() if share["verdict"]]
    return [
        describe(row),
        _NAMES[name],
        f"{median(row['rps'][name]):,.0f}",
        f"{median(row['p99_ms'][name]):.2f}",
        *(_share(shares.get(other)) for other in compared),
        ", ".join(f"{share['least']:.2f} {share['verdict']}" for share in held) or "-",
    ]


def _share(share: dict[str, Any] | None) -> str:
    return f"{share['middle']:.3f} ({share['low']:.3f} to {share['high']:.3f})" if share else "-"
