"""Measures one server from start to stop, and the limit, as `Measured` values."""

import http.client
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from loadtests import generators
from loadtests.bench import agreement
from loadtests.bench.results import HALF, LIMIT, WHOLE, Measured
from loadtests.gateway.front import IN_FLIGHT, make_guard
from loadtests.generators import Load
from loadtests.peers.chain import Chain
from loadtests.peers.whole_catalog import WholeCatalog
from loadtests.questions import Question, stream, visits_of_test_month
from loadtests.running.processes import process_name
from loadtests.running.servers import GRPC, Running, Server, ask, start_server
from loadtests.wires import TRITON, Answer, Wire, write_perf_analyzer_input, write_requests
from operations.outputs import Outputs

CHECKED: Final = 40  # questions whose answers are compared with the reference's, for every server
HOT: Final = 100  # different questions for the rows in which every answer comes from the cache
GRPC_QUESTIONS: Final = 4_000  # perf_analyzer keeps each as a request in memory
GRPC_REPLAYED: Final = 12_000  # with the cache on, where no question may come again
WARM_UP_S: Final = 1.0


@dataclass(frozen=True)
class Plan:
    """The settings of a run. `out` holds the results and the generators' input."""

    out: Path
    repetitions: int = 3
    seconds: float = 2.0
    concurrency: tuple[int, ...] = (1, 8, 32, 128)
    questions: int = 0  # taken from the stream; 0: all
    half: bool = True  # measure the latency at half of saturation, too
    grpc: bool = True

    @property
    def requests(self) -> Path:
        return self.out / "requests"


