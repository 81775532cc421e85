"""Runs a load test: starts a server, sends Locust's shoppers and an open loop, and checks budgets.toml.

python -m loadtests.load --shape smoke                       # starts its own server
CESTA_KEYS=K1,K2 python -m loadtests.load --shape spike --host 127.0.0.1:8080 --path /v1/recommend
"""

import argparse
import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path
from typing import Final

import numpy as np

from loadtests import open_loop
from loadtests.load.budgets import FILE, find_broken_limits, load_budget
from loadtests.load.shapes import SHAPES
from loadtests.questions import stream, visits_of_test_month
from loadtests.running.environments import ROOT
from loadtests.running.processes import stop_on_sigterm
from loadtests.running.servers import SERVERS, start_server
from loadtests.wires import GENERATE, WIRES, read_keys
from operations.outputs import Outputs

RATE: Final = 100.0  # of the open loop, requests per second
_SHOPPERS: Final = Path(__file__).resolve().with_name("shoppers.py")


@contextmanager
def open_target(given: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """The HTTP and the gRPC address to test: --host for both, or a server started for this run."""
    if given.host:
        yield given.host, given.host
        return
    ours = next(server for server in SERVERS if server.kind == "ours" and server.cached)
    with start_server(ours, given.release) as running:
        yield running.http, running.grpc


def run_shoppers(given: argparse.Namespace, address: str, report: Path) -> int:
    """Run Locust. The exit code is 0 if the shoppers' budget holds."""
    command = [sys.executable, "-m", "locust", "-f", str(_SHOPPERS)]
    command += [
        "--headless",
        "--only-summary",
        "--exit-code-on-error=0",
        f"--host={address}",
        f"--html={report}",
    ]
    command += [f"--release={given.release.root}", f"--shape={given.shape}", f"--length-s={given.length_s}"]
    command += [f"--shoppers={given.shoppers}", f"--wire={given.wire}", f"--path={given.path}"]
    command += [f"--budgets={given.budgets}"]
    return subprocess.run(command, cwd=ROOT).returncode


def run_open_loop(given: argparse.Namespace, address: str) -> list[str]:
    """Run the open loop at a constant rate. Return a sentence for each limit that it breaks."""
    questions = stream(visits_of_test_month(given.release.data, given.release.run))[:20_000]
    keyed = zip(questions, cycle(read_keys()), strict=False)
    requests = [WIRES[given.path].request(question, key=key) for question, key in keyed]
    outcome = open_loop.run(address, requests, open_loop.constant_schedule(RATE, given.open_loop_s))
    p50, p95, p99 = np.percentile(outcome.latencies, [50, 95, 99]) * 1000
    answered = len(outcome.latencies)
    measured = {"p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "error_rate": outcome.errors / answered}
    measured["requests_per_s"] = answered / max(given.open_loop_s, outcome.seconds)
    print(f"open loop, {RATE:g}/s: " + ", ".join(f"{name} {value:.4g}" for name, value in measured.items()))
    return find_broken_limits(load_budget("open_loop", given.budgets), measured)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.load", description=main.__doc__)
    add = parser.add_argument
    add("--shape", choices=sorted(SHAPES), default="smoke")
    add("--release", type=lambda text: Outputs(Path(text).absolute()), default="artifacts")
    add("--host", default="", help="host:port of a running server; by default one is started")
    add("--wire", choices=("http", "grpc"), default="http", help="protocol of the shoppers")
    add("--path", choices=sorted(WIRES), default=GENERATE.path, help="HTTP path")
    add("--length-s", type=float, default=0, help="seconds; 0: the shape's own")
    add("--shoppers", type=int, default=0, help="most shoppers; 0: the shape's own")
    add("--open-loop-s", type=float, default=10, help="seconds; 0: no open loop after the shoppers")
    add("--budgets", type=Path, default=FILE)
    add("--out", type=Path, default=Path("artifacts/loadtests"), help="the folder for reports")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Test with shoppers and an open loop. Print each broken limit; exit with 1 if there is one."""
    given = parse(arguments)
    stop_on_sigterm()
    given.out.mkdir(parents=True, exist_ok=True)
    report = (given.out / f"{given.shape}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.html").absolute()
    with open_target(given) as (http, grpc):
        code = run_shoppers(given, grpc if given.wire == "grpc" else http, report)
        sentences = run_open_loop(given, http) if given.open_loop_s and given.wire == "http" else []
    for sentence in sentences:
        print(f"budget [open_loop] broken: {sentence}")
    print(report)
    return 1 if code or sentences else 0


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
