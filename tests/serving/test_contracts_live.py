"""A release that commit 85684cf published, on a real server beside releases of a newer contract."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http

from loadtests.faults.broken_releases import rewrite_manifest
from operations.errors import NotPromoted
from operations.records.contract import ENSEMBLE, SAMPLER
from operations.records.golden_answers import Request, answer_of, difference
from operations.releases.canary import start_canary, stop_canary
from operations.releases.golden import request_tensors
from operations.releases.model_control import ModelControl
from operations.releases.models.configs import CANARY, PARTS
from operations.releases.models.placing import models_of
from operations.releases.promote import promote, roll_back
from operations.releases.repository import read_release, releases
from operations.releases.signatures.verify import verify_release
from operations.server.process import Server
from tests.building.newer_contract import NO_HINT, SIZES, newer_contract, newer_sampler
from tests.building.old_releases import unpack_old_repository
from tests.running.shoppers import Shopper, keep_asking, wait_for_answers
from tests.running.supervised import Supervised
from tests.running.toy_shop import BASKETS, ToyShop

pytestmark = [pytest.mark.triton, pytest.mark.timeout(240)]

OLD = 1
NO_GATE = {"force": True}  # the newer releases were not measured


@pytest.fixture
def shop(
    tmp_path: Path, start_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch, compiled: Path
) -> Iterator[ToyShop]:
    """The old repository. What is published has the newer contract. A test starts the server."""
    sampler = newer_sampler(tmp_path / "sampler")
    monkeypatch.setattr("operations.records.sampler_code.SAMPLER_CODE", sampler)
    shop = ToyShop(tmp_path, start_server)
    unpack_old_repository(Path(str(shop.repository)))
    yield shop
    with contextlib.suppress(AttributeError):
        shop.close()


def add_newer(shop: ToyShop, seed: int) -> int:
    return shop.add(seed, sizes=SIZES, contract=newer_contract())


def wrong_golden_answers(shop: ToyShop, front: str = ENSEMBLE) -> list[str]:
    """What an ensemble answers otherwise than the old release's manifest says."""
    problems = []
    for pair in read_release(shop.repository, OLD).golden:
        version, tensors = shop.control.ask(front, request_tensors(pair.request))
        assert tensors.keys() == {"item_ids", "scores", "reasons"}
        if version != OLD or (problem := difference(answer_of(tensors), pair.answer)):
            problems.append(f"{pair.request}: release {version}, {problem}")
    return problems


def echo(shop: ToyShop, front: str = ENSEMBLE, **inputs: bytes) -> bytes:
    """The newer contract's output that repeats its input `hint`."""
    tensors = request_tensors(Request(basket=("i1",)))
    added = {name: np.array([[value]], object) for name, value in inputs.items()}
    _, answer = shop.control.ask(front, tensors | added)
    return bytes(answer["echo"][0, 0])


def parts_of(shop: ToyShop, *numbers: int) -> dict[str, set[int]]:
    """The models that must be loaded with the parts of these releases, all of different contracts."""
    described = [read_release(shop.repository, number) for number in numbers]
    return {models_of(one)[part]: {one.release} for one in described for part in PARTS}


def test_old_and_newer_releases_take_turns_under_traffic(shop: ToyShop) -> None:
    """Promotions, rollbacks and canary releases in both directions: no request fails, and every answer is
    that of the release whose number it has. -s prints the switch times.
    """
    newer = add_newer(shop, 2)
    assert releases(shop.repository) == [OLD, newer]
    for release in (OLD, newer):
        assert verify_release(shop.repository, release).release == release
    shop.server.wait_ready(shop.active)
    assert wrong_golden_answers(shop) == []
    expected = {OLD: [ask(shop, basket) for basket in BASKETS], newer: shop.expected(newer)}
    wires = [(tritonclient.http, shop.server.http), (tritonclient.grpc, shop.server.grpc)]
    shoppers = [Shopper(*wires[n % 2], expected) for n in range(4)]
    switches = []
    with keep_asking(shoppers):
        for _ in range(5):
            switches.append(promote(shop.repository, newer, shop.control, **NO_GATE))
            wait_for_answers(shoppers)
            assert echo(shop, hint=b"a") == b"a"
            assert echo(shop) == NO_HINT
            switches.append(roll_back(shop.repository, shop.control))
            wait_for_answers(shoppers)
            assert wrong_golden_answers(shop) == []
        start_canary(shop.repository, newer, 20, shop.control, **NO_GATE)
        assert shop.mistakes(newer, CANARY) == []
        stop_canary(shop.repository, newer, shop.control)
        promote(shop.repository, newer, shop.control, **NO_GATE)
        start_canary(shop.repository, OLD, 20, shop.control)
        assert wrong_golden_answers(shop, CANARY) == []
        wait_for_answers(shoppers)
    print("switches, ms:", sorted(round(1000 * record["seconds"]["switch"]) for record in switches))
    assert [mistake for shopper in shoppers for mistake in shopper.mistakes] == []
    assert all(shopper.versions == {OLD, newer} for shopper in shoppers)
    assert shop.control.ready_parts() == parts_of(shop, OLD, newer)
    assert shop.is_ready()


