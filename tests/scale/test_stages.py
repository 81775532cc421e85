"""Stages on a Ray cluster of two nodes write the same bytes as one process, also when something dies."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.building.cheap_builds import CHEAP
from tests.building.shops import make_shop
from tests.scale.cluster import Cluster, Node, environment, kill, until

STAGE_S = 600  # beside busy processes
INPUTS = {"train": 1, "evaluate": 2, "export": 3}  # of data, checkpoint and metrics
SMALL_DISK = "40M"
LONG = {"evaluate.full_catalog": 200, "splits.hidden_per_basket": 6}  # so that a run lasts for seconds


class Stages:
    """A shop with a checkpoint, and the metrics that one process here measures."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shop = make_shop(folder / "shop", np.random.default_rng(1), baskets=1_500)
        changes = CHEAP | LONG | {name: str(path) for name, path in shop.overrides().items()}
        self._changes = [word for name, value in changes.items() for word in ("--set", f"{name}={value}")]
        self.out = folder / "one-process"
        for verb in ("etl", "train", "evaluate", "export"):
            subprocess.run(self._command(verb, self.out), env=environment(), check=True)
        self.metrics = (self.out / "metrics.json").read_bytes()
        self.arrays = contents(self.out / "run" / "arrays")

    def _command(self, verb: str, out: Path, *options: str) -> list[str]:
        return [sys.executable, "-m", "operations.cli", verb, "--out", str(out), *self._changes, *options]

    def begin(self, node: Node, out: Path, workers: int, verb: str = "evaluate") -> subprocess.Popen[str]:
        """Begin a stage on ``node``, with an output folder of its own, in which nothing is counted yet."""
        out.mkdir()
        self.prepare(node, out, verb)
        return self.begin_again(node, out, workers, verb)

    def prepare(self, node: Node, out: Path, verb: str) -> None:
        """Copy what the stage reads into ``out``, a folder that ``node`` may see alone."""
        needed = ["data", "checkpoint.pt", "metrics.json"][: INPUTS[verb]]
        copy: list[str | Path] = ["cp", "--recursive", *(self.out / name for name in needed), out]
        subprocess.run(node.command(*copy), check=True)

    def begin_again(self, node: Node, out: Path, workers: int, verb: str) -> subprocess.Popen[str]:
        command = self._command(verb, out, "--engine", "ray", "--workers", str(workers))
        pipe = subprocess.PIPE
        return subprocess.Popen(
            node.command(*command), env=environment(), text=True, stdout=pipe, stderr=pipe
        )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Stages:
    return Stages(tmp_path_factory.mktemp("stages"))


def check_finished(run: subprocess.Popen[str], out: Path, stages: Stages) -> None:
    printed, logged = run.communicate(timeout=STAGE_S)
    assert run.returncode == 0, logged
    assert printed.splitlines()[-1] == str(out / "report.html")
    assert (out / "metrics.json").read_bytes() == stages.metrics


def test_one_worker_measures_the_same(cluster: Cluster, stages: Stages, tmp_path: Path) -> None:
    check_finished(stages.begin(cluster.head, tmp_path / "out", 1), tmp_path / "out", stages)


def test_four_workers_count_the_same(cluster: Cluster, stages: Stages, tmp_path: Path) -> None:
    """Pairs, histories and all other arrays of a release."""
    run = stages.begin(cluster.head, tmp_path / "out", 4, "export")
    _, logged = run.communicate(timeout=STAGE_S)
    assert run.returncode == 0, logged
    assert contents(tmp_path / "out" / "run" / "arrays") == stages.arrays


def test_a_lost_worker_and_a_lost_node_change_nothing(
    cluster: Cluster, stages: Stages, tmp_path: Path
) -> None:
    run = stages.begin(cluster.head, tmp_path / "out", 4)
    until(lambda: cluster.head.tasks() and cluster.other.tasks(), STAGE_S)
    kill(cluster.head.tasks()[0])
    cluster.other.kill()
    check_finished(run, tmp_path / "out", stages)


@pytest.mark.parametrize("place", ["head", "other"])
def test_where_rays_disk_is_full_a_stage_finishes_or_refuses(
    cluster: Cluster, stages: Stages, tmp_path: Path, place: str
) -> None:
    """Ray's workers die where they cannot write their logs, and Ray may try them there again."""
    node: Node = getattr(cluster, place)
    with filled(node):
        run = stages.begin(cluster.head, tmp_path / "out", 4)
        printed, logged = run.communicate(timeout=STAGE_S)
    if run.returncode == 0:
        assert (tmp_path / "out" / "metrics.json").read_bytes() == stages.metrics
    else:
        assert (run.returncode, printed) == (1, "")
        assert "the Ray cluster lost a partition in each of 4 tries: " in logged
        assert "Traceback" not in logged
        assert not (tmp_path / "out" / "metrics.json").exists()


@pytest.mark.parametrize("verb", INPUTS)
def test_a_full_disk_of_the_output_ends_in_a_sentence(
    cluster: Cluster, stages: Stages, tmp_path: Path, verb: str
) -> None:
    """Only the stage's own node has an output. It stays as it was, so the next try has as much room."""
    node, out = cluster.head, tmp_path / "out"
    with small_disk(node, out):
        stages.prepare(node, out, verb)
        before = files(node, out)
        with filled(node, out):
            run = stages.begin_again(node, out, 4, verb)
            printed, logged = run.communicate(timeout=STAGE_S)
        assert (run.returncode, printed) == (1, "")
        assert "No space left on device" in logged.splitlines()[-1]
        assert "Traceback" not in logged
        assert files(node, out) == before


@contextmanager
def small_disk(node: Node, folder: Path) -> Iterator[None]:
    """Give ``node`` a disk of its own at ``folder``."""
    folder.mkdir()
    size = f"size={SMALL_DISK}"
    subprocess.run(node.command("mount", "-t", "tmpfs", "-o", size, "tmpfs", folder), check=True)
    try:
        yield
    finally:
        subprocess.run(node.command("umount", "--lazy", folder), check=True)


def files(node: Node, folder: Path) -> list[str]:
    """The files that ``node`` has below ``folder``, with their sizes."""
    found = subprocess.check_output(
        node.command("find", folder, "-type", "f", "-printf", "%p %s\n"), text=True
    )
    return sorted(found.splitlines())


@contextmanager
def filled(node: Node, folder: Path = Path("/tmp/ray")) -> Iterator[None]:
    """Fill the disk of ``folder``, by default Ray's own, to the last byte."""
    file = folder / "filler"
    subprocess.run(
        node.command("sh", "-c", f"cat /dev/zero > {file}"), check=False, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        subprocess.run(node.command("rm", file), check=True)
