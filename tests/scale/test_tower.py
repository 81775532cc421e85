"""The retrieval tower trained by Ray's workers on two nodes, also when a rank or a node is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.scale.cluster import Cluster, Node, descendants, environment, kill, until

PATIENCE_S = 120
STEPS = 200


@contextmanager
def training(cluster: Cluster, workers: int = 4) -> Iterator[Lines]:
    command = [sys.executable, "-m", "tests.scale.tower_driver", str(workers)]
    run = subprocess.Popen(
        cluster.head.command(*command), env=environment(), text=True, stdout=subprocess.PIPE
    )
    try:
        yield Lines(run)
    finally:
        run.kill()
        run.wait()


class Lines:
    """What the driver prints, line by line."""

    def __init__(self, run: subprocess.Popen[str]) -> None:
        self._run = run

    def read(self) -> dict[str, Any]:
        assert self._run.stdout is not None
        return json.loads(self._run.stdout.readline())  # type: ignore[no-any-return]

    def check_finished(self) -> None:
        """All steps are done, however often some were begun again, and the tower knows what goes together."""
        while "from_step" in (found := self.read()):
            pass
        assert found["steps"] == STEPS
        assert found["partners_found"] > 0.9


def begun(step: int, ranks: int = 4) -> dict[str, int]:
    return {"from_step": step, "ranks": ranks}


def ranks_of(node: Node) -> list[int]:
    """Wait until two ranks are on ``node``, and return their processes."""
    until(lambda: len(node.tasks()) == 2, PATIENCE_S)
    return node.tasks()


def test_as_many_ranks_as_there_are_processors_train_a_tower(cluster: Cluster) -> None:
    """Nine workers are asked for; each node has two."""
    with training(cluster, workers=9) as lines:
        assert lines.read() == begun(0)
        assert len(ranks_of(cluster.head) + ranks_of(cluster.other)) == 4
        lines.check_finished()


def test_a_rank_that_dies_or_hangs_costs_the_steps_of_its_stretch(cluster: Cluster) -> None:
    with training(cluster) as lines:
        assert [lines.read() for _ in range(2)] == [begun(0), begun(50)]
        kill(ranks_of(cluster.other)[0])
        assert [lines.read() for _ in range(2)] == [begun(50), begun(100)]
        hanging = ranks_of(cluster.other)[0]
        os.kill(hanging, signal.SIGSTOP)
        assert lines.read() == begun(100)
        lines.check_finished()
    until(lambda: hanging not in descendants(cluster.other.inner), PATIENCE_S)


def test_after_the_loss_of_a_node_the_ranks_of_the_other_go_on(cluster: Cluster) -> None:
    with training(cluster) as lines:
        assert [lines.read() for _ in range(2)] == [begun(0), begun(50)]
        ranks_of(cluster.other)
        cluster.other.kill()
        while (found := lines.read()) == begun(50):  # before the cluster has noticed the loss
            pass
        assert found == begun(50, ranks=2)
        lines.check_finished()
