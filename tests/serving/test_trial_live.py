"""Releases that do not load, under traffic: a second server finds out, and no shopper notices."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import tritonclient.grpc
import tritonclient.http

from operations.errors import NotPromoted
from operations.records.contract import SAMPLER, SCORER
from operations.releases import trial
from operations.releases.promote import promote, roll_back
from operations.server.memory import Memory
from tests.building.broken_releases import KINDS, hangs_at_load, raises_in_initialize
from tests.running.processes import children
from tests.running.shoppers import Shopper, keep_asking, wait_for_answers
from tests.running.toy_shop import ToyShop

pytestmark = [pytest.mark.triton, pytest.mark.timeout(300)]

ROLLBACK_S = 1.0


@pytest.mark.alone
def test_promotions_that_fail_in_all_ways_cost_no_request(shop: ToyShop) -> None:
    """A sampler raises, exits, crashes or lacks data, a scorer has no such operator, a golden answer differs.
    The serving process never sees these releases, and after each a rollback takes less than a second.
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


def test_a_load_without_an_end_is_given_up(shop: ToyShop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the second server is left."""
    monkeypatch.setattr(trial, "LOAD_S", 2.0)
    one = shop.first(1)
    hanging = shop.add(2)
    hangs_at_load(shop.repository, hanging)
    with pytest.raises(NotPromoted, match="neither loads nor fails within the time for its size"):
        promote(shop.repository, hanging, shop.control)
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
