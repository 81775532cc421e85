"""Continues the measured figures to larger shops, and prices them: the tables of docs/scale.md.

python -m loadtests.growth_offline.scale --core-hour 0.04 --gib-hour 0.005 --disk-gib-month 0.10 --cores 16

Nothing is measured here. A figure of the largest measured size grows by its exponent: that of all sizes, or
that between the two largest if it is higher, because fixed costs hide growth between small sizes. A stage is
the sum of its steps: one that does not grow would hide another that does.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor, log10
from pathlib import Path
from typing import Any, Final

from export_scripts.settings import load_settings
from loadtests.growth_offline.figures import by_lines, exponent, stage_names, step_names, values
from loadtests.growth_offline.records import RESULTS, Records, read_records
from loadtests.growth_offline.stages import BAR
from loadtests.growth_offline.tables import NOT_MEASURED, SHORTEST_STEP_S, markdown
from loadtests.running.environments import ROOT
from loadtests.tables import fill

DOCUMENT: Final = ROOT / "docs" / "scale.md"
HOURS_A_MONTH: Final = 730
HOURS: Final = ("h", 3600.0)  # of seconds
GIB: Final = ("GiB", 1024.0)  # of MiB

# Files of a run by what they grow with, told by the begin of their names. All others grow with the items.
DRIVERS: Final = {
    "arrays/histories.items": "lines",
    "arrays/histories.times": "baskets",
    "arrays/histories.basket_offsets": "baskets",
    "arrays/histories.user_offsets": "users",
    "arrays/user_ids": "users",
    "arrays/retrieval.users": "users",
}
GRAPH_TABLES: Final = "model.data"  # those of users and of items in one file


@dataclass(frozen=True)
class Shop:
    """A shop that was not measured."""

    name: str
    lines: float
    users: float
    items: float


@dataclass(frozen=True)
class Prices:
    """Prices of rented machines, in any currency."""

    core_hour: float
    gib_hour: float
    disk_gib_month: float


SHOPS: Final = (
    Shop("10⁹ lines, 10⁷ users, 10⁶ items", 1e9, 1e7, 1e6),
    Shop("10¹⁰ lines, 10⁸ users, 10⁷ items", 1e10, 1e8, 1e7),
)


def power_of(records: Records, figures: Mapping[str, float]) -> float | None:
    """Return the exponent of the figures by size; None for fewer than two sizes."""
    sizes = [name for name, _ in by_lines(records) if figures.get(name, 0) > 0]
    powers = [exponent(records, {name: figures[name] for name in each}) for each in (sizes, sizes[-2:])]
    return max((power for power in powers if power is not None), default=None)


def extrapolate(records: Records, figures: Mapping[str, float], lines: float) -> float | None:
    """Continue the figures by size to so many ``lines``; None for fewer than two sizes."""
    power = power_of(records, figures)
    if power is None:
        return None
    last = [name for name, _ in by_lines(records) if figures.get(name, 0) > 0][-1]
    times: float = (lines / records[last]["lines"]) ** power
    return figures[last] * times


def extrapolate_stage(records: Records, stage: str, lines: float) -> float | None:
    """Continue the CPU seconds of a stage: those of its steps, and what is outside of them."""
    whole = values(records, stage, "cpu_s")
    steps = {step: values(records, stage, "cpu_s", step) for step in step_names(records, stage)}
    outside = {size: whole[size] - sum(spent.get(size, 0.0) for spent in steps.values()) for size in whole}
    parts = [extrapolate(records, figures, lines) for figures in (*steps.values(), outside)]
    known = [part for part in parts if part is not None]
    return sum(known) if known else None


def release_bytes(record: Mapping[str, Any], shop: Shop, user_floats: int) -> float:
    """Return the bytes of the shop's run from those of a measured one, file by file.

    The graph's tables hold ``user_floats`` numbers of four bytes for each user.
    """
    baskets = shop.lines * record["baskets"] / record["lines"]
    times = {
        "lines": shop.lines / record["lines"],
        "baskets": baskets / record["baskets"],
        "users": shop.users / record["users"],
        "items": shop.items / record["items"],
    }
    total = 0.0
    for file, size in record["release"].items():
        if file == GRAPH_TABLES:
            of_users = 4 * user_floats * record["users"]
            total += of_users * times["users"] + max(size - of_users, 0) * times["items"]
            continue
        driver = next((driver for begin, driver in DRIVERS.items() if file.startswith(begin)), "items")
        total += size * times[driver]
    return total


def sections(records: Records, prices: Prices, cores: int) -> dict[str, str]:
    """The generated sections of the document by name, in markdown."""
    exported = values(records, "export", "cpu_s")
    if len(exported) < 2:
        return {"scale": "Not computed yet: two sizes with all stages are needed (`make growth-offline`)."}
    last = [name for name, _ in by_lines(records) if name in exported][-1]
    record, stages = records[last], [stage for stage in stage_names(records) if stage != BAR]
    header = ["", f"measured: {last}, {record['lines']:,} lines", *(shop.name for shop in SHOPS), "exponent"]
    rows = [header]
    for stage in stages:
        rows.append(_continue_stage(records, stage, last))
        for step in step_names(records, stage):
            spent = values(records, stage, "cpu_s", step)
            if spent.get(last, 0) >= SHORTEST_STEP_S:
                rows.append(_continue(records, f"{stage}: {step}, CPU", spent, last, HOURS))
    for figure, what in (("peak_mib", "memory in one process"), ("temporary_mib", "temporary files")):
        for stage in stages:
            taken = values(records, stage, figure)
            if taken.get(last, 0) >= 1:
                rows.append(_continue(records, f"{stage}, {what}", taken, last, GIB))
    floats = load_settings().train.hidden[0]
    sizes = [sum(record["release"].values()), *(release_bytes(record, shop, floats) for shop in SHOPS)]
    rows.append(["**release**", *(f"{size / 1e9:,.1f} GB" for size in sizes), ""])
    all_lines = [record["lines"], *(shop.lines for shop in SHOPS)]
    costs = [_cost(records, stages, lines, prices, cores) for lines in all_lines]
    rows.append(["**price of a build**", *(NOT_MEASURED if c is None else f"{c:,.2f}" for c in costs), ""])
    said = (
        f"Prices of this table: {prices.core_hour:g} for a core and an hour, {prices.gib_hour:g} for a GiB "
        f"of memory and an hour, {prices.disk_gib_month:g} for a GiB of disk and a month, on {cores} cores. "
        "The price is arithmetic in every column."
    )
    return {"scale": f"{markdown(rows)}\n\n{said}"}


def _continue_stage(records: Records, stage: str, last: str) -> list[str]:
    """One row: the CPU of a stage. It is a sum of powers, so it has no exponent."""
    larger = (extrapolate_stage(records, stage, shop.lines) for shop in SHOPS)
    amounts = [values(records, stage, "cpu_s").get(last), *larger]
    return [f"**{stage}**, CPU", *(_amount(amount, HOURS) for amount in amounts), ""]


def _continue(
    records: Records, name: str, figures: Mapping[str, float], last: str, unit: tuple[str, float]
) -> list[str]:
    """One row: the measured figure, those of the larger shops, and the exponent."""
    amounts = [figures.get(last), *(extrapolate(records, figures, shop.lines) for shop in SHOPS)]
    power = power_of(records, figures)
    cells = [_amount(amount, unit) for amount in amounts]
    return [name, *cells, NOT_MEASURED if power is None else f"{power:.2f}"]


def _amount(amount: float | None, unit: tuple[str, float]) -> str:
    sign, size = unit
    return NOT_MEASURED if amount is None else f"{_round(amount / size)} {sign}"


def _round(value: float) -> str:
    """Two digits, since more would promise too much."""
    digits = 1 - floor(log10(value)) if value > 0 else 0
    return f"{round(value, digits):,.{max(digits, 0)}f}"


def _cost(records: Records, stages: Sequence[str], lines: float, prices: Prices, cores: int) -> float | None:
    """Price a build: its CPU, and the memory and temporary files of each stage while it runs on all cores."""
    total = 0.0
    for stage in stages:
        cpu_s = extrapolate_stage(records, stage, lines)
        figures = (values(records, stage, figure) for figure in ("peak_mib", "temporary_mib"))
        memory, disk = (extrapolate(records, each, lines) for each in figures)
        if cpu_s is None or memory is None:
            return None
        hours = cpu_s / 3600 / cores
        total += cpu_s / 3600 * prices.core_hour + memory / 1024 * hours * prices.gib_hour
        total += (disk or 0) / 1024 * hours / HOURS_A_MONTH * prices.disk_gib_month
    return total


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the tables of docs/scale.md from the kept figures."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.growth_offline.scale",
        description=main.__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--core-hour", type=float, default=0.04, help="price of a core for an hour")
    parser.add_argument("--gib-hour", type=float, default=0.005, help="of a GiB of memory for an hour")
    parser.add_argument("--disk-gib-month", type=float, default=0.1, help="of a GiB of disk for a month")
    parser.add_argument("--cores", type=int, default=16, help="of all machines together")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the figures of growth-offline")
    parser.add_argument("--document", type=Path, default=DOCUMENT, help="gets the table")
    given = parser.parse_args(arguments)
    prices = Prices(given.core_hour, given.gib_hour, given.disk_gib_month)
    found = sections(read_records(given.results), prices, given.cores)
    text = given.document.read_text(encoding="utf-8")
    given.document.write_text(fill(text, found), encoding="utf-8")
    print(found["scale"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
