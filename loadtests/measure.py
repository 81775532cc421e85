"""One server measured from start to stop, and the limit, as `Measured` values."""

import http.client
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from loadtests import agreement, generators
from loadtests.generators import Load
from loadtests.peers.chain import Chain
from loadtests.peers.whole_catalog import WholeCatalog
from loadtests.processes import process_name
from loadtests.questions import Question, stream, visits_of_test_month
from loadtests.results import HALF, LIMIT, WHOLE, Measured
from loadtests.servers import GRPC, Running, Server, ask, started
from loadtests.wires import TRITON, Answer, Wire, write_perf_analyzer_input, write_requests
from operations.outputs import Outputs

CHECKED: Final = 40  # questions of which every server's answers are compared with the reference's
HOT: Final = 100  # different questions of the rows in which every answer comes from the cache
GRPC_QUESTIONS: Final = 4_000  # perf_analyzer keeps each as a request in memory
GRPC_REPLAYED: Final = 12_000  # the same with the cache on, where they must not come round again
WARM_UP_S: Final = 1.0


@dataclass(frozen=True)
class Plan:
    """What is measured; `out` holds the results and what the generators send."""

    out: Path
    repetitions: int = 3
    seconds: float = 2.0
    concurrency: tuple[int, ...] = (1, 8, 32, 128)
    questions: int = 0  # of the stream, 0: all
    half: bool = True  # measure latency at half of saturation too
    grpc: bool = True

    @property
    def requests(self) -> Path:
        return self.out / "requests"


