"""Measures how the cost of a release grows with the shop: each stage of a build, as a process of its own.

python -m loadtests.growth_offline S1 S2 --memory 12GiB

main
├── for each size
│   ├── write_named       a generated shop, unless it is there
│   └── measure_stages    the bar for etl, then etl, train, evaluate, export, publish
├── keep                  docs/measurements/growth-offline.json; other sizes keep their figures
└── tables.write          tables and plot of docs/performance.md
"""

import argparse
import shutil
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pyarrow.parquet as pq
from rich.console import Console

from loadtests.growth_offline import tables
from loadtests.growth_offline.memory_limit import parse_memory
from loadtests.growth_offline.records import RESULTS, Record, keep, read_records
from loadtests.growth_offline.stages import STAGES, measure_stages, release_files
from loadtests.running.machine import ask_how_busy, describe_machine
from loadtests.running.processes import stop_on_sigterm
from loadtests.shops.__main__ import write_named
from loadtests.shops.chain import SIZES
from loadtests.shops.tables import SETTINGS
from operations.outputs import ARTIFACTS, Outputs
from operations.shipped.commit import find_commit

SEED: Final = 1


def measure_size(
    name: str, folder: Path, memory: str | None, until: str, console: Console
) -> Iterator[Record]:
    """Measure one size ``until`` a stage, and yield its record after each stage.

    The shop stays in ``folder``; what the stages wrote is removed.
    """
    shop, out = folder / name, folder / name / "out"
    if not (shop / SETTINGS).exists():
        write_named(name, shop, SEED)
    shutil.rmtree(out, ignore_errors=True)
    record: Record = {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _short(find_commit()),
        "machine": describe_machine(),
        "busy_cores_before": round(ask_how_busy(console), 1),
        "memory_limit": memory,
        "lines": pq.read_metadata(shop / "transactions.parquet").num_rows,
        "stages": {},
    }
    try:
        for stage, row in measure_stages(shop, out, parse_memory(memory) if memory else None):
            record["stages"][stage] = row
            console.print(f"{name} {stage}: {tables.describe(row)}", highlight=False, markup=False)
            counts = _counts(Outputs(out).data, SIZES[name].users, SIZES[name].items)
            yield record | counts | {"release": release_files(out)}
            if stage == until:
                return
    finally:
        shutil.rmtree(out, ignore_errors=True)


def _counts(data: Path, users: int, items: int) -> dict[str, int]:
    """Return what etl counted; the generator's numbers of users and items if etl did not end."""
    baskets = data / "baskets.parquet"
    if not baskets.exists():
        return {"baskets": 0, "users": users, "items": items}
    rows = {
        name: pq.read_metadata(data / f"{name}.parquet").num_rows for name in ("baskets", "users", "catalog")
    }
    return {"baskets": rows["baskets"], "users": rows["users"] - 1, "items": rows["catalog"] - 1}


def _short(commit: str | None) -> str:
    if commit is None:
        return "unknown"
    number, plus, changes = commit.partition("+")
    return number[:7] + plus + changes


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the given sizes and write table and plot."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.growth_offline", description=main.__doc__)
    parser.add_argument("sizes", nargs="*", default=["S1"], metavar="SIZE", help=f"{', '.join(SIZES)}; S1")
    parser.add_argument(
        "--memory", help="kill a stage that takes more, e.g. 12GiB; by default there is no limit"
    )
    parser.add_argument("--until", choices=STAGES, default=STAGES[-1], help="the last stage; publish")
    parser.add_argument("--folder", type=Path, default=ARTIFACTS / "shops", help="for shops and outputs")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the figures of all sizes (json)")
    parser.add_argument("--document", type=Path, default=tables.DOCUMENT)
    parser.add_argument("--only-write", action="store_true", help="measure nothing: write the tables again")
    given = parser.parse_args(arguments)
    if unknown := [name for name in given.sizes if name not in SIZES]:
        parser.error(f"no size is called {unknown[0]}: give some of {', '.join(SIZES)}")
    try:
        parse_memory(given.memory or "1GiB")
    except ValueError as error:
        parser.error(str(error))
    stop_on_sigterm()
    console = Console(stderr=True, soft_wrap=True)
    for name in [] if given.only_write else given.sizes:
        for record in measure_size(name, given.folder, given.memory, given.until, console):
            keep(given.results, name, record)
    tables.write(read_records(given.results), given.document)
    print(given.document)
    return 0


if __name__ == "__main__":
    sys.exit(main())
