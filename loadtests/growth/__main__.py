"""Measures the cost of a larger catalog: multiplies a release's items, then exports, publishes and serves it.

python -m loadtests.growth --release artifacts

main
├── for each size
│   ├── publish_grown          arrays and network for so many items; index, run, release, promotion
│   ├── measure_recall         of the index, with questions that did not tune it
│   ├── measure_serving        two starts; latency at each concurrency, memory
│   └── measure_whole_catalog  a web app that scores every item with torch
└── write                      artifacts/bench/growth-<time>.json; tables and plot of docs/performance.md
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from ensemble.candidate_sampler.arrays import SamplerArrays, load_arrays, load_limits
from ensemble.candidate_sampler.nearest import Nearest, exact_index, query_vectors, recall_of
from ensemble.candidate_sampler.query import Query
from ensemble.reference import Reference
from export_scripts.export import answers, write_parts
from export_scripts.scorer.fold import fold
from export_scripts.scorer.graph import write_graph
from export_scripts.settings import load_settings
from export_scripts.snapshots.snapshot import limits
from loadtests import generators
from loadtests.bench.results import OURS, WHOLE
from loadtests.growth import tables
from loadtests.growth.catalogs import grow, grow_network
from loadtests.peers.chain import WORKERS
from loadtests.peers.whole_catalog import load_network, save_network
from loadtests.questions import Question, stream, visits_of_test_month
from loadtests.running.machine import ask_how_busy, describe_machine
from loadtests.running.processes import MarkedProcesses, process_name, stop_on_sigterm
from loadtests.running.servers import READY_WITHIN_S, SERVERS, Running, ask, start_server
from loadtests.wires import Wire, write_requests
from operations.outputs import Outputs
from operations.records import manifest
from operations.records.atomic import staged_folder
from operations.records.contract import read_contract
from operations.records.manifest import RunManifest
from operations.releases.promote import promote
from operations.releases.publish import publish
from operations.releases.stores.store import open_repository

SIZES: Final = (27_000, 50_000, 100_000, 300_000, 1_000_000)
CONCURRENCY: Final = (1, 8, 128)
SEED: Final = 7
RECALL_QUESTIONS: Final = 500
SIMILAR: Final = 150  # nearest items of the retrieval tower per query
CESTA: Final = next(server for server in SERVERS if server.kind == OURS and not server.cached)

WEB_APP: Final = next(server for server in SERVERS if server.kind == WHOLE and "torch" in server.name)
PATIENCE_S: Final = 5.0  # wrk gives up after ten seconds, and a second worker slows the first
ENOUGH: Final = 20  # answers of each worker; with fewer, the requests cut off at the end would matter
IDLE_S: Final = 0.5


def measure(release: Outputs, items: int, folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Measure one size, from the arrays to the last answer, and remove everything again."""
    questions = stream(visits_of_test_month(release.data, release.run))
    out = Outputs(folder / f"{items}")
    shutil.rmtree(out.root, ignore_errors=True)  # leftovers of a killed run
    try:
        row = publish_grown(release, items, out) | measure_recall(out.run, questions[-RECALL_QUESTIONS:])
        file = write_requests(CESTA.wires[0], questions, folder / "requests.bin")
        row |= measure_serving(out, file, given.repetitions, given.seconds)
        return row | {"whole_catalog": measure_whole_catalog(out, questions, folder, given.seconds)}
    finally:
        shutil.rmtree(out.root, ignore_errors=True)


