"""Measures what the gateway costs, beside asking Triton itself and through a bare proxy.

python -m loadtests.gateway.cost --release artifacts

main
├── open_targets      Triton; before it nginx as a bare proxy, and the gateway
├── for each load     a protocol, new or cached baskets, a number of connections
│   └── measure_load  every target once a round, in random order; shares are medians over the rounds
└── write             artifacts/bench/gateway-cost-<time>.json, a table, and a document if one is named
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, Final

from rich.console import Console

from loadtests import generators
from loadtests.gateway import cost_tables
from loadtests.gateway.front import IN_FLIGHT, make_guard, open_bare_proxy, open_gateway
from loadtests.gateway.shares import BROKEN, share_of
from loadtests.generators import GeneratorError, Load
from loadtests.load.budgets import FILE, load_shares
from loadtests.questions import Question, stream, visits_of_test_month, with_placeholder
from loadtests.running.machine import ask_how_busy, describe_machine
from loadtests.running.processes import stop_on_sigterm
from loadtests.running.servers import SERVERS, start_server
from loadtests.wires import GATEWAY, GENERATE, Wire, read_keys, write_messages, write_requests
from operations.outputs import Outputs

DIRECT, BARE, OURS, OTHER = "direct", "bare", "gateway", "other gateway"
COMPARED: Final = ((BARE, DIRECT), (OTHER, DIRECT), (OURS, DIRECT), (OURS, BARE), (OURS, OTHER))
BUDGET: Final = "gateway_cost"
QUESTIONS: Final = 4_000  # each sent with a number of its own
CACHED: Final = 200  # different questions, asked again and again
CONNECTIONS: Final = (1, 8, 32)
SOME: Final = 8  # connections of the loads that are measured with one number only
WARM_UP_S: Final = 1


@dataclass(frozen=True)
class Traffic:
    """A load: `baskets` are new to the cache, or cached."""

    protocol: str  # HTTP or gRPC
    baskets: str  # new or cached
    connections: int


@dataclass(frozen=True)
class Target:
    """A server to ask. Addresses are host:port; without one the protocol is not measured."""

    name: str
    wire: Wire
    http: str
    grpc: str = ""
    key: str = ""


class RequestFiles:
    """The questions' files, by target and traffic."""

    def __init__(self, questions: Sequence[Question], folder: Path) -> None:
        self._questions = {
            "new": [with_placeholder(question) for question in questions[:QUESTIONS]],
            "cached": questions[:CACHED],
        }
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, target: Target, traffic: Traffic) -> Path:
        name = f"{target.name.replace(' ', '-')}-{traffic.protocol}-{traffic.baskets}.bin"
        file, questions = self._folder / name, self._questions[traffic.baskets]
        if traffic.protocol == "gRPC":
            return write_messages(questions, file)
        return write_requests(target.wire, questions, file, target.key)


def list_traffic(connections: Sequence[int], *, grpc: bool) -> list[Traffic]:
    """The loads of a run, in order."""
    new = [Traffic("HTTP", "new", number) for number in connections]
    over_grpc = [Traffic("gRPC", "new", SOME)] if grpc else []
    return [*new, Traffic("HTTP", "cached", SOME), *over_grpc]


@contextmanager
def open_targets(given: argparse.Namespace) -> Iterator[list[Target]]:
    """Start a Triton, unless a running one is given, and what stands before it."""
    with ExitStack() as stack:
        http, grpc = given.triton, given.triton_grpc
        if not http:
            ours = next(
                server for server in SERVERS if server.kind == "ours" and server.cached and not server.guarded
            )
            running = stack.enter_context(start_server(ours, given.release))
            http, grpc = running.http, running.grpc
        guard = make_guard(given.out / "gateway")
        bare = stack.enter_context(open_bare_proxy(given.out / "bare", http))
        front = stack.enter_context(open_gateway(guard, http))
        targets = [
            Target(DIRECT, GENERATE, http, grpc),
            Target(BARE, GENERATE, bare),
            Target(OURS, GATEWAY, front.http, front.grpc, guard.key),
        ]
        if given.other:
            targets.append(Target(OTHER, GATEWAY, given.other, given.other_grpc, read_keys()[0]))
        yield targets


def measure_once(target: Target, traffic: Traffic, file: Path, seconds: float, first: int) -> Load:
    """Send this traffic to this target. Raises GeneratorError if a request fails."""
    fresh = traffic.baskets == "new"
    if traffic.protocol == "gRPC":
        load = generators.run_grpc_loop(
            target.grpc,
            file,
            key=target.key,
            connections=traffic.connections,
            seconds=seconds,
            first=first,
            fresh=fresh,
        )
    else:
        load = generators.run_wrk(
            target.http, file, connections=traffic.connections, seconds=seconds, first=first, fresh=fresh
        )
    if load.errors:
        raise GeneratorError(f"{target.name}: {load.errors} of {load.requests} requests failed ({traffic})")
    return load


