"""Measures a training alone and beside busy processes: ``python -m tests.model.training_under_load``.

Each process beside it is an endless loop of the same priority. Of c cores, the training's one thread then
gets c / (1 + n) instead of a whole one. It may take 1.5 times as long as that explains, else the exit code
is 1.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from ensemble.candidate_sampler.features import FEATURES
from export_scripts.scorer.fitting import fit
from export_scripts.scorer.ncf import NCF, NCFShape
from export_scripts.scorer.training_set import TrainingSet
from export_scripts.settings import load_settings

USERS, ITEMS, WIDTH = 2_000, 20_000, 64
CANDIDATES, BASKET = 160, 200
LARGEST_RATIO = 1.5


def main() -> int:
    """Print seconds and ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--busy", type=int, default=5, help="busy processes beside the training")
    parser.add_argument("--queries", type=int, default=40_000)
    arguments = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    training, validation = examples(arguments.queries, 1), examples(256, 2)
    alone_s = seconds_of(training, validation)
    with busy(arguments.busy):
        beside_s = seconds_of(training, validation)
    explained = max(1.0, (1 + arguments.busy) / cores)
    ratio = beside_s / alone_s / explained
    print(f"alone {alone_s:.1f} s, beside {arguments.busy} busy processes {beside_s:.1f} s")
    print(f"{beside_s / alone_s:.2f} times as long; its share explains {explained:.2f}; ratio {ratio:.2f}")
    return int(ratio > LARGEST_RATIO)


def examples(queries: int, seed: int) -> TrainingSet:
    """Random queries of the sizes of the demo's training."""
    rng = np.random.default_rng(seed)
    baskets = np.zeros((queries, BASKET), np.int32)
    baskets[:, :10] = rng.integers(1, ITEMS, (queries, 10))
    shape = (queries, CANDIDATES)
    return TrainingSet(
        users=rng.integers(0, USERS, queries).astype(np.int32),
        baskets=baskets,
        rows=rng.integers(1, ITEMS, shape).astype(np.int32),
        features=rng.random((*shape, len(FEATURES)), np.float32).astype(np.float16),
        log_weights=np.zeros(shape, np.float32),
        target=np.zeros(queries, np.int64),
        n_queries=queries,
    )


def seconds_of(training: TrainingSet, validation: TrainingSet) -> float:
    """Train the scorer for an epoch."""
    torch.manual_seed(1)
    settings = load_settings().train.model_copy(update={"epochs": 1})
    shape = NCFShape(USERS, ITEMS, len(FEATURES), gmf=0, mlp=WIDTH, hidden=settings.hidden)
    started = time.perf_counter()
    fit(NCF(shape), training, validation, settings)
    return time.perf_counter() - started


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Run ``count`` endless loops within the block."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


if __name__ == "__main__":
    sys.exit(main())
