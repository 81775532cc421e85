"""Measures the cost of more users: draws a release, publishes, serves and promotes it.

python -m loadtests.users

main
├── for each number of users
│   ├── publish_drawn   a run of drawn tables, published twice
│   └── measure         start, memory, latency; promotion to the second release, latency again
└── write               artifacts/bench/users-<time>.json; the table of docs/performance.md
"""

import argparse
import json
import os
import secrets
import shutil
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from export_scripts.settings import load_settings
from loadtests import generators
from loadtests.running.machine import ask_how_busy, describe_machine
from loadtests.running.processes import MarkedProcesses, process_name, stop_on_sigterm
from loadtests.running.servers import READY_WITHIN_S, Running, start_supervised
from loadtests.users import tables
from loadtests.users.drawn import Sizes, draw_questions, write_drawn_run
from loadtests.wires import GENERATE, write_requests
from operations.outputs import Outputs
from operations.releases.model_control import ModelControl
from operations.releases.promote import promote
from operations.releases.publish import publish
from operations.releases.stores.store import open_repository
from operations.server.control_secret import VARIABLE

USERS: Final = (1_000_000, 10_000_000)
QUESTIONS: Final = 20_000  # of as many users
FIRST, SECOND = 1, 2  # releases
CONCURRENCY: Final = (1, 8)


def measure_size(sizes: Sizes, folder: Path, seconds: float) -> dict[str, Any]:
    """Measure one number of users, and remove everything again."""
    out = Outputs(folder / f"{sizes.users}")
    shutil.rmtree(out.root, ignore_errors=True)  # leftovers of a killed run
    try:
        row = publish_drawn(sizes, out)
        requests = write_requests(
            GENERATE, draw_questions(sizes, QUESTIONS, seed=1), out.root / "requests.bin"
        )
        return sizes._asdict() | row | measure(out, requests, seconds)
    finally:
        shutil.rmtree(out.root, ignore_errors=True)


def publish_drawn(sizes: Sizes, out: Outputs) -> dict[str, Any]:
    """Draw a run and publish it twice; the first release is active. Return sizes and seconds."""
    begun = time.monotonic()
    out.root.mkdir(parents=True)
    write_drawn_run(sizes, load_settings(), out.run)
    drawn = time.monotonic()
    out.repository.mkdir()
    repository = open_repository(out.repository)
    publish(out.run, repository)
    published = time.monotonic()
    _replace_by_links(out.run, out.repository)
    publish(out.run, repository)
    shutil.rmtree(out.run)
    promote(repository, FIRST, force=True)
    files = [path for path in out.repository.rglob("*") if f"/{FIRST}/" in str(path) and path.is_file()]
    scorer = out.repository / "ncf_scorer" / str(FIRST)
    return {
        "draw_s": round(drawn - begun, 1),
        "publish_s": round(published - drawn, 1),
        "release_mib": _mib(files),
        "scorer_mib": _mib(list(scorer.iterdir())),
        "ids_mib": _mib([path for path in files if path.name.startswith("user_ids.")]),
    }


def measure(out: Outputs, requests: Path, seconds: float) -> dict[str, Any]:
    """Serve the first release, promote the second. The second start counts: the first one compiles."""
    secret = secrets.token_hex(16)
    variables = {
        VARIABLE: secret
    }  # the trial of the promotion finds the kernels that the first start compiles
    with start_supervised(out.repository, variables):
        pass
    begun = time.perf_counter()
    with (
        start_supervised(out.repository, variables) as running,
        ModelControl(running.grpc, secret) as control,
    ):
        row: dict[str, Any] = {"start_s": round(time.perf_counter() - begun, 2)}
        running.processes.wait_ready(lambda: '"all loaded"' in running.processes.log, READY_WITHIN_S)
        row["memory_fresh"] = measure_memory(running.processes)
        row["load"] = measure_load(running, requests, seconds)
        row["memory"] = measure_memory(running.processes)
        begun = time.perf_counter()
        record = promote(open_repository(out.repository), SECOND, control, force=True)
        row["promotion_s"] = round(time.perf_counter() - begun, 2)
        row["promotion_steps_s"] = {step: round(took, 3) for step, took in record["seconds"].items()}
        row["memory_of_two"] = measure_memory(running.processes)
        row["load_after"] = measure_load(running, requests, seconds)
    return row


