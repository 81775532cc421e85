"""Measures what starts, promotions and rollbacks cost, and whether clients notice them.

`cesta serve` runs on its own repository.

python -m loadtests.switching --release artifacts

main
├── Material     the run, its variant, the month's questions and the expected answers of both
├── for each repetition
│   ├── measure_starts       without compiled kernels, then with them
│   ├── measure_at_rest      promotion of a release that is not loaded, first questions, rollback
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

from loadtests import generators
from loadtests.questions import stream, visits_of_test_month
from loadtests.running.machine import ask_how_busy, describe_machine
from loadtests.running.processes import stop_on_sigterm
from loadtests.running.servers import READY_WITHIN_S, Running, ask, start_supervised
from loadtests.switching import tables
from loadtests.switching.replies import find_mistakes, read_replies, select_around, select_due, summarise
from loadtests.switching.variants import compute_answers, write_variant
from loadtests.wires import GENERATE, write_requests
from operations.outputs import Outputs
from operations.records.golden_answers import difference
from operations.releases.history import Record
from operations.releases.model_control import ModelControl
from operations.releases.promote import promote, roll_back
from operations.releases.publish import publish
from operations.releases.stores.store import open_repository
from operations.server.control_secret import VARIABLE

QUESTIONS: Final = 1_000  # different questions, repeated; there is no cache
LATER: Final = 100  # questions after the first one; their median is compared with it
MIXES: Final = 100  # questions sampled by one release and scored by the other
SETTLE_S: Final = 0.5  # of the open loop, before the measurement begins
AFTER_S: Final = 1.5  # of the open loop after each change
OURS, VARIANT, AGAIN = 1, 2, 3  # releases: the run, its variant, the variant again

Figures = dict[str, float]
Windows = dict[str, dict[str, float]]


class Material:
    """Two runs, the questions, and the expected answers of each release; all files are below ``folder``."""

    def __init__(self, release: Outputs, folder: Path) -> None:
        self.folder = folder
        self.runs = {OURS: release.run, VARIANT: folder / "variant", AGAIN: folder / "variant"}
        write_variant(release.run, self.runs[VARIANT])
        self.questions = stream(visits_of_test_month(release.data, release.run))[:QUESTIONS]
        self.requests = write_requests(GENERATE, self.questions, folder / "requests.bin")
        ours, variant = (
            compute_answers(self.runs[release], self.runs[release], self.questions)
            for release in (OURS, VARIANT)
        )
        self.expected = {OURS: ours, VARIANT: variant, AGAIN: variant}
        mixed = compute_answers(self.runs[VARIANT], self.runs[OURS], self.questions[:MIXES])
        visible = [
            all(difference(mix, answer) for answer in answers)
            for mix, *answers in zip(mixed, ours, variant, strict=False)
        ]
        self.mix_shows = sum(visible) / len(visible)  # share of questions whose answer reveals a mix

    @contextmanager
    def make_repository(self) -> Iterator[Path]:
        """A new repository with all releases; OURS is active."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            repository = Path(folder) / "repository"
            repository.mkdir()
            for run in self.runs.values():
                publish(run, open_repository(repository))
            promote(open_repository(repository), OURS, force=True)
            yield repository


def measure(material: Material, rate: float, seconds: float) -> tuple[Figures, Windows, list[str]]:
    """One repetition: figures, latencies by window, and a sentence for each wrong answer."""
    secret = secrets.token_hex(16)
    with material.make_repository() as repository:
        variables = {VARIABLE: secret, "NUMBA_CACHE_DIR": str(repository.parent / "kernels")}
        figures = {"start_empty_s": _start_s(repository, variables)}
        begun = time.perf_counter()
        with (
            start_supervised(repository, variables) as running,
            ModelControl(running.grpc, secret) as control,
        ):
            figures["start_filled_s"] = time.perf_counter() - begun
            figures |= time_first_questions(running, material, "start")
            _wait_all_loaded(running)  # no promotion is possible before
            figures["memory_before_mib"] = running.processes.memory_mib()["pss"]
            figures |= measure_at_rest(running, control, repository, material)
            load, windows, mistakes = measure_under_load(
                running, control, repository, material, rate, seconds
            )
            figures["memory_after_mib"] = running.processes.memory_mib()["pss"]
    return figures | load, windows, mistakes


def measure_at_rest(running: Running, control: ModelControl, repository: Path, material: Material) -> Figures:
    """Change releases while no requests come."""
    target = open_repository(repository)
    figures = time_change("promotion_rest", partial(promote, target, VARIANT, control, force=True))
    figures |= time_first_questions(running, material, "promotion")
    figures["memory_two_mib"] = running.processes.memory_mib()["pss"]
    return figures | time_change("rollback_rest", partial(roll_back, target, control))


