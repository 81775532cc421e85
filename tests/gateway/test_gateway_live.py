"""The key of the live tables: a change makes every question new to Triton's cache."""

from __future__ import annotations

import pytest

from operations.gateway.live_key import tell_live_key
from tests.running.door import OpenDoor
from tests.running.fake_triton import FakeTriton

pytestmark = pytest.mark.triton


def test_questions_carry_the_key_from_the_moment_that_it_is_told(
    open_gateway: OpenDoor, fake: FakeTriton
) -> None:
    """Nothing before there is a table; each query of a batch has the newest one."""
    door = open_gateway(triton_http=fake.address)
    assert door.recommend("i1").status == 200
    assert "live" not in fake.asked[-1].ids
    for key in ("17.aa", "18.bb"):
        tell_live_key(door.settings.folder, key)
        assert door.recommend("i1").status == 200
        assert fake.asked[-1].ids["live"] == [[key.encode()]]
    answer = door.ask("/v1/recommend/batch", {"queries": [{}, {"basket": ["i1"]}]})
    assert answer.status == 200
    assert {asked.ids["live"][0][0] for asked in fake.asked[-2:]} == {b"18.bb"}


def test_a_release_without_the_input_is_asked_without_the_key(
    open_gateway: OpenDoor, fake: FakeTriton
) -> None:
    """It was made before there were live tables. The next questions do not try again at once."""
    door = open_gateway(triton_http=fake.address, workers=1)
    tell_live_key(door.settings.folder, "17.aa")
    fake.lacks = ("live",)
    assert [door.recommend("i1").status for _ in range(3)] == [200] * 3
    assert sum("live" in asked.ids for asked in fake.asked) < 3
