"""The split between active release and canary: which sessions get which, over every protocol."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
import tritonclient.grpc
import tritonclient.http

from cesta_client import Query, Recommender
from operations.gateway.control import announce, read_metrics
from operations.gateway.split import write_split
from operations.server.process import Server
from tests.running.door import TIMEOUT_S, Door, OpenDoor, release_of
from tests.running.fake_triton import FakeTriton
from tests.running.gateway_log import read_log_line, wait_for

pytestmark = pytest.mark.triton


@pytest.fixture
def split(own_door: Door) -> Iterator[Callable[[float], None]]:
    """`split(30)` sends 30 % of the sessions to the canary from now on."""

    def apply(percent: float) -> None:
        write_split(own_door.settings.folder, percent)
        assert announce(own_door.settings.folder)

    yield apply
    apply(0)


def releases(door: Door, sessions: int) -> list[int]:
    return [
        door.recommend("i1", headers={"X-Session-Id": f"customer-{n}"}).body["release"]
        for n in range(sessions)
    ]


def test_a_share_of_the_customers_meets_the_canary_and_stays_with_it(own_door: Door, split: Callable) -> None:
    """Release 1 is the canary. A larger share moves some customers to it and none back."""
    assert set(releases(own_door, 20)) == {2}
    split(30)
    first = releases(own_door, 100)
    assert releases(own_door, 100) == first
    assert 15 <= first.count(1) <= 45
    without = {own_door.recommend("i1", headers={"X-Session-Id": ""}).body["release"] for _ in range(60)}
    assert without == {1, 2}  # each request by itself
    split(60)
    second = releases(own_door, 100)
    assert all(after == 1 for before, after in zip(first, second, strict=True) if before == 1)
    assert second.count(1) > first.count(1)
    split(100)
    assert set(releases(own_door, 20)) == {1}

    answer = own_door.recommend("i1", headers={"X-Request-Id": "to-the-canary"})
    line = read_log_line(own_door, "to-the-canary")
    assert (line["release"], line["model"]) == (str(answer.body["release"]), "recommender_canary")


@pytest.mark.parametrize("wire", ["grpc", "http"])
def test_the_client_s_requests_are_split_like_the_shop_s_json(
    own_door: Door, split: Callable, wire: str
) -> None:
    """Equal session ids get the same release over each protocol; the log has release and model of each."""
    split(50)
    expected = releases(own_door, 30)
    assert set(expected) == {1, 2}
    address = own_door.settings.grpc if wire == "grpc" else own_door.settings.http
    with Recommender(address, protocol=wire, api_key=own_door.keys["shop"], timeout_s=TIMEOUT_S) as shop:
        answers = [shop.recommend(["i1"], session_id=f"customer-{n}") for n in range(30)]
    assert [answer.release for answer in answers] == expected
    for n in (expected.index(1), expected.index(2)):
        release_of(own_door, wire, f"customer-{n}", f"{wire}-{n}")
        line = read_log_line(own_door, f"{wire}-{n}")
        model = "recommender_canary" if expected[n] == 1 else "recommender"
        assert (line["release"], line["model"]) == (str(expected[n]), model)


@pytest.mark.parametrize("wire", ["grpc", "http"])
def test_many_queries_of_one_request_are_of_one_release(own_door: Door, split: Callable, wire: str) -> None:
    split(100)
    address = own_door.settings.grpc if wire == "grpc" else own_door.settings.http
    with Recommender(address, protocol=wire, api_key=own_door.keys["shop"], timeout_s=TIMEOUT_S) as shop:
        answers = shop.recommend_many([Query([f"i{n}"], "900", k=20) for n in range(64)])
    assert [answer.release for answer in answers] == [1] * 64
    assert [i.item_id for i in answers[5]] == [
        i["item_id"] for i in own_door.ask("/v1/recommend", {"basket": ["i5"], "k": 20}).body["items"]
    ]


def test_a_canary_that_is_not_loaded_costs_nobody_an_answer(
    own_door: Door, split: Callable, triton: Server
) -> None:
    """Every protocol gets an answer, and the log names the model that gave it."""
    with tritonclient.grpc.InferenceServerClient(triton.grpc) as client:
        client.unload_model("recommender_canary")
        try:
            split(100)
            wait_for(lambda: "" if client.is_model_ready("recommender_canary") else "unloaded")
            assert set(releases(own_door, 5)) == {2}
            for wire in ("grpc", "http"):
                assert release_of(own_door, wire, "anyone", f"no-canary-{wire}") == 2
                assert read_log_line(own_door, f"no-canary-{wire}")["model"] == "recommender"
        finally:
            client.load_model("recommender_canary")


@pytest.mark.parametrize(
    "broken",
    [
        (500, b'{"error": "Stub process \'candidate_sampler_2_0\' is not healthy."}'),
        (503, b'{"error": "model is not ready"}'),
        (400, b'{"error": "unexpected deadlock"}'),
        (500, b""),
    ],
)
def test_a_canary_whose_process_has_died_costs_nobody_an_answer(
    open_gateway: OpenDoor, fake: FakeTriton, broken: tuple[int, bytes]
) -> None:
    """The active release answers. The failure is counted and logged, so that the alert fires."""
    door = open_gateway(triton_http=fake.address, workers=1)
    write_split(door.settings.folder, 100)
    assert announce(door.settings.folder)
    fake.broken_canary = broken
    for number, ask in enumerate(
        (lambda: door.recommend("i1", headers={"X-Request-Id": "once"}).body["release"], _ask_grpc(door))
    ):
        assert int(ask()) == 1
        assert [asked.model for asked in fake.asked] == ["recommender_canary", "recommender"] * (number + 1)
    line = read_log_line(door, "once")
    assert line["trouble"].startswith(f"the canary release answers {broken[0]}")
    assert "\ncesta_gateway_canary_failures_total 2\n" in (read_metrics(door.settings.folder) or "")


def test_a_canary_that_hangs_leaves_time_for_the_active_release(
    open_gateway: OpenDoor, fake: FakeTriton
) -> None:
    """Triton needs seconds to notice that a process has died. The caller waits two, as ever."""
    door = open_gateway(triton_http=fake.address, workers=1, as_deployed=True)
    write_split(door.settings.folder, 100)
    assert announce(door.settings.folder)
    fake.canary_delay_s, began = 10.0, time.monotonic()
    assert door.recommend("i1").status == 200
    assert time.monotonic() - began < 9


def test_what_a_canary_refuses_is_refused(open_gateway: OpenDoor, fake: FakeTriton) -> None:
    """The caller is to blame, and the active release is not asked the same."""
    door = open_gateway(triton_http=fake.address, workers=1)
    write_split(door.settings.folder, 100)
    assert announce(door.settings.folder)
    fake.broken_canary = 400, b'{"error": "in ensemble \'recommender_canary\', unknown category \\"x\\""}'
    assert (door.recommend("i1").status, len(fake.asked)) == (400, 1)


def _ask_grpc(door: Door) -> Callable[[], int]:
    return lambda: release_of(door, "grpc", "anyone")
