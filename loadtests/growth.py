"""What a larger catalog costs: the release with its items multiplied, exported, published and served.

python -m loadtests.growth --release artifacts

main
├── for each size
│   ├── publish_grown    arrays and network as if there were so many items; index, run, release, promotion
│   ├── recall           of the index, for questions that it was not made with
│   ├── served           started twice; latency at each concurrency, memory
│   └── whole_catalog    what a web app reaches that scores every item by torch
└── write                artifacts/bench/growth-<time>.json, the tables and the plot of docs/performance.md
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
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
from export_scripts.scorer.graph import build_graph, fold
from export_scripts.settings import load_settings
from export_scripts.snapshots.snapshot import limits
from loadtests import generators, growth_tables
from loadtests.catalogs import grown, grown_network
from loadtests.machine import busy_cores, machine
from loadtests.peers.chain import WORKERS
from loadtests.peers.whole_catalog import load_network, save_network
from loadtests.processes import MarkedProcesses, process_name, stop_when_told
from loadtests.questions import Question, stream, visits_of_test_month
from loadtests.results import OURS, WHOLE
from loadtests.servers import READY_WITHIN_S, SERVERS, Running, ask, started
from loadtests.wires import Wire, write_requests
from operations.outputs import Outputs
from operations.records import manifest
from operations.records.atomic import staged_folder
from operations.records.contract import read_contract
from operations.records.manifest import RunManifest
from operations.releases.promote import promote
from operations.releases.publish import publish
from operations.releases.store import open_repository

SIZES: Final = (27_000, 50_000, 100_000, 300_000, 1_000_000)
CONCURRENCY: Final = (1, 8, 128)
SEED: Final = 7
ASKED: Final = 500  # questions that the recall is measured with
CESTA: Final = next(server for server in SERVERS if server.kind == OURS and not server.cached)

WEB_APP: Final = next(server for server in SERVERS if server.kind == WHOLE and "torch" in server.name)
PATIENCE_S: Final = 5.0  # wrk gives an answer up after ten, and a second worker slows the first
ENOUGH: Final = 20  # answers of each worker, or what is cut off at the end would count
IDLE_S: Final = 0.5


def measure(release: Outputs, items: int, folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """One size, from the arrays to the last answer; everything is removed again."""
    questions = stream(visits_of_test_month(release.data, release.run))
    out = Outputs(folder / f"{items}")
    shutil.rmtree(out.root, ignore_errors=True)  # of a run that was killed
    try:
        row = publish_grown(release, items, out) | recall(out.run, questions[-ASKED:])
        file = write_requests(CESTA.wires[0], questions, folder / "requests.bin")
        row |= served(out, file, given.repetitions, given.seconds)
        return row | {"whole_catalog": whole_catalog(out, questions, folder, given.seconds)}
    finally:
        shutil.rmtree(out.root, ignore_errors=True)


def publish_grown(release: Outputs, items: int, out: Outputs) -> dict[str, Any]:
    """Write the grown run, publish and promote it as a build does; sizes and seconds."""
    settings, contract, rng = load_settings(), read_contract(), np.random.default_rng(SEED)
    described = RunManifest.read(release.run / manifest.NAME)
    arrays, family = grown(load_arrays(release.run / "arrays"), items, rng)
    network = grown_network(load_network(release.checkpoint), family, rng)
    out.root.mkdir(parents=True, exist_ok=True)
    save_network(network, out.checkpoint)
    graph = build_graph(fold(network), [i.decode() for i in arrays.item_ids.unpack()], contract)
    del network
    build_s = _seconds(lambda: Nearest.build(arrays, limits(settings, contract)))
    begun = time.monotonic()
    with staged_folder(out.run, marker=manifest.NAME) as folder:
        parts = write_parts(graph, arrays, settings, contract, folder)
        del graph
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


def recall(run: Path, questions: Sequence[Question]) -> dict[str, float]:
    """Of the released index beside an exact search, for questions with something to be near to."""
    reference = Reference.load(run)
    arrays, folder = reference.sampler.arrays, run / "arrays"
    vectors = _vectors(arrays, [_query(reference, question) for question in questions])
    order = arrays.popularity.order
    items = arrays.retrieval.items[order]
    found = Nearest.load(folder, arrays, load_limits(folder)).similar(vectors)
    place = np.full(len(arrays.popularity.score), -1)
    place[order] = np.arange(len(order))
    right = exact_index(items).search(vectors, found.shape[1])[0]
    return {"recall": round(recall_of(place[found], items, vectors, right), 4)}


def served(out: Outputs, requests: Path, repetitions: int, seconds: float) -> dict[str, Any]:
    """Start-up, memory, latency. The second start counts: the first one compiles the kernel."""
    with started(CESTA, out):
        pass
    begun = time.monotonic()
    with started(CESTA, out) as running:
        start_s = time.monotonic() - begun
        fresh = running.processes.memory_mib()
        generators.wrk(running.http, requests, connections=max(CONCURRENCY), seconds=2)
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


def whole_catalog(
    out: Outputs, questions: Sequence[Question], folder: Path, seconds: float
) -> dict[str, float]:
    """The web app's load, measured once: in a factor of dozens a tenth more or less is nothing."""
    (wire,) = WEB_APP.wires
    requests = write_requests(closing(wire), questions, folder / "requests.bin")
    with started(WEB_APP, out) as running:
        _wait_until_idle(running.processes)
        answer_s = median(_seconds(partial(ask, running.http, wire, question)) for question in questions[:5])
        connections, seconds = crowd(answer_s), max(seconds, ENOUGH * answer_s)
        return {"connections": connections} | _latency(running, requests, connections, 1, seconds)