def sampled(shop: ToyShop) -> int:
    """Requests that the old sampler has answered since it was loaded. Triton starts at 0 when it reloads."""
    with tritonclient.grpc.InferenceServerClient(shop.server.grpc) as client:
        (counts,) = client.get_inference_statistics(SAMPLER, str(OLD)).model_stats
    return int(counts.inference_stats.success.count)


def ask(shop: ToyShop, basket: tuple[str, ...]) -> object:
    return answer_of(shop.control.ask(ENSEMBLE, request_tensors(Request(basket=basket)))[1])


def test_a_contract_s_first_release_that_does_not_load_is_refused(shop: ToyShop) -> None:
    """The old release answers all the while and is not reloaded. The contract's next release is promoted."""
    broken, good = add_newer(shop, 2), add_newer(shop, 3)
    described = read_release(shop.repository, broken)
    name = f"{models_of(described)[SAMPLER]}/{broken}/model.py"
    (shop.repository / name).unlink()
    (shop.repository / name).write_text('raise RuntimeError("no such table")\n')
    folder = name.rpartition("/")[0]
    rewrite_manifest(shop.repository, broken, files={**described.files, **shop.repository.describe(folder)})
    shop.server.wait_ready(shop.active)
    assert wrong_golden_answers(shop) == []
    before = sampled(shop)

    with pytest.raises(NotPromoted, match=r'step "trial" failed: .*no such table') as caught:
        promote(shop.repository, broken, shop.control, **NO_GATE)
    assert "undoing" not in str(caught.value)
    assert shop.control.ready_parts() == parts_of(shop, OLD)
    assert shop.is_ready()
    assert wrong_golden_answers(shop) == []
    verify_release(shop.repository, broken)

    promote(shop.repository, good, shop.control, **NO_GATE)
    assert shop.mistakes(good) == []
    roll_back(shop.repository, shop.control)
    assert wrong_golden_answers(shop) == []
    assert sampled(shop) > before > 0


@pytest.mark.parametrize("old_is_active", [True, False])
def test_a_supervised_server_starts_on_either_and_loads_both(shop: ToyShop, old_is_active: bool) -> None:
    """At the first start, and again when the server is killed. The other release is loaded for a rollback."""
    newer = add_newer(shop, 2)
    promote(shop.repository, newer, **NO_GATE)
    if old_is_active:
        roll_back(shop.repository)
    active = OLD if old_is_active else newer
    supervised = Supervised(Path(str(shop.repository)))
    try:
        shop.control = ModelControl(supervised.addresses["grpc"])
        for killed in (False, True):
            if killed:
                os.kill(supervised.triton, signal.SIGKILL)
                assert supervised.event("server restored")["release"] == active
            assert supervised.event("all loaded")["releases"] == [OLD, newer]
            assert shop.active() == active
            assert shop.control.ready_parts() == parts_of(shop, OLD, newer)
            assert (wrong_golden_answers(shop) if old_is_active else shop.mistakes(newer)) == []
        record = promote(shop.repository, newer, shop.control, **NO_GATE) if old_is_active else None
        record = record or roll_back(shop.repository, shop.control)
        assert not [step for step in record["seconds"] if step.startswith("load")]
        assert (shop.mistakes(newer) if old_is_active else wrong_golden_answers(shop)) == []
    finally:
        shop.control.close()
        supervised.kill()
