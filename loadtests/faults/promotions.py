"""Promotes broken releases on a running server, and measures what a shop sees at a constant rate of requests.

python -m loadtests.faults.promotions --release artifacts

main
├── measure            `cesta serve` on a new repository with two releases, in an open loop
│   └── attempt        a promotion that is refused, then a rollback
├── summarise_kinds    by kind of broken release
└── section            the table; figures are in artifacts/bench/promotions-<time>.json
"""

import argparse
import json
import secrets
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from loadtests.faults.broken_releases import KINDS, Spoil
from loadtests.generators import keep_open_loop_running
from loadtests.questions import stream, visits_of_test_month
from loadtests.running.machine import ask_how_busy, describe_machine, remark_on
from loadtests.running.processes import stop_on_sigterm
from loadtests.running.servers import READY_WITHIN_S, start_supervised
from loadtests.switching.replies import Reply, read_replies, select_due, summarise
from loadtests.tables import fill
from loadtests.wires import GENERATE, write_requests
from operations.errors import CestaError
from operations.outputs import Outputs
from operations.releases.model_control import ModelControl
from operations.releases.promote import promote, roll_back
from operations.releases.publish import publish
from operations.releases.stores.folder import FolderRepository
from operations.server.control_secret import VARIABLE

QUESTIONS: Final = 1_000  # different questions, repeated; there is no cache
OLD, ACTIVE = 1, 2  # releases
SETTLE_S: Final = 2.0  # of the open loop, before the first promotion
AFTER_S: Final = 0.5  # of the open loop after each change
MARK: Final = "promotions"
_HEAD: Final = (
    "| release that is promoted | times | refused after | rollback | requests | failed | p99 | slowest |\n"
    "|---|--:|--:|--:|--:|--:|--:|--:|\n"
)


@dataclass(frozen=True)
class Attempt:
    """A promotion of a broken release and the rollback after it, in moments of time.perf_counter."""

    kind: str
    begun: float
    refused: float
    rolled_back: float


def measure(release: Outputs, folder: Path, rate: float, count: int) -> tuple[list[Attempt], list[Reply]]:
    """Promote broken releases in an open loop; return what was tried and every answer."""
    secret, answers = secrets.token_hex(16), folder / "answers.json"
    questions = stream(visits_of_test_month(release.data, release.run))[:QUESTIONS]
    requests = write_requests(GENERATE, questions, folder / "requests.bin")
    repository = make_repository(release.run, folder / "repository")
    with (
        start_supervised(repository.root, {VARIABLE: secret}) as running,
        ModelControl(running.grpc, secret) as control,
    ):
        running.processes.wait_ready(lambda: '"all loaded"' in running.processes.log, READY_WITHIN_S)
        with keep_open_loop_running(running.http, requests, answers, rate=rate):
            time.sleep(SETTLE_S)
            attempts = [
                attempt(repository, control, release.run, spoil) for spoil in islice(cycle(KINDS), count)
            ]
    return attempts, read_replies(answers, rate)


def make_repository(run: Path, folder: Path) -> FolderRepository:
    """A new repository with two releases of the run; the second is active."""
    folder.mkdir()
    repository = FolderRepository(folder)
    for release in (OLD, ACTIVE):
        publish(run, repository)
        promote(repository, release, force=True)
    return repository


def attempt(repository: FolderRepository, control: ModelControl, run: Path, spoil: Spoil) -> Attempt:
    """Promote a broken release, roll back, and make ACTIVE the active release again.

    Raises `AssertionError` if the broken release is promoted.
    """
    broken = publish(run, repository)
    spoil(repository, broken)
    begun = time.perf_counter()
    try:
        promote(repository, broken, control, force=True)
    except CestaError:
        refused = time.perf_counter()
    else:
        raise AssertionError(f"{spoil.__name__}: the release was promoted")
    roll_back(repository, control)
    rolled_back = time.perf_counter()
    promote(repository, ACTIVE, control, force=True)
    time.sleep(AFTER_S)
    return Attempt(spoil.__name__, begun, refused, rolled_back)


def summarise_kinds(attempts: Sequence[Attempt], replies: Sequence[Reply]) -> list[dict[str, Any]]:
    """By kind: how often, the longest times in seconds, and what the requests during them saw."""
    rows = []
    for kind in dict.fromkeys(each.kind for each in attempts):
        same = [each for each in attempts if each.kind == kind]
        during = [reply for each in same for reply in select_due(replies, each.begun, each.rolled_back)]
        rows.append(
            {
                "kind": kind,
                "times": len(same),
                "refused_s": max(each.refused - each.begun for each in same),
                "rollback_s": max(each.rolled_back - each.refused for each in same),
                **summarise(during),
            }
        )
    return rows


def section(result: dict[str, Any]) -> str:
    """The table in markdown, with when and where it was measured."""
    machine, busy = result["machine"], result["busy_cores_before"]
    loaded = remark_on(busy)
    rows = "".join(
        f"| {row['kind'].replace('_', ' ')} | {row['times']} | {row['refused_s']:.1f} s "
        f"| {1000 * row['rollback_s']:.0f} ms | {row['requests']} | {row['failed']} "
        f"| {row['p99_ms']:.1f} ms | {row['most_ms']:.0f} ms |\n"
        for row in result["kinds"]
    )
    whole = result["all"]
    return (
        f"{result['started']}, {machine['cores']} cores of {machine['cpu']}, {result['rate']:.0f} requests/s "
        f"over HTTP: {whole['requests']} in all, {whole['failed']} failed, p99 {whole['p99_ms']:.1f} ms."
        f"{loaded}\n\n{_HEAD}{rows}".rstrip()
    )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.faults.promotions", description=main.__doc__)
    add = parser.add_argument
    add("--release", type=lambda text: Outputs(Path(text).absolute()), default="artifacts")
    add("--out", type=Path, default=Path("artifacts/bench"), help="the folder for results (artifacts/bench)")
    add("--count", type=int, default=20, help="promotions; the kinds of broken releases take turns (20)")
    add("--rate", type=float, default=100.0, help="requests per second (100)")
    add("--document", type=Path, help="a document that gets the table, such as docs/releases.md")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Promote broken releases on a running server. Exit code 1 if a request failed."""
    given, console = parse(arguments), Console(stderr=True)
    stop_on_sigterm()
    started, busy = datetime.now(UTC), ask_how_busy(console)
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="promotions-", dir=given.out) as folder:
        attempts, replies = measure(given.release, Path(folder).absolute(), given.rate, given.count)
    result: dict[str, Any] = {
        "kinds": summarise_kinds(attempts, replies),
        "all": summarise(replies),
        "rate": given.rate,
        "machine": describe_machine(),
        "started": started.isoformat(timespec="seconds"),
        "busy_cores_before": round(busy, 2),
    }
    file = given.out / f"promotions-{result['started'].replace(':', '')}.json"
    file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    Console().print(section(result), highlight=False, markup=False, soft_wrap=True)
    if given.document:
        text = given.document.read_text(encoding="utf-8")
        given.document.write_text(fill(text, {MARK: section(result)}), encoding="utf-8")
    print(file)
    return int(result["all"]["failed"] > 0)


if __name__ == "__main__":
    sys.exit(main())
