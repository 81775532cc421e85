"""Releases that do not load, under traffic: a second server finds out, and no shopper notices."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tritonclient.grpc
import tritonclient.http

from loadtests.faults.broken_releases import (
    KINDS,
    answers_late,
    hangs_at_a_question,
    hangs_at_load,
    hangs_in_initialize,
    raises_in_initialize,
)
from operations.errors import NotPromoted
from operations.records.contract import SAMPLER, SCORER
from operations.releases import trial
from operations.releases.promote import promote, roll_back
from operations.server.memory import Memory
from tests.running.processes import children, command
from tests.running.shoppers import Shopper, keep_asking, wait_for_answers
from tests.running.toy_shop import ToyShop

pytestmark = [pytest.mark.triton, pytest.mark.timeout(300)]

ROLLBACK_S = 5.0  # a tenth of a second on an idle machine; a trial takes longer


@pytest.mark.alone
def test_promotions_that_fail_in_all_ways_cost_no_request(shop: ToyShop) -> None:
    """A sampler raises, exits, crashes or lacks data, a scorer has no such operator, a golden answer differs.
    The serving process never sees these releases, and after each a rollback is quick.
    """
    one = shop.first(1)
    two = shop.add(2)
    promote(shop.repository, two, shop.control)
    serving = children(shop.server.pid)
    expected = {release: shop.expected(release) for release in (one, two)}
    wires = [(tritonclient.http, shop.server.http), (tritonclient.grpc, shop.server.grpc)]
    shoppers = [Shopper(*wires[n % 2], expected) for n in range(4)]
    with keep_asking(shoppers):
        for seed, spoil in enumerate(KINDS, start=3):
            broken = shop.add(seed)
            spoil(shop.repository, broken)
            with pytest.raises(NotPromoted, match=rf'release {two} is still .* step "trial" failed: '):
                promote(shop.repository, broken, shop.control)
            assert shop.control.states(SAMPLER) == shop.control.states(SCORER) == {one: "READY", two: "READY"}
            began = time.monotonic()
            roll_back(shop.repository, shop.control)
            assert time.monotonic() - began < ROLLBACK_S, spoil.__name__
            promote(shop.repository, two, shop.control)
            wait_for_answers(shoppers)
    assert [mistake for shopper in shoppers for mistake in shopper.mistakes] == []
    assert shop.is_ready()
    assert set(serving) <= set(children(shop.server.pid))


@pytest.mark.parametrize("way", ["rollback", "promote"])
def test_a_release_whose_process_has_died_is_loaded_anew(shop: ToyShop, way: str) -> None:
    """It is loaded and answers nobody, so nothing has noticed. A switch to it would cost answers."""
    one, two = shop.first(1), shop.add(2)
    promote(shop.repository, two, shop.control)
    expected = {release: shop.expected(release) for release in (one, two)}
    shoppers = [Shopper(tritonclient.http, shop.server.http, expected) for _ in range(2)]
    with keep_asking(shoppers):
        (stub,) = (pid for pid in children(shop.server.pid) if f"/{SAMPLER}/{one}/" in " ".join(command(pid)))
        os.kill(stub, signal.SIGKILL)
        if way == "rollback":
            roll_back(shop.repository, shop.control)
        else:
            promote(shop.repository, one, shop.control, force=True)
        wait_for_answers(shoppers)
    assert [mistake for shopper in shoppers for mistake in shopper.mistakes] == []
    assert shop.mistakes(one) == []


def test_a_load_without_an_end_is_given_up(shop: ToyShop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the second server is left."""
    monkeypatch.setattr(trial, "LOAD_S", 2.0)
    one = shop.first(1)
    hanging = shop.add(2)
    hangs_at_load(shop.repository, hanging)
    with pytest.raises(NotPromoted, match="neither loads nor fails within the time for its size"):
        promote(shop.repository, hanging, shop.control)
    assert shop.mistakes(one) == []


def test_a_rollback_does_not_wait_for_a_trial(shop: ToyShop, tmp_path: Path) -> None:
    """The rollback goes through while a new release hangs in ``initialize``.

    When that trial ends at last, the release is not promoted: another one than before is active.
    """
    one, two, hanging = shop.first(1), shop.add(2), shop.add(3)
    promote(shop.repository, two, shop.control)
    began, goes_on = tmp_path / "began", tmp_path / "goes-on"
    hangs_in_initialize(shop.repository, hanging, began, goes_on)
    with ThreadPoolExecutor(1) as pool:
        promotion = pool.submit(promote, shop.repository, hanging, shop.control)
        try:
            while not began.exists() and not promotion.done():
                time.sleep(0.05)
            started = time.monotonic()
            roll_back(shop.repository, shop.control)
            assert time.monotonic() - started < ROLLBACK_S
            assert not promotion.done()
        finally:
            goes_on.touch()
        with pytest.raises(NotPromoted, match="release 1 became the active one while release 3 was tried"):
            promotion.result()
    assert shop.mistakes(one) == []
    assert shop.control.ready(SAMPLER) == {one, two}


def test_a_release_that_loads_and_answers_nothing_is_given_up(
    shop: ToyShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sentence tells it from one that does not load."""
    monkeypatch.setattr(trial, "ANSWER_S", 1.0)
    one, silent = shop.first(1), shop.add(2)
    hangs_at_a_question(shop.repository, silent)
    began = time.monotonic()
    with pytest.raises(NotPromoted, match="it does not answer a golden request within 1 s"):
        promote(shop.repository, silent, shop.control)
    assert time.monotonic() - began < 90
    assert shop.mistakes(one) == []


def test_a_release_that_answers_later_than_shops_wait_is_refused(shop: ToyShop) -> None:
    one, slow = shop.first(1), shop.add(2)
    answers_late(shop.repository, slow)
    with pytest.raises(NotPromoted, match=r"a golden request takes 2\.\d s, and shops wait 2 s"):
        promote(shop.repository, slow, shop.control)
    assert shop.mistakes(one) == []


def test_a_release_that_finds_no_memory_for_its_trial_is_refused(
    shop: ToyShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sentence has what it takes, what there is, and the setting that skips the trial."""
    one, two = shop.first(1), shop.add(2)
    monkeypatch.setattr(trial, "available_memory", lambda: Memory(100 * 2**20, "the machine"))
    with pytest.raises(
        NotPromoted,
        match=r'"trial" failed: .* 42\d MiB, and the machine leaves 100 MiB; .* CESTA_RELEASE_TRIAL=skip',
    ):
        promote(shop.repository, two, shop.control)
    assert shop.mistakes(one) == []


def test_a_machine_without_a_serving_environment_loads_without_a_trial(
    shop: ToyShop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The record says why. A release that does not load leaves the old one serving all the same."""
    one = shop.first(1)
    monkeypatch.setenv("CESTA_SERVING_ENV", str(tmp_path / "nowhere"))
    broken, two = shop.add(2), shop.add(3)
    raises_in_initialize(shop.repository, broken)
    with pytest.raises(NotPromoted, match=f'step "load {SAMPLER}" failed: .*no such table'):
        promote(shop.repository, broken, shop.control)
    assert shop.mistakes(one) == []
    assert "no tritonserver" in promote(shop.repository, two, shop.control)["untried"]
    assert shop.mistakes(two) == []
