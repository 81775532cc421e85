"""Formats a result of loadtests.users as the table of docs/performance.md."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from loadtests.running.environments import ROOT
from loadtests.running.machine import remark_on
from loadtests.tables import fill

DOCUMENT: Final = ROOT / "docs" / "performance.md"
SAMPLER: Final = "stub candidate_sampler"

Row = dict[str, Any]


def _memory(row: Row, when: str, process: str = "all") -> str:
    found = row[when].get(process)
    return f"{found['pss'] - found['mapped']:,.0f} + {found['mapped']:,.0f} MiB" if found else "-"


COLUMNS: Final[Mapping[str, Callable[[Row], str]]] = MappingProxyType(
    {
        "users": lambda row: f"{row['users']:,}",
        "release": lambda row: f"{row['release_mib']:,} MiB",
        "scorer": lambda row: f"{row['scorer_mib']:,} MiB",
        "user ids": lambda row: f"{row['ids_mib']:,} MiB",
        "publish": lambda row: f"{row['publish_s']:.1f} s",
        "start": lambda row: f"{row['start_s']:.1f} s",
        "memory": lambda row: _memory(row, "memory_fresh"),
        "after the load": lambda row: _memory(row, "memory"),
        "samplers": lambda row: _memory(row, "memory", SAMPLER),
        "with two releases": lambda row: _memory(row, "memory_of_two"),
        "p50, 1": lambda row: f"{row['load']['1']['p50_ms']:.2f} ms",
        "p99, 1": lambda row: f"{row['load']['1']['p99_ms']:.2f} ms",
        "p50, 8": lambda row: f"{row['load']['8']['p50_ms']:.2f} ms",
        "p99, 8": lambda row: f"{row['load']['8']['p99_ms']:.2f} ms",
        "CPU, 8": lambda row: f"{row['load']['8']['cpu_us']:,} µs",
        "promotion": lambda row: f"{row['promotion_s']:.1f} s",
        "of which verify": lambda row: f"{row['promotion_steps_s'].get('verify', 0):.1f} s",
        "trial": lambda row: f"{row['promotion_steps_s'].get('trial', 0):.1f} s",
        "load": lambda row: f"{_loading(row):.1f} s",
        "switch": lambda row: f"{row['promotion_steps_s']['switch'] * 1e3:.0f} ms",
    }
)


def write(result: dict[str, Any], document: Path) -> None:
    """Replace the sections about users in the document."""
    document.write_text(fill(document.read_text(encoding="utf-8"), sections(result)), encoding="utf-8")


def sections(result: dict[str, Any]) -> dict[str, str]:
    """The generated sections of the document by name, in markdown. Sizes are rows of the table."""
    machine, rows = result["machine"], result["rows"]
    first = rows[0]
    run = (
        f"{result['started']}, {machine['cores']} cores of {machine['cpu']}; {result['minutes']} minutes. "
        f"{first['items']:,} items; baskets of three items, {first['baskets']} for each user; vectors of "
        f"{first['dimensions']}; a first layer of {first['hidden']}.{remark_on(result['busy_cores_before'])}"
    )
    names = ["", *(COLUMNS["users"](row) for row in rows)]
    lines = [names, ["---", *["---:"] * len(rows)]]
    lines += [[name, *map(show, rows)] for name, show in COLUMNS.items() if name != "users"]
    return {"users_run": run, "users": "\n".join("| " + " | ".join(cells) + " |" for cells in lines)}


def _loading(row: Row) -> float:
    steps: dict[str, float] = row["promotion_steps_s"]
    return sum(seconds for step, seconds in steps.items() if step.startswith("load "))
