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

from tests.scale.cluster import Cluster, Node, environment, kill, until

PATIENCE_S = 120
STEPS = 400
HANGING_S = 15  # until the other ranks take one for lost


@contextmanager
def training(cluster: Cluster, workers: int = 4, patience: float = PATIENCE_S) -> Iterator[Lines]:
    command = [sys.executable, "-m", "tests.scale.tower_driver", str(workers), str(patience)]
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
        assert found["partners_found"] > 0.95


def in_the_second_stretch(lines: Lines, node: Node) -> list[int]:
    """Wait until the ranks of ``node`` train the second stretch; return their processes."""
    assert [lines.read() for _ in range(2)] == [{"from_step": step, "ranks": 4} for step in (0, 100)]
    until(lambda: len(node.tasks()) == 2, PATIENCE_S)
    return node.tasks()


def test_ranks_on_two_nodes_train_a_tower(cluster: Cluster) -> None:
    with training(cluster) as lines:
        in_the_second_stretch(lines, cluster.head)
        in_the_other = len(cluster.other.tasks())
        lines.check_finished()
    assert in_the_other == 2


def test_a_killed_rank_costs_the_steps_of_its_stretch(cluster: Cluster) -> None:
    with training(cluster) as lines:
        kill(in_the_second_stretch(lines, cluster.other)[0])
        assert lines.read() == {"from_step": 100, "ranks": 4}
        lines.check_finished()


def test_a_rank_that_hangs_is_taken_for_lost(cluster: Cluster) -> None:
    with training(cluster, patience=HANGING_S) as lines:
        hanging = in_the_second_stretch(lines, cluster.other)[0]
        os.kill(hanging, signal.SIGSTOP)
        assert lines.read() == {"from_step": 100, "ranks": 4}
        lines.check_finished()
    until(lambda: hanging not in cluster.other.tasks(), PATIENCE_S)


def test_after_the_loss_of_a_node_the_ranks_of_the_other_go_on(fragile_cluster: Cluster) -> None:
    with training(fragile_cluster) as lines:
        in_the_second_stretch(lines, fragile_cluster.other)
        fragile_cluster.other.kill()
        begun = [lines.read()]
        while begun[-1]["ranks"] == 4:  # before the cluster has noticed the loss
            begun.append(lines.read())
        assert begun[-1] == {"from_step": 100, "ranks": 2}
        lines.check_finished()


def test_more_workers_than_processors_are_no_obstacle(cluster: Cluster) -> None:
    with training(cluster, workers=9) as lines:
        assert lines.read() == {"from_step": 0, "ranks": 4}
        lines.check_finished()
