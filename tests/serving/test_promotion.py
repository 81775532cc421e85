"""Promotion, rollback and retirement on a real server."""

from __future__ import annotations

import pytest

from loadtests.faults.broken_releases import Spoil, another_score, breaks_the_scorer, raises_at_load
from operations.errors import NotPromoted
from operations.records.contract import SAMPLER, SCORER
from operations.releases import history, publish
from operations.releases.model_control import ModelControl
from operations.releases.promote import promote, roll_back
from operations.releases.repository import active_release, releases
from operations.releases.retire import retire
from operations.releases.signatures.verify import verify_release
from tests.running.toy_shop import ToyShop

pytestmark = [pytest.mark.triton, pytest.mark.timeout(180)]

PARTS = (SAMPLER, SCORER)


def test_a_release_from_promotion_to_retirement(shop: ToyShop) -> None:
    """A release is promoted, rolled back and promoted again, and the oldest one retired. Each step has the
    right answers and versions, also from the cache, and the active release survives the server.
    """
    one = shop.first(1)
    assert shop.mistakes(one) == []
    two, three = shop.add(2), shop.add(3)
    assert shop.active() == one  # publishing changes nothing

    assert promote(shop.repository, two, shop.control)["before"] == one
    assert shop.mistakes(two) == []
    record = roll_back(shop.repository, shop.control)
    assert (record["release"], record["before"]) == (one, two)
    assert "load candidate_sampler" not in record["seconds"]
    assert shop.mistakes(one) == []  # those of the cache among them
    promote(shop.repository, two, shop.control)
    promote(shop.repository, three, shop.control)
    assert shop.mistakes(three) == []
    for part in PARTS:
        shop.control.wait_unloaded(part, one)
        assert shop.control.ready(part) == {two, three}

    assert retire(shop.repository, shop.control) == [one]
    assert releases(shop.repository) == [two, three]
    assert publish.next_release(shop.repository) == 4
    assert shop.is_ready()
    assert shop.mistakes(three) == []

    roll_back(shop.repository, shop.control)
    shop.server.stop(grace_s=0)
    again = shop.start(str(shop.repository))
    with ModelControl(again.grpc) as control:
        assert control.config("recommender").ensemble_scheduling.step[0].model_version == two
        assert control.ready("recommender") == {two}
        assert control.ready("candidate_sampler") == {two, three}  # newer, and still not active
    again.stop(grace_s=0)
    assert [record["what"] for record in history.read(shop.repository)] == [
        *("promote", "promote", "rollback", "promote", "promote", "retire", "rollback")
    ]


def test_whatever_fails_leaves_the_old_release_serving(
    shop: ToyShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One step fails: the trial, golden requests, the switch, the canary, or the record. The sentence names
    the step. The old release answers, Triton is ready, and no part of the new release stays loaded; on disk
    it is still whole.
    """
    one = shop.first(1)
    spoilt = shop.add(2)
    another_score(shop.repository, spoilt)
    check_refused(shop, one, spoilt, "trial", "golden request 1 has another answer .* score 3 is")
    verify_release(shop.repository, spoilt)
    good = shop.add(9)
    broken = {
        "golden requests": "check_golden",
        "write": "write_configs",
        "canary": "check_canary",
        "record": "history.append",
    }
    for step, where in broken.items():
        with monkeypatch.context() as patch:
            patch.setattr(f"operations.releases.switch.{where}", full_disk)
            check_refused(shop, one, good, step, "No space left")
    promote(shop.repository, good, shop.control)
    assert shop.mistakes(good) == []


def test_a_load_that_fails_without_a_trial_changes_nothing_either(
    shop: ToyShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operator skips trials, which the record says. The failed version stays on Triton's books, and the
    next good release is promoted.
    """
    monkeypatch.setenv("CESTA_RELEASE_TRIAL", "skip")
    one = shop.first(1)
    spoil: dict[str, Spoil] = {SAMPLER: raises_at_load, SCORER: breaks_the_scorer}
    for seed, (part, reason) in enumerate({SAMPLER: "no such table", SCORER: "NoSuchOperator"}.items(), 2):
        broken = shop.add(seed)
        spoil[part](shop.repository, broken)
        with pytest.raises(
            NotPromoted, match=f'release {one} .* step "load {part}" failed: .*{reason}'
        ) as caught:
            promote(shop.repository, broken, shop.control)
        assert "undoing" not in str(caught.value)
        assert shop.mistakes(one) == []
        assert all(shop.control.ready(part) == {one} for part in PARTS)
        assert reason in shop.control.states(part)[broken]
    record = promote(shop.repository, shop.add(9), shop.control)
    assert record["untried"] == "CESTA_RELEASE_TRIAL is skip"
    assert shop.mistakes(record["release"]) == []


def full_disk(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device", "x")


def check_refused(shop: ToyShop, active: int, release: int, step: str, reason: str) -> None:
    sentence = f'release {release} was not promoted, release {active} .* step "{step}" failed: .*{reason}'
    with pytest.raises(NotPromoted, match=sentence) as caught:
        promote(shop.repository, release, shop.control)
    assert "undoing" not in str(caught.value)
    assert active_release(shop.repository) == active
    assert shop.mistakes(active) == []
    assert shop.is_ready()
    assert all(shop.control.ready(part) == {active} for part in PARTS)