def measure_load(
    targets: Sequence[Target], traffic: Traffic, files: RequestFiles, pairs: int, seconds: float
) -> dict[str, list[Load]]:
    """Ask every target once a round, in random order: what else the machine does meets all of them alike."""
    chance = Random()
    asked = [target for target in targets if (target.grpc if traffic.protocol == "gRPC" else target.http)]
    sent = {target: files.write(target, traffic) for target in asked}
    for target in asked:
        measure_once(target, traffic, sent[target], WARM_UP_S, 0)
    loads: dict[str, list[Load]] = {target.name: [] for target in asked}
    for _ in range(pairs):
        first = chance.randrange(QUESTIONS)  # the same baskets for all targets of a round
        for target in chance.sample(asked, len(asked)):
            loads[target.name].append(measure_once(target, traffic, sent[target], seconds, first))
    return loads


def row_of(
    traffic: Traffic, loads: dict[str, list[Load]], budgets: dict[str, dict[int, float]]
) -> dict[str, Any]:
    """All rates of a load, and the gateways' shares of the others' rates with their verdicts."""
    rates = {name: [load.rps for load in each] for name, each in loads.items()}
    shares = []
    for ours, other in COMPARED:
        if ours not in rates or other not in rates:
            continue
        share = share_of(rates[ours], rates[other])
        is_held = ours == OURS and (traffic.protocol, traffic.baskets) == ("HTTP", "new")
        least = budgets.get(other, {}).get(traffic.connections) if is_held else None
        verdict = share.verdict(least) if least else ""
        shares.append({"of": ours, "to": other, **asdict(share), "least": least, "verdict": verdict})
    return {
        **asdict(traffic),
        "rps": rates,
        "p99_ms": {name: [load.p99_ms for load in each] for name, each in loads.items()},
        "shares": shares,
    }


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.gateway.cost", description=main.__doc__)
    add = parser.add_argument
    add(
        "--release",
        type=lambda text: Outputs(Path(text).absolute()),
        default="artifacts",
        help="the folder that cesta build wrote (artifacts)",
    )
    add(
        "--triton",
        default="",
        metavar="HOST:PORT",
        help="HTTP of a running server; by default one is started",
    )
    add("--triton-grpc", default="", metavar="HOST:PORT", help="its gRPC; without it only HTTP is measured")
    add("--other", default="", metavar="HOST:PORT", help="HTTP of another gateway; its key is in CESTA_KEYS")
    add("--other-grpc", default="", metavar="HOST:PORT", help="its gRPC")
    add(
        "--connections",
        type=int,
        nargs="+",
        default=list(CONNECTIONS),
        choices=range(1, IN_FLIGHT + 1),
        metavar="N",
        help=f"numbers of connections (1 8 32); a key may have {IN_FLIGHT} requests in flight",
    )
    add("--pairs", type=int, default=15, help="rounds of each load (15)")
    add("--seconds", type=int, default=2, help="length of each measurement (2)")
    add("--budgets", type=Path, default=FILE)
    add("--out", type=Path, default=Path("artifacts/bench"), help="the folder for results (artifacts/bench)")
    add("--document", type=Path, help="a document that gets the table, such as docs/performance.md")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the gateway's cost. Exit with 1 if a share is below its budget with 95% confidence."""
    given, console = parse(arguments), Console(stderr=True)
    stop_on_sigterm()
    started, busy = datetime.now(UTC), ask_how_busy(console)
    budgets = load_shares(BUDGET, given.budgets)
    questions = stream(visits_of_test_month(given.release.data, given.release.run))
    files = RequestFiles(questions, given.out / "requests")
    rows = []
    with open_targets(given) as targets:
        for traffic in list_traffic(given.connections, grpc=bool(targets[0].grpc)):
            console.print(cost_tables.describe(asdict(traffic)), highlight=False)
            loads = measure_load(targets, traffic, files, given.pairs, given.seconds)
            rows.append(row_of(traffic, loads, budgets))
    result: dict[str, Any] = {
        "rows": rows,
        "machine": describe_machine(),
        "plan": {"pairs": given.pairs, "seconds": given.seconds},
        "started": started.isoformat(timespec="seconds"),
        "minutes": round((datetime.now(UTC) - started).total_seconds() / 60, 1),
        "busy_cores_before": round(busy, 2),
    }
    file = given.out / f"gateway-cost-{result['started'].replace(':', '')}.json"
    file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    cost_tables.show(result, Console())
    if given.document:
        cost_tables.write(result, given.document)
    print(file)
    return 1 if any(share["verdict"] == BROKEN for row in rows for share in row["shares"]) else 0


if __name__ == "__main__":
    sys.exit(main())
