"""Measures the limit: the reference in batches, in one process per core, without any server.

python -m loadtests.bench.limit questions.json --run artifacts/run --batch 32 --seconds 3
"""

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np

from loadtests.peers.chain import Chain


def run_worker(
    run: Path, questions: list[dict[str, Any]], batch: int, seconds: float, barrier: Barrier, results: Any
) -> None:
    """One process: waits until all processes are ready, then answers batches until the time is over."""
    chain = Chain(run)
    batches = [questions[i : i + batch] for i in range(0, len(questions) - batch + 1, batch)]
    for warm_up in batches[: max(200 // batch, 2)]:
        chain.recommend(warm_up)
    barrier.wait()
    times: list[float] = []
    start, cpu = time.perf_counter(), time.process_time()
    while (now := time.perf_counter()) - start < seconds:
        chain.recommend(batches[len(times) % len(batches)])
        times.append(time.perf_counter() - now)
    results.put((times, time.perf_counter() - start, time.process_time() - cpu))


def measure(run: Path, questions: list[dict[str, Any]], batch: int, seconds: float) -> dict[str, Any]:
    """Run one process per core; return requests, seconds, latencies of a batch in ms, and CPU seconds."""
    context = multiprocessing.get_context("spawn")
    cores = os.cpu_count() or 1
    barrier, results = context.Barrier(cores), context.Queue()
    share = len(questions) // cores
    parts = [questions[i * share : (i + 1) * share] for i in range(cores)]
    workers = [
        context.Process(target=run_worker, args=(run, part, batch, seconds, barrier, results))
        for part in parts
    ]
    for worker in workers:
        worker.start()
    measured = [results.get() for _ in workers]
    for worker in workers:
        worker.join()
    times = np.concatenate([times for times, _, _ in measured])
    p50, p99 = np.percentile(times, [50, 99]) * 1000
    return {
        "requests": len(times) * batch,
        "seconds": max(elapsed for _, elapsed, _ in measured),
        "p50_ms": p50,
        "p99_ms": p99,
        "errors": 0,
        "cpu_s": sum(cpu for _, _, cpu in measured),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the chain without a server."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.limit", description=main.__doc__)
    parser.add_argument("questions", type=Path, help="a file with a JSON list of questions")
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=3)
    given = parser.parse_args(arguments)
    questions = json.loads(given.questions.read_text(encoding="utf-8"))
    print("RESULT", json.dumps(measure(given.run, questions, given.batch, given.seconds)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
