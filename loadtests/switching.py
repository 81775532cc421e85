"""What starting, promoting and rolling back cost, and who notices: `cesta serve` on a repository of its own.

python -m loadtests.switching --release artifacts

main
├── Material     the run, a variant of it, the month's questions and the right answers of both
├── for each repetition
│   ├── measure_starts       without compiled kernels, then with them
│   ├── measure_at_rest      promotion of a release that is not loaded, its first questions, rollback
│   └── measure_under_load   the same in an open loop: latencies, failures, mixed answers
└── write        medians: artifacts/bench/switching-<time>.json and the tables of docs/performance.md
"""

import argparse
import json
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

from rich.console import Console

from loadtests import generators, switching_tables
from loadtests.answered import around, due, figures, read_answers, wrong
from loadtests.machine import busy_cores, machine
from loadtests.processes import stop_when_told
from loadtests.questions import stream, visits_of_test_month
from loadtests.servers import READY_WITHIN_S, Running, ask, supervised
from loadtests.variants import right_answers, write_variant
from loadtests.wires import GENERATE, write_requests
from operations.outputs import Outputs
from operations.records.golden_answers import difference
from operations.releases.history import Record
from operations.releases.model_control import ModelControl
from operations.releases.promote import promote, roll_back
from operations.releases.publish import publish
from operations.releases.store import open_repository
from operations.server.control_secret import VARIABLE

QUESTIONS: Final = 1_000  # different ones, again and again: nothing is cached
LATER: Final = 100  # questions after the first one, whose median it is held against
MIXES: Final = (
    100  # questions that are sampled by one release and scored by the other, to see what that shows
)
SETTLE_S: Final = 0.5  # of an open loop, before it counts
AFTER_S: Final = 1.5  # of the open loop after each change
OURS, VARIANT, AGAIN = 1, 2, 3  # releases: the run, its variant, and that once more

Figures = dict[str, float]
Windows = dict[str, dict[str, float]]


