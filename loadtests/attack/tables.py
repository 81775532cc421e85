"""Writes the report for people."""

from rich.console import Console
from rich.table import Table

from loadtests.attack.report import Report, summarise

COLUMNS = ("attack", "sent", "answers", "honest", "failed", "p50 ms", "p99 ms", "findings")
WIDTH = 110
MOST_ANSWERS = 2  # kinds in one cell


def show(report: Report, console: Console) -> None:
    """Print the table, then each finding."""
    table = Table(*COLUMNS)
    for one in report.attacked:
        answers = ", ".join(f"{n} {name}" for name, n in one.outcome.answers.most_common(MOST_ANSWERS))
        found = str(len(one.find(report.standing)) or "")
        name = f"{one.theme}, {one.attack.name}"
        table.add_row(name, str(one.outcome.sent), answers, *_cells(summarise(one.honest)), found)
    table.add_section()
    table.add_row("all", "", "", *_cells(summarise(report.honest)), str(len(report.findings) or ""))
    console.print(table)
    before, after = report.throughput
    console.print(f"throughput {before:.2f} of Triton's before, {after:.2f} after", highlight=False)
    for finding in report.findings:
        console.print(finding, markup=False, highlight=False, soft_wrap=True)
    if not report.findings:
        console.print("no attack did any harm")


def _cells(honest: dict[str, float]) -> list[str]:
    failed = honest["failed"] + honest["probes_failed"]
    return [
        f"{honest['requests']:.0f}",
        f"{failed:.0f}",
        f"{honest['p50_ms']:.1f}",
        f"{honest['p99_ms']:.1f}",
    ]
