"""Short load tests and comparisons on a real server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

import loadtests.bench.__main__ as bench
import loadtests.load.__main__ as load
from loadtests.bench.measure import Plan, measure_server, prepare
from loadtests.gateway import cost
from loadtests.load.budgets import FILE
from loadtests.running.servers import SERVERS, Running, start_server
from operations.outputs import Outputs
from tests.running import needs
from tests.running.door import Door, open_door

if TYPE_CHECKING:
    from pathlib import Path

    from tests.building.slices import Built

pytestmark = [pytest.mark.triton, pytest.mark.alone]


@pytest.fixture(scope="module")
def release(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outputs]:
    """The built release; only the servers of this module share its compiled kernels."""
    needs.a_tritonserver()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield Outputs(built.root)


@pytest.fixture(scope="module")
def running(release: Outputs) -> Iterator[Running]:
    with start_server(SERVERS[0], release) as server:
        yield server


needs_wrk_and_nginx = pytest.mark.skipif(
    not (shutil.which("wrk") and shutil.which("nginx", path="/usr/sbin:/usr/bin")),
    reason="wrk or nginx is not installed; on Debian: apt-get install wrk nginx",
)
NEVER_BROKEN = {"p50_ms": 1e9, "p95_ms": 1e9, "p99_ms": 1e9, "error_rate": 0, "requests_per_s": 1}


def words(running: Running, release: Outputs, folder: Path, wire: str, **limits: float) -> list[str]:
    """The command of a load test of one second, with `limits` as its only budget."""
    budget = "".join(f"{name} = {limit}\n" for name, limit in (NEVER_BROKEN | limits).items())
    (folder / "budgets.toml").write_text(f"[smoke]\n{budget}[open_loop]\n{budget}")
    host = running.grpc if wire == "grpc" else running.http
    few = ["--length-s=1", "--shoppers=4", "--open-loop-s=0", f"--wire={wire}"]
    budgets = f"--budgets={folder / 'budgets.toml'}"
    return [f"--host={host}", f"--release={release.root}", f"--out={folder}", budgets, *few]


@pytest.mark.parametrize("wire", ["http", "grpc"])
def test_shoppers_who_are_served_in_time_keep_the_budget(
    wire: str, running: Running, release: Outputs, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code = load.main(words(running, release, tmp_path, wire))
    assert code == 0, capfd.readouterr()
    assert list(tmp_path.glob("smoke-*.html"))


def test_the_address_may_be_written_as_locust_s_own_page_does(
    running: Running, release: Outputs, tmp_path: Path
) -> None:
    given = words(running, release, tmp_path, "http")
    assert load.main([*given, f"--host=http://{running.http}/"]) == 0


def test_a_broken_budget_fails_the_run_and_is_named(
    running: Running, release: Outputs, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The budget is a thousandth of a millisecond."""
    assert load.main(words(running, release, tmp_path, "http", p50_ms=0.001)) == 1
    verdicts = [line for line in capfd.readouterr().out.splitlines() if line.startswith("budget ")]
    assert [line.partition(" is ")[0] for line in verdicts] == ["budget [smoke] broken: p50_ms"]


def test_the_open_loop_keeps_its_rate_and_has_a_budget_too(
    running: Running, release: Outputs, tmp_path: Path
) -> None:
    given = load.parse([*words(running, release, tmp_path, "http", p99_ms=0.001), "--open-loop-s=1"])
    (sentence,) = load.run_open_loop(given, running.http)
    assert sentence.startswith("p99_ms is ")