class Material:
    """Two runs, what is asked, and what each release must answer; all below ``folder``."""

    def __init__(self, release: Outputs, folder: Path) -> None:
        self.folder = folder
        self.runs = {OURS: release.run, VARIANT: folder / "variant", AGAIN: folder / "variant"}
        write_variant(release.run, self.runs[VARIANT])
        self.questions = stream(visits_of_test_month(release.data, release.run))[:QUESTIONS]
        self.requests = write_requests(GENERATE, self.questions, folder / "requests.bin")
        ours, other = (right_answers(self.runs[n], self.runs[n], self.questions) for n in (OURS, VARIANT))
        self.right = {OURS: ours, VARIANT: other, AGAIN: other}
        mixed = right_answers(self.runs[VARIANT], self.runs[OURS], self.questions[:MIXES])
        told = [
            all(difference(mix, right) for right in pair)
            for mix, *pair in zip(mixed, ours, other, strict=False)
        ]
        self.mix_shows = sum(told) / len(told)  # share of questions whose answer would tell of a mix

    @contextmanager
    def repository(self) -> Iterator[Path]:
        """A new one with all releases, of which OURS is active."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            repository = Path(folder) / "repository"
            repository.mkdir()
            for run in self.runs.values():
                publish(run, open_repository(repository))
            promote(open_repository(repository), OURS, force=True)
            yield repository


def measure(material: Material, rate: float, seconds: float) -> tuple[Figures, Windows, list[str]]:
    """One repetition: figures, latencies by window, and what was answered wrongly."""
    secret = secrets.token_hex(16)
    with material.repository() as repository:
        variables = {VARIABLE: secret, "NUMBA_CACHE_DIR": str(repository.parent / "kernels")}
        found = {"start_empty_s": _start_s(repository, variables)}
        begun = time.perf_counter()
        with supervised(repository, variables) as running, ModelControl(running.grpc, secret) as control:
            found["start_filled_s"] = time.perf_counter() - begun
            found |= ask_first(running, material, "start")
            _wait_all_loaded(running)  # it refuses to promote until then
            found["memory_before_mib"] = running.processes.memory_mib()["pss"]
            found |= measure_at_rest(running, control, repository, material)
            load, windows, mixed = measure_under_load(running, control, repository, material, rate, seconds)
            found["memory_after_mib"] = running.processes.memory_mib()["pss"]
    return found | load, windows, mixed


def measure_at_rest(running: Running, control: ModelControl, repository: Path, material: Material) -> Figures:
    """Nobody asks while releases change."""
    target = open_repository(repository)
    found = change("promotion_rest", partial(promote, target, VARIANT, control, force=True))
    found |= ask_first(running, material, "promotion")
    found["memory_two_mib"] = running.processes.memory_mib()["pss"]
    return found | change("rollback_rest", partial(roll_back, target, control))


def measure_under_load(
    running: Running, control: ModelControl, repository: Path, material: Material, rate: float, seconds: float
) -> tuple[Figures, Windows, list[str]]:
    """An open loop at rest, through a promotion and through a rollback."""
    target = open_repository(repository)
    file = material.folder / "answers.json"
    with generators.open_loop_meanwhile(running.http, material.requests, file, rate=rate):
        begun = time.perf_counter()
        time.sleep(SETTLE_S + seconds)
        promoting = time.perf_counter()
        found = change("promotion_load", partial(promote, target, AGAIN, control, force=True))
        promoted = time.perf_counter()
        time.sleep(AFTER_S)
        rolling = time.perf_counter()
        found |= change("rollback_load", partial(roll_back, target, control))
        time.sleep(AFTER_S)
    answered = read_answers(file, rate)
    parts = {
        "all": answered,
        "rest": due(answered, begun + SETTLE_S, promoting),
        "promotion": due(answered, promoting, promoted),
        "switch": around(answered, AGAIN, promoting),
        "rollback": around(answered, OURS, rolling),
    }
    windows = {name: figures(part) for name, part in parts.items()}
    return found, windows, wrong(answered, material.right)


def change(name: str, work: Callable[[], Record]) -> Figures:
    """Seconds of a promotion or rollback, all of it and by step."""
    begun = time.perf_counter()
    record = work()
    steps: dict[str, float] = record["seconds"]
    loading = sum(took for step, took in steps.items() if step.startswith("load "))
    return {
        f"{name}_s": time.perf_counter() - begun,
        f"{name}_verify_s": steps.get("verify", 0.0),
        f"{name}_loading_s": loading,
        f"{name}_golden_ms": steps.get("golden requests", 0.0) * 1000,
        f"{name}_switch_ms": steps["switch"] * 1000,
    }


def ask_first(running: Running, material: Material, after: str) -> Figures:
    """Milliseconds of the first question after a change and the median of the LATER ones, one by one."""
    took = []
    for question in material.questions[: 1 + LATER]:
        begun = time.perf_counter()
        ask(running.http, GENERATE, question)
        took.append((time.perf_counter() - begun) * 1000)
    return {f"first_after_{after}_ms": took[0], f"later_after_{after}_ms": median(took[1:])}


def medians(repetitions: Sequence[Figures]) -> dict[str, dict[str, Any]]:
    """By name, with the least and the most."""
    values = {name: [one[name] for one in repetitions] for name in repetitions[0]}
    return {
        name: {"median": round(median(v), 3), "spread": [round(min(v), 3), round(max(v), 3)]}
        for name, v in values.items()
    }


def latencies(repetitions: Sequence[Windows]) -> Windows:
    """By window: medians of the latencies, sums of requests and failures, the longest wait."""
    joined: dict[str, Callable[[list[float]], float]] = {"requests": sum, "failed": sum, "most_ms": max}
    return {
        window: {
            name: round(joined.get(name, median)([one[window][name] for one in repetitions]), 3)
            for name in repetitions[0][window]
        }
        for window in repetitions[0]
    }


def _start_s(repository: Path, variables: dict[str, str]) -> float:
    begun = time.perf_counter()
    with supervised(repository, variables):
        return time.perf_counter() - begun


def _wait_all_loaded(running: Running) -> None:
    running.processes.wait_ready(lambda: '"all loaded"' in running.processes.log, READY_WITHIN_S)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.switching", description=main.__doc__)
    add = parser.add_argument
    add("--release", type=Path, default=Path("artifacts"), help="what cesta build left (artifacts)")
    add("--out", type=Path, default=Path("artifacts/bench"), help="where results go (artifacts/bench)")
    add("--repetitions", type=int, default=3)
    add("--rate", type=float, default=200.0, help="of the open loop, requests a second (200)")
    add("--seconds", type=float, default=5.0, help="of the open loop at rest (5)")
    add("--document", type=Path, default=switching_tables.DOCUMENT, help="where the tables are written into")
    return parser.parse_args(arguments)


def run(given: argparse.Namespace, console: Console) -> dict[str, Any]:
    """All repetitions, as they are written."""
    begun, busy = datetime.now(UTC), busy_cores()
    if busy > 0.2:
        console.print(f"{busy:.1f} cores are busy with other work: these figures are for developing only")
    found, windows, mixed = list[Figures](), list[Windows](), list[str]()
    with tempfile.TemporaryDirectory(prefix="switching-", dir=given.out) as folder:
        material = Material(Outputs(given.release.absolute()), Path(folder).absolute())
        for repetition in range(given.repetitions):
            console.print(f"{repetition + 1}/{given.repetitions} …", highlight=False)
            figures_, windows_, mixed_ = measure(material, given.rate, given.seconds)
            found, windows, mixed = [*found, figures_], [*windows, windows_], [*mixed, *mixed_]
    return {
        "figures": medians(found),
        "windows": latencies(windows),
        "mixed": mixed,
        "a_mix_shows": round(material.mix_shows, 3),
        "machine": machine(),
        "plan": {"repetitions": given.repetitions, "rate": given.rate, "seconds": given.seconds},
        "started": begun.isoformat(timespec="seconds"),
        "minutes": round((datetime.now(UTC) - begun).total_seconds() / 60, 1),
        "busy_cores_before": round(busy, 2),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what changing releases costs; 1 when a request failed or two releases were mixed."""
    given = parse(arguments)
    stop_when_told()
    given.out.mkdir(parents=True, exist_ok=True)
    found = run(given, Console(stderr=True))
    file = given.out / f"switching-{found['started'].replace(':', '')}.json"
    file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    switching_tables.write(found, given.document)
    switching_tables.show(found, Console())
    print(file)
    for sentence in found["mixed"][:10]:
        print(sentence, file=sys.stderr)
    return 1 if found["mixed"] or found["windows"]["all"]["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