def publish_grown(release: Outputs, items: int, out: Outputs) -> dict[str, Any]:
    """Write the grown run, publish it and promote it, as a build does. Return sizes and seconds."""
    # With the source that the default does without: its index is what grows.
    settings = load_settings(overrides={"sampler.similar": SIMILAR})
    contract, rng = read_contract(), np.random.default_rng(SEED)
    described = RunManifest.read(release.run / manifest.NAME)
    arrays, family = grow(load_arrays(release.run / "arrays"), items, rng)
    network = grow_network(load_network(release.checkpoint), family, rng)
    out.root.mkdir(parents=True, exist_ok=True)
    save_network(network, out.checkpoint)
    build_s = _seconds(lambda: Nearest.build(arrays, limits(settings, contract)))
    begun = time.monotonic()
    with staged_folder(out.run, marker=manifest.NAME) as folder:
        write_graph(fold(network), [i.decode() for i in arrays.item_ids.unpack()], contract, folder)
        del network
        parts = write_parts(arrays, settings, contract, folder)
        golden = answers(Reference.load(folder), [pair.request for pair in described.golden])
        manifest.write(described.model_copy(update={"golden": tuple(golden)} | parts.record), folder)
    exported = time.monotonic()
    out.repository.mkdir()
    repository = open_repository(out.repository)
    promote(repository, publish(out.run, repository), force=True)
    files = [path for path in out.repository.rglob("*") if path.is_file()]
    return {
        "items": len(arrays.popularity.order),
        "rows": len(arrays.popularity.score),
        "index": parts.nearest["similar"]._asdict(),
        "index_s": round(build_s, 2),
        "export_s": round(exported - begun, 1),
        "publish_s": round(time.monotonic() - exported, 1),
        "release_mib": round(sum(path.stat().st_size for path in files) / 2**20),
    }


def measure_recall(run: Path, questions: Sequence[Question]) -> dict[str, float]:
    """Compare the released index with an exact search."""
    reference = Reference.load(run)
    arrays, folder = reference.sampler.arrays, run / "arrays"
    vectors = _vectors(arrays, [_query(reference, question) for question in questions])
    order = arrays.popularity.order
    items = arrays.retrieval.items[order]
    nearest = Nearest.load(folder, arrays, load_limits(folder)).similar(vectors)
    place = np.full(len(arrays.popularity.score), -1)
    place[order] = np.arange(len(order))
    exact = exact_index(items).search(vectors, nearest.shape[1])[0]
    return {"recall": round(recall_of(place[nearest], items, vectors, exact), 4)}


def measure_serving(out: Outputs, requests: Path, repetitions: int, seconds: float) -> dict[str, Any]:
    """Start-up time, memory and latency. The second start counts: the first one compiles the kernels."""
    with start_server(CESTA, out):
        pass
    begun = time.monotonic()
    with start_server(CESTA, out) as running:
        start_s = time.monotonic() - begun
        fresh = running.processes.memory_mib()
        generators.run_wrk(running.http, requests, connections=max(CONCURRENCY), seconds=2)
        load = {str(n): _latency(running, requests, n, repetitions, seconds) for n in CONCURRENCY}
        used = running.processes.memory_mib()
        by_process = {
            process_name(pid): running.processes.memory_mib([pid]) for pid in running.processes.pids()
        }
    return {
        "start_s": round(start_s, 2),
        "memory_fresh_mib": fresh,
        "memory_mib": used,
        "memory_by_process_mib": by_process,
        "load": load,
    }


def measure_whole_catalog(
    out: Outputs, questions: Sequence[Question], folder: Path, seconds: float
) -> dict[str, float]:
    """The web app's load, measured once: noise of a tenth does not matter in a factor of dozens."""
    (wire,) = WEB_APP.wires
    requests = write_requests(close_connections(wire), questions, folder / "requests.bin")
    with start_server(WEB_APP, out) as running:
        _wait_until_idle(running.processes)
        answer_s = median(_seconds(partial(ask, running.http, wire, question)) for question in questions[:5])
        connections, seconds = count_connections(answer_s), max(seconds, ENOUGH * answer_s)
        return {"connections": connections} | _latency(running, requests, connections, 1, seconds)


def close_connections(wire: Wire) -> Wire:
    """The same wire with a new connection for each question.

    An idle worker accepts every waiting connection. It would keep them, and the other workers would starve.
    """

    def encode(question: Question) -> tuple[bytes, dict[str, str]]:
        body, headers = wire.encode(question)
        return body, headers | {"connection": "close"}

    return replace(wire, encode=encode)


