"""Formats a switching result as tables for the terminal and for docs/performance.md."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from loadtests.running.environments import ROOT
from loadtests.running.machine import remark_on
from loadtests.tables import fill

DOCUMENT: Final = ROOT / "docs" / "performance.md"

CHANGES: Final = {
    "promotion of a release that is not loaded, total": "promotion_{}_s",
    "promotion: verifying its files": "promotion_{}_verify_s",
    "promotion: the trial in a second server": "promotion_{}_trial_s",
    "promotion: loading both parts": "promotion_{}_loading_s",
    "promotion: golden requests": "promotion_{}_golden_ms",
    "promotion: the switch": "promotion_{}_switch_ms",
    "rollback, total": "rollback_{}_s",
    "rollback: the switch back": "rollback_{}_switch_ms",
}
SINGLE: Final = {
    "start to first answer, kernels not compiled": "start_empty_s",
    "start to first answer, kernels compiled before": "start_filled_s",
    "first question after a start": "first_after_start_ms",
    "the next hundred questions": "later_after_start_ms",
    "first question after a promotion": "first_after_promotion_ms",
    "the next hundred after that": "later_after_promotion_ms",
    "memory after the start": "memory_before_mib",
    "memory with two releases": "memory_two_mib",
    "memory at the end": "memory_after_mib",
}
WINDOWS: Final = {
    "rest": "at rest",
    "promotion": "during a promotion",
    "switch": "the second around the promotion's switch",
    "rollback": "the second around the rollback's switch",
    "all": "total",
}
_UNITS: Final = {"s": "s", "ms": "ms", "mib": "MiB"}


def write(result: dict[str, Any], document: Path) -> None:
    """Replace the switching sections of the document."""
    text = document.read_text(encoding="utf-8")
    document.write_text(fill(text, sections(result)), encoding="utf-8")


def show(result: dict[str, Any], console: Console) -> None:
    """Print the same tables."""
    for text in sections(result).values():
        console.print(text, highlight=False, markup=False, soft_wrap=True)


def sections(result: dict[str, Any]) -> dict[str, str]:
    """The generated sections of the document by name, in markdown."""
    machine, plan, busy = result["machine"], result["plan"], result["busy_cores_before"]
    loaded = remark_on(busy)
    run = (
        f"{result['started']}, {machine['cores']} cores of {machine['cpu']}, {plan['repetitions']} times; "
        f"{result['minutes']} minutes. {result['windows']['all']['failed']} requests failed, "
        f"{len(result['mixed'])} answers were not those of the release that gave them; an answer sampled "
        f"by one release and scored by the other would show in {result['a_mix_shows']:.0%} of the "
        f"questions.{loaded}"
    )
    figures = result["figures"]
    return {
        "switching_run": run,
        "switching_single": _table(["", "median", "least to most"], _single_rows(figures)),
        "switching_changes": _table(
            ["", "nobody asks", f"{plan['rate']:g} requests/s"],
            [
                [label, *(_value(figures, key.format(when)) for when in ("rest", "load"))]
                for label, key in CHANGES.items()
            ],
        ),
        "switching_load": _table(
            ["", "requests", "p50 ms", "p99 ms", "longest ms", "failed"],
            [_window_row(label, result["windows"][name]) for name, label in WINDOWS.items()],
        ),
    }


def _single_rows(figures: dict[str, Any]) -> list[list[str]]:
    rows = []
    for label, key in SINGLE.items():
        low, high = figures[key]["spread"]
        rows.append([label, _value(figures, key), f"{_number(low)} to {_number(high)}"])
    return rows


def _window_row(label: str, window: dict[str, float]) -> list[str]:
    times = [f"{window[name]:.1f}" for name in ("p50_ms", "p99_ms", "most_ms")]
    return [label, f"{window['requests']:,.0f}", *times, f"{window['failed']:.0f}"]


def _value(figures: dict[str, Any], key: str) -> str:
    return f"{_number(figures[key]['median'])} {_UNITS[key.rpartition('_')[2]]}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