class Material:
    """The stream of questions, its files by wire, and the expected answers to some questions."""

    def __init__(self, release: Outputs, plan: Plan) -> None:
        questions = stream(visits_of_test_month(release.data, release.run))
        self.questions = questions[: plan.questions or None]
        self.folder = plan.requests
        self.folder.mkdir(parents=True, exist_ok=True)
        self.guard = make_guard(plan.out / "gateway")
        different = len(set(self.questions))
        self.about = {"questions": len(self.questions), "different": different}
        step = max(len(self.questions) // CHECKED, 1)
        self.checked_questions = self.questions[::step][:CHECKED]
        checked_json = [question.json for question in self.checked_questions]
        self.reference_answers = _without_padding(Chain(release.run).recommend(checked_json))
        self._run, self._checked_json, self._whole_catalog_answers = release.run, checked_json, list[Answer]()

    @property
    def whole_catalog_answers(self) -> list[Answer]:
        """The expected answers of the servers that score every item, computed with the released graph."""
        if not self._whole_catalog_answers:
            self._whole_catalog_answers = _without_padding(
                WholeCatalog(self._run).recommend(self._checked_json)
            )
        return self._whole_catalog_answers

    def file(self, wire: Wire, hot: bool = False, key: str = "") -> Path:
        """The requests that wrk and open_loop send."""
        name = (
            f"{wire.name} {wire.path} {wire.encode.__name__} {'hot' if hot else 'all'}{' key' if key else ''}"
        )
        file = self.folder / f"{name.replace('/', '_').replace(' ', '-')}.bin"
        if not file.exists():
            write_requests(wire, self.questions[:HOT] if hot else self.questions, file, key)
        return file

    def grpc_file(self, first: int, most: int) -> Path:
        """The requests that perf_analyzer sends."""
        part = self.questions[first % len(self.questions) :][:most]
        return write_perf_analyzer_input(part, self.folder / "grpc.json")


def prepare(release: Outputs, plan: Plan) -> Material:
    """Make everything that all measurements share. Old request files belong to another stream."""
    for old in plan.requests.glob("*"):
        old.unlink()
    return Material(release, plan)


def measure_server(server: Server, release: Outputs, plan: Plan, material: Material) -> Iterator[Measured]:
    """Measure each wire at each concurrency. With the cache on, each combination gets a fresh server.

    No question may come again while the cache is on, and the stream is too short for all combinations.
    A guarded server is asked with one key, by as many connections as the key may have requests in flight.
    """
    if server.guarded:
        few = tuple(number for number in plan.concurrency if number <= IN_FLIGHT)
        plan = replace(plan, concurrency=few or (IN_FLIGHT,))
    wires: list[Wire | str] = [*server.wires, *([GRPC] if server.grpc and plan.grpc else [])]
    together = [[(wire, plan.concurrency) for wire in wires]]
    apart = [[(wire, (concurrency,))] for wire in wires for concurrency in plan.concurrency]
    for measurements in apart if server.cached else together:
        with start_server(server, release, material.guard) as running:
            expected = material.whole_catalog_answers if server.kind == WHOLE else material.reference_answers
            for wire, _ in measurements:
                agreement.check(_connect(running, wire), material.checked_questions, expected)
            for wire, concurrencies in measurements:
                yield from _Session(server, running, wire, plan, material).measure(concurrencies)


def measure_limit(release: Outputs, plan: Plan, material: Material) -> Iterator[Measured]:
    """Measure the chain without a server, with each concurrency as batch size."""
    file = material.folder / "questions.json"
    file.write_text(json.dumps([question.json for question in material.questions[:8_000]]), encoding="utf-8")
    for batch in plan.concurrency:
        load = generators.run_in_process(release.run, file, batch=batch, seconds=plan.seconds)
        per_request = {"limit": load.cpu_s / load.requests * 1e6}
        yield Measured(
            "in process",
            LIMIT,
            "none",
            "off",
            batch,
            load.rps,
            load.p50_ms,
            load.p99_ms,
            0,
            per_request,
            0.0,
            0.0,
        )


class _Session:
    """Warms up one wire of a running server and measures it."""

    def __init__(
        self, server: Server, running: Running, wire: Wire | str, plan: Plan, material: Material
    ) -> None:
        self._server, self._running, self._wire = server, running, wire
        self._plan, self._material = plan, material
        self._next = 0  # place in the stream; with the cache on, no question may come again

    def measure(self, concurrencies: Sequence[int]) -> Iterator[Measured]:
        """Measure each concurrency, then half of the best rate.

        With the cache on, the last measurement is at the highest concurrency, with hits only.
        """
        seconds, most, best = self._plan.seconds, self._plan.concurrency[-1], 0.0
        self._load(most, WARM_UP_S)
        for concurrency in concurrencies:
            measured = self._measure_once(concurrency, partial(self._load, concurrency, seconds))
            best = max(best, measured.rps)
            yield measured
        if self._plan.half and not self._server.cached:
            yield self._measure_once(HALF, lambda: self._load_at_rate(best / 2, seconds))
        if self._server.cached and most in concurrencies:
            self._load(most, WARM_UP_S, hot=True)
            yield self._measure_once(most, lambda: self._load(most, seconds, hot=True), "hit")

    def _load(self, concurrency: int, seconds: float, hot: bool = False) -> Load:
        before = self._read_counts()["success"]
        if isinstance(self._wire, Wire):
            file = self._material.file(self._wire, hot, self._running.key)
            first = 0 if hot else self._next
            load = generators.run_wrk(
                self._running.http, file, connections=concurrency, seconds=seconds, first=first
            )
        else:
            most = HOT if hot else GRPC_REPLAYED if self._server.cached else GRPC_QUESTIONS
            file = self._material.grpc_file(0 if hot else self._next, most)
            load = self._perf_analyzer(file, seconds, concurrency=concurrency)
        self._next += (
            self._read_counts()["success"] - before
        )  # perf_analyzer sends more requests than it reports
        return load

    def _load_at_rate(self, rate: float, seconds: float) -> Load:
        if isinstance(self._wire, Wire):
            file = self._material.file(self._wire, key=self._running.key)
            return generators.run_open_loop(self._running.http, file, rate=rate, seconds=seconds)
        return self._perf_analyzer(self._material.grpc_file(0, GRPC_QUESTIONS), seconds, rate=rate)

    def _perf_analyzer(self, file: Path, seconds: float, **pace: Any) -> Load:
        binary = generators.find_perf_analyzer(self._plan.out / "perf_analyzer")
        return generators.run_perf_analyzer(binary, self._running.grpc, file, seconds=seconds, **pace)

    def _measure_once(self, concurrency: int | str, load: Callable[[], Load], cache: str = "") -> Measured:
        processes = self._running.processes
        counts_before, cpu_before = self._read_counts(), processes.cpu()
        result = load()
        cpu_after, counts_after = processes.cpu(), self._read_counts()
        counts = {name: counts_after[name] - counts_before[name] for name in counts_after}
        answered = counts["success"] or result.requests
        used: dict[str, float] = {}
        for pid, seconds in cpu_after.items():
            name = process_name(pid)
            used[name] = used.get(name, 0.0) + seconds - cpu_before.get(pid, 0.0)
        total = sum(used.values()) + result.cpu_s
        # Below saturation, most of the CPU time is spent waiting for work, so it is not reported.
        by_process = {
            name: seconds / max(answered, 1) * 1e6
            for name, seconds in used.items()
            if seconds and concurrency != HALF
        }
        lookups = counts["cache_hit"] + counts["cache_miss"]
        return Measured(
            server=self._server.name,
            kind=self._server.kind,
            wire=self._wire if isinstance(self._wire, str) else self._wire.name,
            cache=cache or self._server.cache,
            concurrency=concurrency,
            rps=result.rps,
            p50_ms=result.p50_ms,
            p99_ms=result.p99_ms,
            errors=result.errors,
            cpu_us=by_process,
            generator_share=result.cpu_s / total if total else 0.0,
            pss_mib=processes.pss_mib(),
            hit_share=counts["cache_hit"] / lookups if lookups else None,
        )

    def _read_counts(self) -> dict[str, int]:
        """Triton's counts of successful requests, cache hits and cache misses; zeros for other servers."""
        names = ("success", "cache_hit", "cache_miss")
        if self._server.kind != "ours":
            return dict.fromkeys(names, 0)
        with closing(http.client.HTTPConnection(self._running.triton, timeout=10)) as connection:
            connection.request("GET", f"{TRITON}/stats")
            (stats,) = json.loads(connection.getresponse().read())["model_stats"]
        return {name: int(stats["inference_stats"].get(name, {}).get("count", 0)) for name in names}


def _connect(running: Running, wire: Wire | str) -> Callable[[Question], Answer]:
    if isinstance(wire, Wire):
        return lambda question: ask(running.http, wire, question, key=running.key)
    return agreement.connect_grpc(running.grpc)


def _without_padding(answers: Sequence[dict[str, Any]]) -> list[Answer]:
    return [
        Answer(
            [item_id for item_id in answer["item_ids"] if item_id],
            [score for item_id, score in zip(answer["item_ids"], answer["scores"], strict=True) if item_id],
        )
        for answer in answers
    ]
