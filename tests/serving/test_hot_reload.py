"""Releases are switched under traffic: no request fails, no answer mixes two releases.

pytest tests/serving/test_hot_reload.py -s   prints p99 while switching and at rest, switch times and memory.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http

from operations.records.contract import ENSEMBLE
from operations.records.golden_answers import Answer, Request, answer_of, difference
from operations.releases.golden import request_tensors
from operations.releases.promote import promote, roll_back
from operations.server.process import Server
from tests.building import TOY_SAMPLER
from tests.running.processes import children
from tests.running.toy_shop import BASKETS, ToyShop

pytestmark = [pytest.mark.triton, pytest.mark.timeout(240)]

SWITCHES = 20
BETWEEN = 40  # answers between two switches, so that each release really serves
ASK_TIMEOUT_S = 30

Switch = tuple[float, float, dict[str, Any]]  # began, ended; its record


class Shopper(threading.Thread):
    """Asks one query after the other over one protocol; every second one is new to the cache."""

    def __init__(self, protocol: Any, address: str, expected: dict[int, list[Any]]) -> None:
        super().__init__(daemon=True)
        self._protocol, self._expected = protocol, expected
        self._client = protocol.InferenceServerClient(address)
        self._ending, self.answered = threading.Event(), threading.Semaphore(0)
        self.mistakes: list[str] = []
        self.versions: set[int] = set()
        self.times: list[tuple[float, float]] = []  # asked, answered; seconds

    def run(self) -> None:
        for number in count():
            if self._ending.is_set():
                return
            place, asked_at = number // 2 % len(BASKETS), time.perf_counter()
            try:
                version, answer = self._ask(place, f"{self.name}-{number}" if number % 2 else "")
            except Exception as error:
                self.mistakes.append(f"failed: {error}")
            else:
                self.times.append((asked_at, time.perf_counter()))
                self.versions.add(version)
                if problem := difference(answer, self._expected[version][place]):
                    self.mistakes.append(f"{BASKETS[place]}: not release {version}'s answer: {problem}")
            self.answered.release()

    def stop(self) -> None:
        self._ending.set()
        self.join()
        self._client.close()

    def _ask(self, place: int, user_id: str) -> tuple[int, Answer]:
        inputs = []
        for name, array in request_tensors(Request(basket=BASKETS[place], user_id=user_id)).items():
            inputs.append(self._protocol.InferInput(name, array.shape, "BYTES"))
            inputs[-1].set_data_from_numpy(array)
        result = self._client.infer(ENSEMBLE, inputs)
        response = result.get_response()
        version = response["model_version"] if isinstance(response, dict) else response.model_version
        return int(version), answer_of({n: result.as_numpy(n) for n in ("item_ids", "scores", "reasons")})


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
    """Rollbacks and promotions alternate under 200 requests a second or more. Memory after the last is at
    most 5 % above the memory after the 2nd.
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
    assert sum(len(shopper.times) for shopper in shoppers) >= 200 * seconds


@contextmanager
def keep_asking(shoppers: list[Shopper]) -> Iterator[None]:
    """Let all of them ask during the block."""
    try:
        for shopper in shoppers:
            shopper.start()
        wait_for_answers(shoppers)
        yield
    finally:
        for shopper in shoppers:
            shopper.stop()


def switch(shop: ToyShop, back: bool) -> Switch:
    started = time.perf_counter()
    record = roll_back(shop.repository, shop.control) if back else promote(shop.repository, 2, shop.control)
    return started, time.perf_counter(), record


def wait_for_answers(shoppers: list[Shopper]) -> None:
    """Wait for BETWEEN more answers in all, the same number from each."""
    for shopper in shoppers:
        for _ in range(BETWEEN // len(shoppers)):
            assert shopper.answered.acquire(timeout=ASK_TIMEOUT_S)


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