class Material:
    """The stream, its files by wire, and what the right answers to its first questions are."""

    def __init__(self, release: Outputs, plan: Plan) -> None:
        questions = stream(visits_of_test_month(release.data, release.run))
        self.questions = questions[: plan.questions or None]
        self.folder = plan.requests
        self.folder.mkdir(parents=True, exist_ok=True)
        different = len(set(self.questions))
        self.about = {"questions": len(self.questions), "different": different}
        step = max(len(self.questions) // CHECKED, 1)
        self.checked = self.questions[::step][:CHECKED]
        asked = [question.json for question in self.checked]
        self.of_reference = _answers(Chain(release.run).recommend(asked))
        self._run, self._asked, self._of_whole = release.run, asked, list[Answer]()

    @property
    def of_whole_catalog(self) -> list[Answer]:
        """The same by the released graph over every item."""
        if not self._of_whole:
            self._of_whole = _answers(WholeCatalog(self._run).recommend(self._asked))
        return self._of_whole

    def file(self, wire: Wire, hot: bool = False) -> Path:
        """What wrk and open_loop send."""
        name = f"{wire.name} {wire.path} {wire.encode.__name__} {'hot' if hot else 'all'}"
        file = self.folder / f"{name.replace('/', '_').replace(' ', '-')}.bin"
        if not file.exists():
            write_requests(wire, self.questions[:HOT] if hot else self.questions, file)
        return file

    def grpc_file(self, first: int, most: int) -> Path:
        """What perf_analyzer sends."""
        there = self.questions[first % len(self.questions) :][:most]
        return write_perf_analyzer_input(there, self.folder / "grpc.json")


def prepare(release: Outputs, plan: Plan) -> Material:
    """Everything that is made once; old request files are of another stream."""
    for old in plan.requests.glob("*"):
        old.unlink()
    return Material(release, plan)


def measure_server(server: Server, release: Outputs, plan: Plan, material: Material) -> Iterator[Measured]:
    """Each of its wires at each concurrency. With the cache on each of both has a fresh server.

    The stream is not long enough for all of them, and no question may come round again.
    """
    wires: list[Wire | str] = [*server.wires, *([GRPC] if server.grpc and plan.grpc else [])]
    all_at_once = [[(wire, plan.concurrency) for wire in wires]]
    one_by_one = [[(wire, (concurrency,))] for wire in wires for concurrency in plan.concurrency]
    for together in one_by_one if server.cached else all_at_once:
        with started(server, release) as running:
            right = material.of_whole_catalog if server.kind == WHOLE else material.of_reference
            for wire, _ in together:
                agreement.check(_asker(running, wire), material.checked, right)
            for wire, concurrencies in together:
                yield from _Session(server, running, wire, plan, material).measure(concurrencies)


def measure_limit(release: Outputs, plan: Plan, material: Material) -> Iterator[Measured]:
    """The chain in its own processes, in batches of each concurrency."""
    file = material.folder / "questions.json"
    file.write_text(json.dumps([question.json for question in material.questions[:8_000]]), encoding="utf-8")
    for batch in plan.concurrency:
        found = generators.in_process(release.run, file, batch=batch, seconds=plan.seconds)
        per_request = {"limit": found.cpu_s / found.requests * 1e6}
        yield Measured(
            "in process",
            LIMIT,
            "none",
            "off",
            batch,
            found.rps,
            found.p50_ms,
            found.p99_ms,
            0,
            per_request,
            0.0,
            0.0,
        )


class _Session:
    """One wire of a running server, warmed up and then measured."""

    def __init__(
        self, server: Server, running: Running, wire: Wire | str, plan: Plan, material: Material
    ) -> None:
        self._server, self._running, self._wire = server, running, wire
        self._plan, self._material = plan, material
        self._next = 0  # of the stream; with the cache on no question may come round again

    def measure(self, concurrencies: Sequence[int]) -> Iterator[Measured]:
        """At each of them; then at half of the best rate or, with the cache on, at the most by hits alone."""
        seconds, most, best = self._plan.seconds, self._plan.concurrency[-1], 0.0
        self._load(most, WARM_UP_S)
        for concurrency in concurrencies:
            one = self._measured(concurrency, partial(self._load, concurrency, seconds))
            best = max(best, one.rps)
            yield one
        if self._plan.half and not self._server.cached:
            yield self._measured(HALF, lambda: self._at_rate(best / 2, seconds))
        if self._server.cached and most in concurrencies:
            self._load(most, WARM_UP_S, hot=True)
            yield self._measured(most, lambda: self._load(most, seconds, hot=True), "hit")

    def _load(self, concurrency: int, seconds: float, hot: bool = False) -> Load:
        before = self._counts()["success"]
        if isinstance(self._wire, Wire):
            file, first = self._material.file(self._wire, hot), 0 if hot else self._next
            load = generators.wrk(
                self._running.http, file, connections=concurrency, seconds=seconds, first=first
            )
        else:
            most = HOT if hot else GRPC_REPLAYED if self._server.cached else GRPC_QUESTIONS
            file = self._material.grpc_file(0 if hot else self._next, most)
            load = self._perf_analyzer(file, seconds, concurrency=concurrency)
        self._next += self._counts()["success"] - before  # perf_analyzer asks more than it reports
        return load

    def _at_rate(self, rate: float, seconds: float) -> Load:
        if isinstance(self._wire, Wire):
            file = self._material.file(self._wire)
            return generators.open_loop(self._running.http, file, rate=rate, seconds=seconds)
        return self._perf_analyzer(self._material.grpc_file(0, GRPC_QUESTIONS), seconds, rate=rate)

    def _perf_analyzer(self, file: Path, seconds: float, **how: Any) -> Load:
        binary = generators.find_perf_analyzer(self._plan.out / "perf_analyzer")
        return generators.perf_analyzer(binary, self._running.grpc, file, seconds=seconds, **how)

    def _measured(self, concurrency: int | str, load: Callable[[], Load], cache: str = "") -> Measured:
        processes = self._running.processes
        counts, before = self._counts(), processes.cpu()
        found = load()
        after, counted = processes.cpu(), self._counts()
        answered = counted["success"] - counts["success"] or found.requests
        used: dict[str, float] = {}
        for pid, seconds in after.items():
            name = process_name(pid)
            used[name] = used.get(name, 0.0) + seconds - before.get(pid, 0.0)
        total = sum(used.values()) + found.cpu_s
        # Below saturation what a server does while it waits for work is most of it, so none is told.
        by_process = {
            name: s / max(answered, 1) * 1e6 for name, s in used.items() if s and concurrency != HALF
        }
        lookups = sum(counted[name] - counts[name] for name in ("cache_hit", "cache_miss"))
        return Measured(
            server=self._server.name,
            kind=self._server.kind,
            wire=self._wire if isinstance(self._wire, str) else self._wire.name,
            cache=cache or self._server.cache,
            concurrency=concurrency,
            rps=found.rps,
            p50_ms=found.p50_ms,
            p99_ms=found.p99_ms,
            errors=found.errors,
            cpu_us=by_process,
            generator_share=found.cpu_s / total if total else 0.0,
            pss_mib=processes.pss_mib(),
            hit_share=(counted["cache_hit"] - counts["cache_hit"]) / lookups if lookups else None,
        )

    def _counts(self) -> dict[str, int]:
        """Requests by what became of them, as Triton counts them; zeros for other servers."""
        names = ("success", "cache_hit", "cache_miss")
        if self._server.kind != "ours":
            return dict.fromkeys(names, 0)
        with closing(http.client.HTTPConnection(self._running.http, timeout=10)) as connection:
            connection.request("GET", f"{TRITON}/stats")
            (stats,) = json.loads(connection.getresponse().read())["model_stats"]
        return {name: int(stats["inference_stats"].get(name, {}).get("count", 0)) for name in names}


def _asker(running: Running, wire: Wire | str) -> Callable[[Question], Answer]:
    if isinstance(wire, Wire):
        return lambda question: ask(running.http, wire, question)
    return agreement.over_grpc(running.grpc)


def _answers(found: Sequence[dict[str, Any]]) -> list[Answer]:
    kept = [[(i, s) for i, s in zip(one["item_ids"], one["scores"], strict=True) if i] for one in found]
    return [Answer([i for i, _ in pairs], [s for _, s in pairs]) for pairs in kept]