def count_connections(answer_s: float) -> int:
    """Connections that keep all workers busy, or fewer if a worker's last connection would wait too long."""
    return max(min(4 * WORKERS, int(PATIENCE_S / answer_s)), WORKERS)


def _wait_until_idle(processes: MarkedProcesses) -> None:
    """Wait until every worker has loaded. A server counts as started when its first worker answers."""

    def idle() -> bool:
        before = processes.cpu()
        time.sleep(IDLE_S)
        return sum(processes.cpu().values()) - sum(before.values()) < IDLE_S / 10

    processes.wait_ready(idle, READY_WITHIN_S)


def _latency(
    running: Running, requests: Path, connections: int, repetitions: int, seconds: float
) -> dict[str, float]:
    """Medians over the repetitions, each with other questions. ``cpu_us`` adds all processes, per request."""
    loads, cpu_us = [], []
    for number in range(repetitions):
        first, before = number * 5_000, running.processes.cpu()
        load = generators.run_wrk(
            running.http, requests, connections=connections, seconds=seconds, first=first
        )
        used_s = sum(total - before.get(pid, 0.0) for pid, total in running.processes.cpu().items())
        loads.append(load)
        cpu_us.append(used_s / load.requests * 1e6)
    return {
        "rps": round(median(load.rps for load in loads), 1),
        "p50_ms": round(median(load.p50_ms for load in loads), 3),
        "p99_ms": round(median(load.p99_ms for load in loads), 3),
        "cpu_us": round(median(cpu_us)),
        "errors": sum(load.errors for load in loads),
    }


def _query(reference: Reference, question: Question) -> Query:
    basket = [item_id.encode() for item_id in question.basket]
    return reference.vocabulary.query(basket=basket, user_id=question.user_id.encode())


def _vectors(arrays: SamplerArrays, queries: Sequence[Query]) -> NDArray[np.float32]:
    """(queries, d): the query vectors whose nearest items the index finds."""
    users = np.array([query.user_row for query in queries], np.int32)
    offsets = np.cumsum([0, *(len(query.basket) for query in queries)])
    baskets = np.array([row for query in queries for row in query.basket], np.int32)
    return np.add(*query_vectors(arrays.retrieval, users, offsets, baskets))


def _seconds(work: Callable[[], object]) -> float:
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.growth", description=main.__doc__)
    add = parser.add_argument
    add(
        "--release",
        type=Path,
        default=Path("artifacts"),
        help="the folder that cesta build wrote (artifacts)",
    )
    add("--out", type=Path, default=Path("artifacts/bench"), help="the folder for results (artifacts/bench)")
    add(
        "--sizes",
        type=int,
        nargs="+",
        default=list(SIZES),
        metavar="ITEMS",
        help="numbers of countable items",
    )
    add("--repetitions", type=int, default=3)
    add("--seconds", type=float, default=5.0, help="length of each measurement (5); wrk takes whole seconds")
    add("--document", type=Path, default=tables.DOCUMENT, help="the document that gets the tables")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve catalogs of growing size; see docs/performance.md."""
    given, console = parse(arguments), Console(stderr=True)
    stop_on_sigterm()
    given.out.mkdir(parents=True, exist_ok=True)
    started, busy = datetime.now(UTC), ask_how_busy(console)
    rows = []
    for items in given.sizes:
        console.print(f"{items:,} items …", highlight=False)
        rows.append(measure(Outputs(given.release.absolute()), items, given.out / "growth", given))
        console.print(tables.format_line(rows[-1]), highlight=False)
    result: dict[str, Any] = {
        "rows": rows,
        "machine": describe_machine(),
        "plan": {"repetitions": given.repetitions, "seconds": given.seconds},
        "started": started.isoformat(timespec="seconds"),
        "minutes": round((datetime.now(UTC) - started).total_seconds() / 60, 1),
        "busy_cores_before": round(busy, 2),
    }
    file = given.out / f"growth-{result['started'].replace(':', '')}.json"
    file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    tables.write(result, given.document)
    print(file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
