"""`cesta score` on two nodes writes the bytes of one process, also when a worker is killed in the middle."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.building.scored import publish_release, random_scorer
from tests.building.world import arrays_of, random_shop
from tests.scale.cluster import Cluster, environment, kill, until

ITEMS, USERS = 4_000, 500  # five partitions, of some seconds together
NO_LOSS = {"fill": ITEMS, "width": 8_192}
SCORE_S = 240


def test_a_worker_that_is_killed_changes_no_score(cluster: Cluster, tmp_path: Path) -> None:
    shop = random_shop(np.random.default_rng(3), ITEMS, USERS, 2_000)
    scorer = random_scorer(shop.n_users, shop.n_items)
    publish_release(tmp_path, shop, arrays_of(shop), scorer, **NO_LOSS)
    command = [sys.executable, "-m", "operations.cli", "score", "--out", str(tmp_path), "--k", "50", "--to"]
    here, there = tmp_path / "here", tmp_path / "there"
    subprocess.run([*command, str(here), "--workers", "1"], env=environment(), check=True, timeout=SCORE_S)
    on_cluster = cluster.head.command(*command, there, "--engine", "ray", "--workers", "4")
    run = subprocess.Popen(on_cluster, env=environment())
    until(lambda: cluster.other.tasks(), SCORE_S)
    kill(cluster.other.tasks()[0])
    assert run.wait(SCORE_S) == 0
    assert contents(there) == contents(here)
    assert len(list(there.glob("partition=*"))) == USERS // 100


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