def closing(wire: Wire) -> Wire:
    """The same with a connection for each question.

    A worker accepts all connections that wait when it is idle. It would keep them, and the others starve.
    """

    def encode(question: Question) -> tuple[bytes, dict[str, str]]:
        body, headers = wire.encode(question)
        return body, headers | {"connection": "close"}

    return replace(wire, encode=encode)


def crowd(answer_s: float) -> int:
    """Connections that keep all workers busy; fewer if the last one of a worker's would wait too long."""
    return max(min(4 * WORKERS, int(PATIENCE_S / answer_s)), WORKERS)


def _wait_until_idle(processes: MarkedProcesses) -> None:
    """Until every worker has loaded: the first one answers for all when a server is taken for started."""

    def idle() -> bool:
        before = processes.cpu()
        time.sleep(IDLE_S)
        return sum(processes.cpu().values()) - sum(before.values()) < IDLE_S / 10

    processes.wait_ready(idle, READY_WITHIN_S)


def _latency(
    running: Running, requests: Path, connections: int, repetitions: int, seconds: float
) -> dict[str, float]:
    """Medians over the repetitions, each with questions of its own; ``cpu_us`` of all processes a request."""
    found, cpu_us = [], []
    for number in range(repetitions):
        first, before = number * 5_000, running.processes.cpu()
        load = generators.wrk(running.http, requests, connections=connections, seconds=seconds, first=first)
        used = sum(s - before.get(pid, 0.0) for pid, s in running.processes.cpu().items())
        found.append(load)
        cpu_us.append(used / load.requests * 1e6)
    return {
        "rps": round(median(load.rps for load in found), 1),
        "p50_ms": round(median(load.p50_ms for load in found), 3),
        "p99_ms": round(median(load.p99_ms for load in found), 3),
        "cpu_us": round(median(cpu_us)),
        "errors": sum(load.errors for load in found),
    }


def _query(reference: Reference, question: Question) -> Query:
    basket = [item_id.encode() for item_id in question.basket]
    return reference.vocabulary.query(basket=basket, user_id=question.user_id.encode())


def _vectors(arrays: SamplerArrays, queries: Sequence[Query]) -> NDArray[np.float32]:
    """(queries, d): what their nearest items are near to."""
    users = np.array([query.user_row for query in queries], np.int32)
    offsets = np.cumsum([0, *(len(query.basket) for query in queries)])
    baskets = np.array([row for query in queries for row in query.basket], np.int32)
    return np.add(*query_vectors(arrays.retrieval, users, offsets, baskets))


def _seconds(work: Any) -> float:
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.growth", description=main.__doc__)
    add = parser.add_argument
    add("--release", type=Path, default=Path("artifacts"), help="what cesta build left (artifacts)")
    add("--out", type=Path, default=Path("artifacts/bench"), help="where results go (artifacts/bench)")
    add("--sizes", type=int, nargs="+", default=list(SIZES), metavar="ITEMS", help="items that are counted")
    add("--repetitions", type=int, default=3)
    add("--seconds", type=float, default=5.0, help="of each measurement (5); wrk takes whole ones")
    add("--document", type=Path, default=growth_tables.DOCUMENT, help="where the tables are written into")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve catalogs of growing size; see docs/performance.md."""
    given, console = parse(arguments), Console(stderr=True)
    stop_when_told()
    given.out.mkdir(parents=True, exist_ok=True)
    begun, busy = datetime.now(UTC), busy_cores()
    if busy > 0.2:
        console.print(f"{busy:.1f} cores are busy with other work: these figures are for developing only")
    rows = []
    for items in given.sizes:
        console.print(f"{items:,} items …", highlight=False)
        rows.append(measure(Outputs(given.release.absolute()), items, given.out / "growth", given))
        console.print(growth_tables.line(rows[-1]), highlight=False)
    found = {
        "rows": rows,
        "machine": machine(),
        "plan": {"repetitions": given.repetitions, "seconds": given.seconds},
        "started": begun.isoformat(timespec="seconds"),
        "minutes": round((datetime.now(UTC) - begun).total_seconds() / 60, 1),
        "busy_cores_before": round(busy, 2),
    }
    file = given.out / f"growth-{found['started'].replace(':', '')}.json"
    file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    growth_tables.write(found, given.document)
    print(file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
