"""The engine of Ray on two nodes: order, sentences, and what happens when workers or nodes die."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.scale.cluster import Cluster, Node, environment, kill, until

PATIENCE_S = 120  # for Ray to start workers, or to notice that a node is gone


def begin(node: Node, function: str, partitions: list[int], **call: Any) -> subprocess.Popen[str]:
    call |= {"function": function, "partitions": partitions}
    command = node.command(sys.executable, "-m", "tests.scale.driver", json.dumps(call, default=str))
    return subprocess.Popen(command, env=environment(), text=True, stdout=subprocess.PIPE)


def outcome(run: subprocess.Popen[str]) -> dict[str, Any]:
    printed, _ = run.communicate(timeout=PATIENCE_S)
    return json.loads(printed)  # type: ignore[no-any-return]


def waiting(folder: Path) -> list[Path]:
    return [folder / f"pid-{k}" for k in range(4) if (folder / f"pid-{k}").exists()]


def test_results_come_in_order_from_both_nodes(cluster: Cluster, tmp_path: Path) -> None:
    """Four partitions wait at once, so each of the four processors computes one: two of each node."""
    run = begin(cluster.head, "wait_for", list(range(12)), shared=tmp_path)
    until(lambda: len(waiting(tmp_path)) == 4, PATIENCE_S)
    assert (len(cluster.head.tasks()), len(cluster.other.tasks())) == (2, 2)
    (tmp_path / "go").touch()
    assert outcome(run) == {"results": list(range(12))}


def test_an_error_for_the_user_arrives_as_its_sentence(cluster: Cluster) -> None:
    found = outcome(begin(cluster.head, "refuse_the_third", list(range(9))))
    assert found == {"sentence": "the third partition has no lines; leave it out"}


def test_a_killed_worker_is_replaced(cluster: Cluster, tmp_path: Path) -> None:
    run = begin(cluster.head, "wait_for", list(range(6)), shared=tmp_path)
    until(lambda: len(waiting(tmp_path)) == 4 and len(cluster.other.tasks()) == 2, PATIENCE_S)
    kill(cluster.other.tasks()[0])
    (tmp_path / "go").touch()
    assert outcome(run) == {"results": list(range(6))}


def test_a_partition_that_kills_each_of_its_workers_ends_in_a_sentence(cluster: Cluster) -> None:
    run = begin(cluster.head, "die", list(range(3)), settings={"engine.retries": 1})
    assert outcome(run)["sentence"].startswith("the Ray cluster lost a partition in each of 2 tries: ")


def test_the_partitions_of_a_lost_node_are_computed_on_the_other(cluster: Cluster, tmp_path: Path) -> None:
    run = begin(cluster.head, "wait_for", list(range(6)), shared=tmp_path)
    until(lambda: len(waiting(tmp_path)) == 4 and len(cluster.other.tasks()) == 2, PATIENCE_S)
    cluster.other.kill()
    (tmp_path / "go").touch()
    assert outcome(run) == {"results": list(range(6))}


@pytest.mark.parametrize(("address", "source"), [("127.0.0.1:1", "engine.address"), ("auto", "RAY_ADDRESS")])
def test_without_a_cluster_there_is_a_sentence(address: str, source: str) -> None:
    call = {"function": "add", "partitions": [], "settings": {"engine.address": address}}
    command = [sys.executable, "-m", "tests.scale.driver", json.dumps(call)]
    variables = environment() | {"RAY_ADDRESS": "127.0.0.1:1"}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    sentence = json.loads(done.stdout)["sentence"]
    assert sentence.startswith(f'no Ray cluster answers at "127.0.0.1:1", which is {source}; ')