def measure_load(running: Running, requests: Path, seconds: float) -> dict[str, dict[str, float]]:
    """Latency and processor time by the number of connections."""
    return {str(n): _load(running, requests, n, seconds) for n in CONCURRENCY}


def measure_memory(processes: MarkedProcesses) -> dict[str, dict[str, float]]:
    """MiB by process: all, and the part that lies in files."""
    named: dict[str, list[int]] = {}
    for pid in processes.pids():
        named.setdefault(process_name(pid), []).append(pid)
    return {"all": processes.memory_mib()} | {
        name: processes.memory_mib(pids) for name, pids in named.items()
    }


def _load(running: Running, requests: Path, connections: int, seconds: float) -> dict[str, float]:
    before = running.processes.cpu()
    load = generators.run_wrk(running.http, requests, connections=connections, seconds=seconds)
    used_s = sum(total - before.get(pid, 0.0) for pid, total in running.processes.cpu().items())
    return {
        "rps": round(load.rps, 1),
        "p50_ms": round(load.p50_ms, 3),
        "p99_ms": round(load.p99_ms, 3),
        "cpu_us": round(used_s / load.requests * 1e6),
        "errors": load.errors,
    }


def _replace_by_links(run: Path, repository: Path) -> None:
    """Let the run share the release's files. They are the same, and two of three copies fit on a disk."""
    places = {"arrays": repository / "candidate_sampler" / str(FIRST)}
    for path in run.rglob("*"):
        name = path.relative_to(run)
        release = places.get(name.parts[0], repository / "ncf_scorer" / str(FIRST)) / name
        if path.is_file() and release.exists():
            path.unlink()
            os.link(release, path)


def _mib(files: Sequence[Path]) -> int:
    return round(sum(path.stat().st_size for path in files) / 2**20)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    settings = load_settings()
    parser = argparse.ArgumentParser(prog="python -m loadtests.users", description=main.__doc__)
    add = partial(parser.add_argument, type=int)
    add("--users", nargs="+", default=list(USERS), help="numbers of users (1,000,000 and 10,000,000)")
    add("--items", default=1_000_000, help="number of items (1,000,000)")
    add("--baskets", default=2, help="baskets of each user, of three items (2)")
    add("--dimensions", default=settings.retrieval.dimensions, help="of the tower's vectors")
    add("--hidden", default=settings.train.hidden[0], help="width of the scorer's first layer")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each measurement (5)")
    parser.add_argument("--out", type=Path, default=Path("artifacts/bench"), help="the folder for results")
    parser.add_argument("--document", type=Path, default=tables.DOCUMENT, help="it gets the table")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve releases of a growing number of users; see docs/performance.md."""
    given, console = parse(arguments), Console(stderr=True)
    stop_on_sigterm()
    given.out.mkdir(parents=True, exist_ok=True)
    started, busy = datetime.now(UTC), ask_how_busy(console)
    rows = []
    for users in given.users:
        console.print(f"{users:,} users …", highlight=False)
        sizes = Sizes(users, given.items, given.baskets, given.dimensions, given.hidden)
        rows.append(measure_size(sizes, given.out.absolute() / "users", given.seconds))
        console.print_json(data=rows[-1])
    result: dict[str, Any] = {
        "rows": rows,
        "machine": describe_machine(),
        "started": started.isoformat(timespec="seconds"),
        "minutes": round((datetime.now(UTC) - started).total_seconds() / 60, 1),
        "busy_cores_before": round(busy, 2),
    }
    file = given.out / f"users-{result['started'].replace(':', '')}.json"
    file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    tables.write(result, given.document)
    print(file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
