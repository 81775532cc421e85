"""Formats the outages of killed processes as a table for the terminal and for docs/operations.md."""

from pathlib import Path
from typing import Any, Final

from rich.console import Console

from loadtests.running.machine import remark_on
from loadtests.tables import fill

MARK: Final = "faults"
_HEAD: Final = "| killed | requests | failed | they failed for | slowest answer |\n|---|--:|--:|--:|--:|\n"


def show(result: dict[str, Any], console: Console) -> None:
    """Print the table."""
    console.print(section(result), highlight=False, markup=False, soft_wrap=True)


def write(result: dict[str, Any], document: Path) -> None:
    """Replace the table of a document, between `<!-- bench:faults -->` and `<!-- end -->`."""
    text = document.read_text(encoding="utf-8")
    document.write_text(fill(text, {MARK: section(result)}), encoding="utf-8")


def section(result: dict[str, Any]) -> str:
    """The table in markdown, with when and where it was measured."""
    machine, busy = result["machine"], result["busy_cores_before"]
    loaded = remark_on(busy)
    rows = "".join(_row(outage) for outage in result["outages"])
    return (
        f"{result['started']}, {machine['cores']} cores of {machine['cpu']}, {result['rate']:.0f} requests/s "
        f"through the gateway.{loaded}\n\n{_HEAD}{rows}".rstrip()
    )


def _row(outage: dict[str, Any]) -> str:
    span = f"{outage['last_s'] - outage['first_s']:.2f} s" if outage["failed"] else "-"
    return (
        f"| {outage['fault']} | {outage['requests']} | {outage['failed']} | {span} "
        f"| {outage['slowest_ms']:.0f} ms |\n"
    )