def measure_under_load(
    running: Running, control: ModelControl, repository: Path, material: Material, rate: float, seconds: float
) -> tuple[Figures, Windows, list[str]]:
    """Run an open loop at rest, through a promotion and through a rollback."""
    target = open_repository(repository)
    file = material.folder / "answers.json"
    with generators.keep_open_loop_running(running.http, material.requests, file, rate=rate):
        begun = time.perf_counter()
        time.sleep(SETTLE_S + seconds)
        promoting = time.perf_counter()
        figures = time_change("promotion_load", partial(promote, target, AGAIN, control, force=True))
        promoted = time.perf_counter()
        time.sleep(AFTER_S)
        rolling = time.perf_counter()
        figures |= time_change("rollback_load", partial(roll_back, target, control))
        time.sleep(AFTER_S)
    replies = read_replies(file, rate)
    parts = {
        "all": replies,
        "rest": select_due(replies, begun + SETTLE_S, promoting),
        "promotion": select_due(replies, promoting, promoted),
        "switch": select_around(replies, AGAIN, promoting),
        "rollback": select_around(replies, OURS, rolling),
    }
    windows = {name: summarise(part) for name, part in parts.items()}
    return figures, windows, find_mistakes(replies, material.expected)


def time_change(name: str, work: Callable[[], Record]) -> Figures:
    """The seconds of a promotion or a rollback, in total and by step."""
    begun = time.perf_counter()
    record = work()
    steps: dict[str, float] = record["seconds"]
    loading = sum(seconds for step, seconds in steps.items() if step.startswith("load "))
    return {
        f"{name}_s": time.perf_counter() - begun,
        f"{name}_verify_s": steps.get("verify", 0.0),
        f"{name}_trial_s": steps.get("trial", 0.0),
        f"{name}_loading_s": loading,
        f"{name}_golden_ms": steps.get("golden requests", 0.0) * 1000,
        f"{name}_switch_ms": steps["switch"] * 1000,
    }


def time_first_questions(running: Running, material: Material, after: str) -> Figures:
    """Milliseconds of the first question after a change, and the median of the LATER ones, asked in turn."""
    latencies = []
    for question in material.questions[: 1 + LATER]:
        begun = time.perf_counter()
        ask(running.http, GENERATE, question)
        latencies.append((time.perf_counter() - begun) * 1000)
    return {f"first_after_{after}_ms": latencies[0], f"later_after_{after}_ms": median(latencies[1:])}


def summarise_figures(repetitions: Sequence[Figures]) -> dict[str, dict[str, Any]]:
    """By name: the median, and the least and the greatest value as spread."""
    columns = {name: [figures[name] for figures in repetitions] for name in repetitions[0]}
    return {
        name: {"median": round(median(values), 3), "spread": [round(min(values), 3), round(max(values), 3)]}
        for name, values in columns.items()
    }


def summarise_windows(repetitions: Sequence[Windows]) -> Windows:
    """By window: medians of the latencies, sums of requests and failures, and the longest latency."""
    reductions: dict[str, Callable[[list[float]], float]] = {"requests": sum, "failed": sum, "most_ms": max}
    return {
        window: {
            name: round(reductions.get(name, median)([windows[window][name] for windows in repetitions]), 3)
            for name in repetitions[0][window]
        }
        for window in repetitions[0]
    }


def _start_s(repository: Path, variables: dict[str, str]) -> float:
    begun = time.perf_counter()
    with start_supervised(repository, variables):
        return time.perf_counter() - begun


def _wait_all_loaded(running: Running) -> None:
    running.processes.wait_ready(lambda: '"all loaded"' in running.processes.log, READY_WITHIN_S)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.switching", description=main.__doc__)
    add = parser.add_argument
    add(
        "--release",
        type=Path,
        default=Path("artifacts"),
        help="the folder that cesta build wrote (artifacts)",
    )
    add("--out", type=Path, default=Path("artifacts/bench"), help="the folder for results (artifacts/bench)")
    add("--repetitions", type=int, default=3)
    add("--rate", type=float, default=200.0, help="requests per second of the open loop (200)")
    add("--seconds", type=float, default=5.0, help="length of the open loop at rest (5)")
    add("--document", type=Path, default=tables.DOCUMENT, help="the document that gets the tables")
    return parser.parse_args(arguments)


def run(given: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Run all repetitions and return the result."""
    begun, busy = datetime.now(UTC), ask_how_busy(console)
    figures, windows, mistakes = list[Figures](), list[Windows](), list[str]()
    with tempfile.TemporaryDirectory(prefix="switching-", dir=given.out) as folder:
        material = Material(Outputs(given.release.absolute()), Path(folder).absolute())
        for repetition in range(given.repetitions):
            console.print(f"{repetition + 1}/{given.repetitions} …", highlight=False)
            measured = measure(material, given.rate, given.seconds)
            figures.append(measured[0])
            windows.append(measured[1])
            mistakes += measured[2]
    return {
        "figures": summarise_figures(figures),
        "windows": summarise_windows(windows),
        "mixed": mistakes,
        "a_mix_shows": round(material.mix_shows, 3),
        "machine": describe_machine(),
        "plan": {"repetitions": given.repetitions, "rate": given.rate, "seconds": given.seconds},
        "started": begun.isoformat(timespec="seconds"),
        "minutes": round((datetime.now(UTC) - begun).total_seconds() / 60, 1),
        "busy_cores_before": round(busy, 2),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what changes of releases cost. Exit with 1 if a request failed or an answer was wrong."""
    given = parse(arguments)
    stop_on_sigterm()
    given.out.mkdir(parents=True, exist_ok=True)
    result = run(given, Console(stderr=True))
    file = given.out / f"switching-{result['started'].replace(':', '')}.json"
    file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    tables.write(result, given.document)
    tables.show(result, Console())
    print(file)
    for sentence in result["mixed"][:10]:
        print(sentence, file=sys.stderr)
    return 1 if result["mixed"] or result["windows"]["all"]["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
