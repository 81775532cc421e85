"""Releases are switched under traffic: no request fails, no answer mixes two releases.

pytest tests/serving/test_hot_reload.py -s   prints p99 while switching and at rest, switch times and memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http

from operations.releases.promote import promote, roll_back
from operations.server.process import Server
from tests.building import TOY_SAMPLER
from tests.running.processes import children
from tests.running.shoppers import Shopper, keep_asking, wait_for_answers
from tests.running.toy_shop import ToyShop

pytestmark = [pytest.mark.triton, pytest.mark.alone, pytest.mark.timeout(240)]

SWITCHES = 20

Switch = tuple[float, float, dict[str, Any]]  # began, ended; its record


@pytest.fixture
def shop(
    tmp_path: Path, start_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> Iterator[ToyShop]:
    """Releases 1 and 2 are loaded; 2 is active."""
    monkeypatch.setattr("operations.records.sampler_code.SAMPLER_CODE", TOY_SAMPLER)
    shop = ToyShop(tmp_path, start_server)
    shop.first(1)
    promote(shop.repository, shop.add(2), shop.control)
    yield shop
    shop.close()


def test_twenty_switches_under_traffic(shop: ToyShop) -> None:
    """Rollbacks and promotions alternate while shoppers ask. Memory after the last is at most 5 % above the
    memory after the 2nd.
    """
    expected = {release: shop.expected(release) for release in (1, 2)}
    wires = [(tritonclient.http, shop.server.http), (tritonclient.grpc, shop.server.grpc)]
    shoppers = [Shopper(*wires[n % 2], expected) for n in range(4)]
    switches: list[Switch] = []
    memory: list[int] = []
    with keep_asking(shoppers):
        started = time.perf_counter()
        for number in range(SWITCHES):
            switches.append(switch(shop, back=number % 2 == 0))
            wait_for_answers(shoppers)
            memory.append(resident_bytes(shop.server.pid))
        seconds = time.perf_counter() - started

    report(shoppers, switches, seconds, memory)
    assert [mistake for shopper in shoppers for mistake in shopper.mistakes] == []
    assert all(shopper.versions == {1, 2} for shopper in shoppers)
    assert memory[-1] <= 1.05 * memory[1]


def switch(shop: ToyShop, back: bool) -> Switch:
    started = time.perf_counter()
    record = roll_back(shop.repository, shop.control) if back else promote(shop.repository, 2, shop.control)
    return started, time.perf_counter(), record


def resident_bytes(pid: int) -> int:
    """Resident bytes of the server and the stubs of its models, without the pages that they share."""
    return sum(_private_bytes(process) for process in (pid, *children(pid)))


def _private_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Private_"))


def report(
    shoppers: list[Shopper],
    switches: list[Switch],
    seconds: float,
    memory: list[int],
) -> None:
    times = [pair for shopper in shoppers for pair in shopper.times]
    meanwhile = [any(a < end and b > start for start, end, _ in switches) for a, b in times]
    took = 1000 * np.array([b - a for a, b in times])
    during, at_rest = took[meanwhile], took[np.logical_not(meanwhile)]
    print(f"\n{len(times)} answers, {len(times) / seconds:.0f}/s")
    for name, part in (("while switching", during), ("at rest", at_rest)):
        print(f"{name}: n {len(part)}, p50 {np.median(part):.1f} ms, p99 {np.quantile(part, 0.99):.1f} ms")
    for what in ("rollback", "promote"):
        same_kind = [(end - start, r["seconds"]) for start, end, r in switches if r["what"] == what]
        whole = 1000 * np.median([taken for taken, _ in same_kind])
        steps = {step: 1000 * np.median([steps[step] for _, steps in same_kind]) for step in same_kind[0][1]}
        print(f"{what}: {whole:.0f} ms; " + ", ".join(f"{step} {ms:.1f}" for step, ms in steps.items()))
    print(f"memory: {memory[1] / 2**20:.1f} MiB after the 2nd, {memory[-1] / 2**20:.1f} after the last")
