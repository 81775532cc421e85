"""Kills each process of a running stack and measures what a shop sees, at a constant rate of requests.

python -m loadtests.faults --release artifacts

main
├── Stack          `cesta stack` on free ports, on a copy of the repository, with one key
├── for each fault
│   └── measure    in an open loop through the gateway: kills, waits until shops are answered, counts
└── write          artifacts/bench/faults-<time>.json, a table, and a document if one is named
"""

import argparse
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from loadtests.faults import tables
from loadtests.faults.kinds import FAULTS, Programs
from loadtests.generators import keep_open_loop_running
from loadtests.questions import stream, visits_of_test_month
from loadtests.running.machine import ask_how_busy, describe_machine
from loadtests.running.processes import MarkedProcesses, stop_on_sigterm
from loadtests.running.servers import ask
from loadtests.switching.replies import Reply, read_replies, select_due
from loadtests.wires import GATEWAY, write_requests
from operations.gateway.keys import MAX_RATE, add_key
from operations.outputs import Outputs
from operations.stack import Addresses

RATE: Final = 100.0  # requests per second
QUESTIONS: Final = 1_500  # for each fault; more than it takes
START_S: Final = 120.0
RECOVERY_S: Final = 90.0
BEFORE_S: Final = 1.5  # of the open loop, before the kill
AFTER_S: Final = 3.0  # of answers, after which a fault counts as over
POLL_S: Final = 0.05


@dataclass(frozen=True)
class Outage:
    """What a shop saw of one fault. Seconds count from the kill."""

    fault: str
    requests: int
    failed: int
    first_s: float  # when the first request that failed was due
    last_s: float  # when the last one had failed
    slowest_ms: float  # of those that were answered


class Stack:
    """`cesta stack` on a copy of a release's repository; `start` may be called again after it was killed."""

    def __init__(self, release: Outputs, folder: Path, running: contextlib.ExitStack) -> None:
        self.out, self._running = folder / "out", running
        self.addresses, self.programs = free_addresses(), Programs(self.out)
        shutil.copytree(release.repository, Outputs(self.out).repository)
        self.key = add_key(Outputs(self.out).gateway, "shop", "shop", MAX_RATE)
        self.questions = stream(visits_of_test_month(release.data, release.run))
        self._asked, self._folder = 0, folder

    def write_new_requests(self) -> Path:
        """A file of the next QUESTIONS questions: Triton's cache has no answers to them."""
        first, self._asked = self._asked, self._asked + QUESTIONS
        chosen = [self.questions[n % len(self.questions)] for n in range(first, first + QUESTIONS)]
        return write_requests(GATEWAY, chosen, self._folder / "requests.bin", self.key)

    def start(self) -> None:
        """Start it and wait until all of its programs are ready."""
        words = [
            sys.executable,
            "-m",
            "loadtests.faults.stack",
            str(self.out),
            *vars(self.addresses).values(),
        ]
        processes = self._running.enter_context(MarkedProcesses(words, {}, Path.cwd()))
        processes.wait_ready(lambda: "ready: http://" in processes.log, START_S)

    def answers(self) -> bool:
        """Tell whether a shop is answered now."""
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
            ask(self.addresses.http, GATEWAY, self.questions[0], key=self.key)
            return True
        return False

    def wait_well(self) -> None:
        """Wait until shops have been answered for AFTER_S. Raises TimeoutError after RECOVERY_S."""
        deadline = time.monotonic() + RECOVERY_S
        well_since = time.monotonic()
        while time.monotonic() - well_since < AFTER_S:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no lasting answer within {RECOVERY_S:g} s")
            time.sleep(POLL_S)
            if not self.answers():
                well_since = time.monotonic()


def free_addresses() -> Addresses:
    """Addresses with ports that are free now; all differ."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in fields(Addresses)]
        return Addresses(*(f"127.0.0.1:{each.getsockname()[1]}" for each in sockets))


def measure(stack: Stack, name: str, kill: Callable[[], object], answers: Path) -> Outage:
    """Keep asking through the gateway while `kill` is done, and until shops are answered again."""
    requests = stack.write_new_requests()
    with keep_open_loop_running(stack.addresses.http, requests, answers, rate=RATE):
        time.sleep(BEFORE_S)
        killed = time.perf_counter()
        kill()
        stack.wait_well()
    replies = read_replies(answers, RATE)
    return describe(name, select_due(replies, killed - 1, replies[-1].due), killed)


def describe(name: str, replies: Sequence[Reply], killed: float) -> Outage:
    """The outage that these replies show; requests that were under way at the kill are among them."""
    failed = [reply for reply in replies if reply.failed]
    answered = [reply.latency_s for reply in replies if not reply.failed]
    return Outage(
        name,
        len(replies),
        len(failed),
        first_s=round(max(failed[0].due - killed, 0), 2) if failed else 0.0,
        last_s=round(max(reply.arrival for reply in failed) - killed, 2) if failed else 0.0,
        slowest_ms=round(1000 * max(answered), 1),
    )


def kill_all(victims: Sequence[int]) -> None:
    for pid in victims:
        os.kill(pid, signal.SIGKILL)


def measure_all(release: Outputs, folder: Path, names: Sequence[str], console: Console) -> Iterator[Outage]:
    """Every fault of these names, all by default, and at last the death of the stack itself."""
    with contextlib.ExitStack() as running:
        stack = Stack(release, folder, running)
        stack.start()
        for fault in FAULTS:
            if not names or fault.name in names:
                console.print(f"{fault.name} …", highlight=False)
                victims = fault.victims(stack.programs)
                yield measure(stack, fault.name, lambda: kill_all(victims), folder / "answers.json")  # noqa: B023
        if not names:

            def restart() -> None:
                kill_all([stack.programs.stack()])
                stack.start()

            name = "`cesta stack`, which is started again at once"
            yield measure(stack, name, restart, folder / "answers.json")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.faults", description=main.__doc__)
    add = parser.add_argument
    add("--release", type=lambda text: Outputs(Path(text).absolute()), default="artifacts")
    add("--out", type=Path, default=Path("artifacts/bench"), help="the folder for results (artifacts/bench)")
    add("--only", nargs="+", default=[], help="only these faults", choices=[fault.name for fault in FAULTS])
    add("--document", type=Path, help="a document that gets the table, such as docs/operations.md")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Kill each process of a running stack, and write what a shop saw of it."""
    given, console = parse(arguments), Console(stderr=True)
    stop_on_sigterm()
    started, busy = datetime.now(UTC), ask_how_busy(console)
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="faults-", dir=given.out) as folder:
        outages = [
            asdict(each) for each in measure_all(given.release, Path(folder).absolute(), given.only, console)
        ]
    result: dict[str, Any] = {
        "outages": outages,
        "rate": RATE,
        "machine": describe_machine(),
        "started": started.isoformat(timespec="seconds"),
        "busy_cores_before": round(busy, 2),
    }
    file = given.out / f"faults-{result['started'].replace(':', '')}.json"
    file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    tables.show(result, Console())
    if given.document:
        tables.write(result, given.document)
    print(file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