def test_cesta_is_not_far_below_the_chain_without_a_server(release: Outputs, tmp_path: Path) -> None:
    """The comparison is relative, within one run, with room for a busy machine. docs/performance.md has the
    target itself.
    """
    if not shutil.which("wrk"):
        pytest.skip("wrk is not installed; on Debian: apt-get install wrk")
    assert bench.main(["--quick", f"--release={release.root}", f"--out={tmp_path}"]) == 0
    results = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert results["not_measured"] == {}
    measured = {(row["server"], row["wire"]) for row in results["rows"]}
    fastapi, limit = ("FastAPI, reference", "HTTP JSON"), ("in process", "none")
    assert measured == {("cesta", "HTTP JSON"), ("cesta", "HTTP V2 binary"), fastapi, limit}
    assert not any(row["errors"] for row in results["rows"])
    assert results["ratios"]["over_limit"] > 0.1
    assert next(tmp_path.glob("*.svg")).read_text().startswith("<svg")


@needs_wrk_and_nginx
def test_the_gateway_is_measured_beside_triton_and_a_bare_proxy(
    running: Running, release: Outputs, tmp_path: Path
) -> None:
    """One round decides nothing, so the run does not fail."""
    given = [f"--triton={running.http}", f"--triton-grpc={running.grpc}", f"--release={release.root}"]
    few = ["--pairs=1", "--seconds=1", "--connections=8"]
    assert cost.main([*given, *few, f"--out={tmp_path}"]) == 0
    rows = json.loads(next(tmp_path.glob("gateway-cost-*.json")).read_text())["rows"]
    http, cached, grpc = rows
    assert set(http["rps"]) == set(cached["rps"]) == {"direct", "bare", "gateway"}
    assert set(grpc["rps"]) == {"direct", "gateway"}
    assert all(rate > 10 for row in rows for (rate,) in row["rps"].values())
    assert [share["least"] for share in http["shares"]] == [None, 0.75, 0.92]


@needs_wrk_and_nginx
@pytest.mark.parametrize("name", ["cesta through the gateway", "FastAPI with keys and limits"])
def test_a_guarded_server_is_asked_with_a_key(name: str, release: Outputs, tmp_path: Path) -> None:
    """One key may have 32 requests in flight, so 128 connections are not opened."""
    server = next(server for server in SERVERS if server.name == name and not server.cached)
    plan = Plan(tmp_path, 1, 1.0, (128,), questions=2_000, half=False)
    rows = list(measure_server(server, release, plan, prepare(release, plan)))
    assert {(row.concurrency, row.errors) for row in rows} == {(32, 0)}
    assert len(rows) == len(server.wires)
    if server.kind == "ours":
        assert any("nginx" in process for process in rows[0].cpu_us)


@pytest.fixture(scope="module")
def door(running: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """A gateway in front of the release."""
    folder = tmp_path_factory.mktemp("gateway")
    with needs.debian_packages():
        door = open_door(folder, triton_http=running.http)
    yield door
    door.gateway.stop()


@pytest.mark.parametrize("wire", ["/v1/recommend", "/v2/models/recommender/infer", "grpc"])
def test_a_gateway_s_load_test_knocks_with_its_keys(
    wire: str,
    door: Door,
    running: Running,
    release: Outputs,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Shoppers use every protocol of a gateway, and two keys in turn; the open loop runs over HTTP, too."""
    front = Running(running.processes, door.settings.http, door.settings.grpc)
    given = words(front, release, tmp_path, "grpc" if wire == "grpc" else "http")
    if wire != "grpc":
        given += [f"--path={wire}", "--open-loop-s=1"]
    monkeypatch.setenv("CESTA_KEYS", "nobody's")
    assert load.main(given) == 1
    assert "error_rate is 1, at most 0 is allowed" in capfd.readouterr().out
    before = door.settings.access_log.stat().st_size
    monkeypatch.setenv("CESTA_KEYS", f"{door.keys['shop']},{door.keys['admin']}")
    assert load.main(given) == 0, capfd.readouterr()
    lines = [json.loads(line) for line in door.settings.access_log.read_text()[before:].splitlines()]
    assert {line["key"] for line in lines if line["status"] == 200} == {"shop", "admin"}


def test_the_budgets_of_the_repository_are_used() -> None:
    assert load.parse([]).budgets == FILE
