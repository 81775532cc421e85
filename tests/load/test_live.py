"""Load tests and comparison, in small, on a real server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from ensemble.serving_environment import ServerError, find_serving_environment
from loadtests import bench, load
from loadtests.budgets import FILE
from loadtests.servers import SERVERS, Release, Running, started

if TYPE_CHECKING:
    from pathlib import Path

    from slices import Built

pytestmark = pytest.mark.triton


@pytest.fixture(scope="module")
def release(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    """The built release; what its kernels are compiled to is shared by the servers of this module alone."""
    try:
        find_serving_environment()
    except ServerError as error:
        pytest.skip(str(error))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield Release(built.root)


@pytest.fixture(scope="module")
def running(release: Release) -> Iterator[Running]:
    with started(SERVERS[0], release) as found:
        yield found


def loaded(running: Running, release: Release, folder: Path, *more: str) -> int:
    """A load test of two seconds."""
    host = running.grpc if "grpc" in more else running.http
    length = ["--length-s=2", "--open-loop-s=1", "--shoppers=4"]
    words = [f"--host={host}", f"--release={release.root}", f"--out={folder}", *length, *more]
    return load.main(words)


def test_a_broken_budget_fails_and_is_named(
    running: Running, release: Release, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nobody answers in a thousandth of a millisecond; all other limits are out of reach."""
    budgets = tmp_path / "budgets.toml"
    limits = "p50_ms = 0.001\np95_ms = 1e9\np99_ms = 1e9\nerror_rate = 0\nrequests_per_s = 0\n"
    budgets.write_text(f"[smoke]\n{limits}[open_loop]\n{limits}")
    assert loaded(running, release, tmp_path, f"--budgets={budgets}") == 1
    printed = capfd.readouterr().out
    said = [line.partition(" is ")[0] for line in printed.splitlines() if line.startswith("budget ")]
    assert said == ["budget [smoke] broken: p50_ms", "budget [open_loop] broken: p50_ms"]
    assert list(tmp_path.glob("smoke-*.html"))


def test_shoppers_over_grpc_keep_a_generous_budget(
    running: Running, release: Release, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    budgets = tmp_path / "budgets.toml"
    limits = "p50_ms = 1e9\np95_ms = 1e9\np99_ms = 1e9\nerror_rate = 0\nrequests_per_s = 1\n"
    budgets.write_text(f"[smoke]\n{limits}")
    code = loaded(running, release, tmp_path, f"--budgets={budgets}", "--wire", "grpc")
    assert code == 0, capfd.readouterr()


def test_cesta_is_not_far_below_the_chain_without_a_server(release: Release, tmp_path: Path) -> None:
    """Relative, in one run, with much room for a busy machine: the target itself is docs/performance.md's."""
    if not shutil.which("wrk"):
        pytest.skip("wrk is not installed; on Debian: apt-get install wrk")
    assert bench.main(["--quick", f"--release={release.root}", f"--out={tmp_path}"]) == 0
    found = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert found["not_measured"] == {}
    measured = {(row["server"], row["wire"]) for row in found["rows"]}
    fastapi, limit = ("FastAPI, reference", "HTTP JSON"), ("in process", "none")
    assert measured == {("cesta", "HTTP JSON"), ("cesta", "HTTP V2 binary"), fastapi, limit}
    assert not any(row["errors"] for row in found["rows"])
    assert found["ratios"]["over_limit"] > 0.1
    assert next(tmp_path.glob("*.svg")).read_text().startswith("<svg")


def test_the_budgets_of_the_repository_are_used() -> None:
    assert load.parse([]).budgets == FILE
