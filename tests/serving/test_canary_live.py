"""A canary release on a real server: beside the active one, measured apart, ended by promotion."""

from __future__ import annotations

import re
import urllib.request

import pytest

from operations.errors import NotPromoted
from operations.releases.canary import start_canary, stop_canary
from operations.releases.models.configs import CANARY, PARTS
from operations.releases.promote import promote
from tests.running.toy_shop import BASKETS, ToyShop

pytestmark = [pytest.mark.triton, pytest.mark.timeout(180)]


def scored(shop: ToyShop) -> dict[int, int]:
    """Release → answers that its scorer computed, as Triton's metrics count them."""
    with urllib.request.urlopen(f"http://{shop.server.metrics}/metrics") as page:
        text = page.read().decode()
    counts = re.findall(r'nv_inference_request_success{model="ncf_scorer",version="(\d+)"} (\d+)', text)
    return {int(release): int(count) for release, count in counts}


def test_a_canary_release_from_start_to_promotion(shop: ToyShop) -> None:
    """Both releases answer with their own items and are counted apart. A restart brings both back; another
    percentage changes nothing in the server; promotion ends the canary.
    """
    one = shop.first(1)
    two = shop.add(2)
    start_canary(shop.repository, two, 5, shop.control)
    assert shop.mistakes(one) == []
    assert shop.mistakes(two, CANARY) == []
    counted = scored(shop)
    assert counted[one] >= len(BASKETS)
    assert counted[two] >= len(BASKETS)
    record = start_canary(shop.repository, two, 20, shop.control)
    assert not [step for step in record["seconds"] if step.startswith("load")]

    shop.restart()
    assert shop.mistakes(one) == []
    assert shop.mistakes(two, CANARY) == []

    promote(shop.repository, two, shop.control)
    assert shop.mistakes(two) == []
    assert shop.control.ready(CANARY) == set()
    assert all(shop.control.ready(part) == {one, two} for part in PARTS)
    assert shop.is_ready()


def test_ending_a_canary_release_leaves_the_active_one(shop: ToyShop) -> None:
    """No part of the canary release stays loaded."""
    one, two = shop.first(1), shop.add(2)
    start_canary(shop.repository, two, 5, shop.control)
    stop_canary(shop.repository, two, shop.control)
    assert shop.control.ready(CANARY) == set()
    for part in PARTS:
        shop.control.wait_unloaded(part, two)
        assert shop.control.ready(part) == {one}
    assert shop.mistakes(one) == []
    assert shop.is_ready()


def test_a_canary_release_that_fails_changes_nothing(shop: ToyShop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The earlier canary stays, or none if there was none; the active release answers throughout."""

    def wrong(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "x")

    one, two, three = shop.first(1), shop.add(2), shop.add(3)
    with monkeypatch.context() as patch:
        patch.setattr("operations.releases.switch.check_canary", wrong)
        sentence = r'release 2 did not become the canary release.*step "canary"'
        with pytest.raises(NotPromoted, match=sentence) as e:
            start_canary(shop.repository, two, 5, shop.control)
    assert "undoing" not in str(e.value)
    assert shop.control.ready(CANARY) == set()
    assert not list((shop.repository / CANARY).glob("*"))
    assert all(shop.control.ready(part) == {one} for part in PARTS)
    start_canary(shop.repository, two, 5, shop.control)
    with monkeypatch.context() as patch:
        patch.setattr("operations.releases.switch.check_canary", wrong)
        with pytest.raises(NotPromoted, match='step "canary"') as e:
            start_canary(shop.repository, three, 5, shop.control)
        with pytest.raises(NotPromoted, match='step "canary"'):
            promote(shop.repository, three, shop.control)
    assert "undoing" not in str(e.value)
    assert shop.mistakes(two, CANARY) == []
    assert shop.mistakes(one) == []
    assert shop.is_ready()
