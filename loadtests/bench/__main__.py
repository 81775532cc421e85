"""Compares cesta with the servers that people would use instead, in one run.

python -m loadtests.bench --release artifacts

main
├── prepare      the test month's questions in the form of each wire, and the expected answers
├── for each repetition, in alternating order
│   ├── measure_server   start alone, check answers, warm up, measure each wire and concurrency, stop
│   └── measure_limit    the same chain without a server
└── write        medians, spread and ratios: artifacts/bench/<time>.json, a table, a plot
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from loadtests import tables
from loadtests.bench import agreement
from loadtests.bench.measure import Plan, measure_limit, measure_server, prepare
from loadtests.bench.results import Measured, catalog_share, ratios_of, rows_of
from loadtests.generators import GeneratorError
from loadtests.running.environments import NotInstalledError
from loadtests.running.machine import ask_how_busy, describe_machine
from loadtests.running.processes import NotReadyError, stop_on_sigterm
from loadtests.running.servers import SERVERS, Server
from operations.outputs import Outputs

QUICK: Final = ("cesta", "FastAPI, reference")  # the servers of --quick; the limit is always measured
REFUSALS: Final = (NotInstalledError, NotReadyError, GeneratorError, agreement.DisagreementError)


def run(release: Outputs, plan: Plan, servers: Sequence[Server], console: Console) -> dict[str, Any]:
    """Measure all servers and return the result; `not_measured` gives the reason for each server left out."""
    started = datetime.now(UTC)
    material = prepare(release, plan)
    measured: list[Measured] = []
    refused: dict[str, str] = {}
    for repetition in range(plan.repetitions):
        for server in servers if repetition % 2 == 0 else servers[::-1]:
            if server.label in refused:
                continue
            console.print(f"{repetition + 1}/{plan.repetitions} {server.label}", highlight=False)
            try:
                measured += _show_each(measure_server(server, release, plan, material), console)
            except REFUSALS as error:
                refused[server.label] = str(error)
                console.print(f"  not measured: {error}", style="red", highlight=False, markup=False)
        console.print(f"{repetition + 1}/{plan.repetitions} in process", highlight=False)
        measured += _show_each(measure_limit(release, plan, material), console)
    rows = rows_of(measured)
    return {
        "rows": rows,
        "ratios": ratios_of(rows) | {"ndcg_share_of_whole_vocabulary": _catalog_share(release)},
        "not_measured": refused,
        "machine": describe_machine(),
        "stream": material.about,
        "plan": {
            "repetitions": plan.repetitions,
            "seconds": plan.seconds,
            "concurrency": list(plan.concurrency),
        },
        "started": started.isoformat(timespec="seconds"),
        "minutes": round((datetime.now(UTC) - started).total_seconds() / 60, 1),
    }


def _catalog_share(release: Outputs) -> float | None:
    """The release's share of the whole catalog's NDCG@10: the price of its speed. None without metrics."""
    if not release.metrics.exists():
        return None
    return catalog_share(json.loads(release.metrics.read_text(encoding="utf-8")))


def _show_each(rows: Iterator[Measured], console: Console) -> Iterator[Measured]:
    for row in rows:
        console.print(
            f"  {row.wire:<15} cache {row.cache:<4} {row.concurrency!s:>4}  {row.rps:9,.0f}/s"
            f"  p50 {row.p50_ms:8.2f}  p99 {row.p99_ms:8.2f} ms  {sum(row.cpu_us.values()):8,.0f} µs CPU",
            highlight=False,
        )
        yield row


def choose_servers(only: Sequence[str]) -> list[Server]:
    """The servers whose names contain one of the words; every server if there are no words."""
    return [
        server for server in SERVERS if not only or any(word.lower() in server.label.lower() for word in only)
    ]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench", description=main.__doc__)
    add = parser.add_argument
    add(
        "--release",
        type=Path,
        default=Path("artifacts"),
        help="the folder that cesta build wrote (artifacts)",
    )
    add("--out", type=Path, default=Path("artifacts/bench"), help="the folder for results (artifacts/bench)")
    add("--repetitions", type=int, default=3)
    add("--seconds", type=float, default=2.0, help="length of each measurement (2); wrk takes whole seconds")
    add("--concurrency", type=int, nargs="+", default=[1, 8, 32, 128])
    add("--only", nargs="+", default=[], metavar="WORD", help="servers whose names contain one of the words")
    add(
        "--quick",
        action="store_true",
        help="seconds instead of minutes: cesta without cache, FastAPI and the limit, once",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare cesta with other servers of the same release; see docs/performance.md."""
    given, console = parse(arguments), Console(stderr=True)
    stop_on_sigterm()
    if given.quick:
        plan = Plan(
            given.out, repetitions=1, seconds=1.0, concurrency=(8,), questions=2_000, half=False, grpc=False
        )
        servers = [server for server in SERVERS if server.name in QUICK and not server.cached]
    else:
        plan = Plan(given.out, given.repetitions, given.seconds, tuple(given.concurrency))
        servers = choose_servers(given.only)
    busy = ask_how_busy(console)
    result = run(Outputs(given.release.absolute()), plan, servers, console) | {
        "busy_cores_before": round(busy, 2)
    }
    file = given.out / f"{result['started'].replace(':', '')}.json"
    file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    file.with_suffix(".svg").write_text(tables.plot(result["rows"]), encoding="utf-8")
    tables.show(result, Console())
    print(file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
