"""The built release behind the gateway: the real sampler's sentences reach a shop."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator

import grpc
import pytest
from tritonclient.grpc import service_pb2_grpc

from cesta_client import Recommender
from operations.gateway.traffic import Counts, read_traffic
from operations.releases.stores.store import open_repository
from tests.running import needs
from tests.running.door import Door, open_door
from tests.running.gateway_log import wait_for
from tests.running.live import Live
from tests.running.raw_requests import one_query

pytestmark = pytest.mark.triton


@pytest.fixture(scope="module")
def door(live: Live, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with needs.debian_packages():
        door = open_door(tmp_path_factory.mktemp("gateway"), triton_http=live.http)
    yield door
    door.gateway.stop()


REFUSED = {
    "201 items": ({"basket": [str(n) for n in range(201)]}, "basket has 201 items; at most 200 are allowed"),
    "1001 excludes": ({"exclude": [str(n) for n in range(1001)]}, "exclude has 1001 ids; at most 1000 are"),
    "a long id": ({"basket": ["x" * 129]}, "basket holds an id of 129 bytes; at most 128 are allowed: "),
    "a long user": ({"user_id": "y" * 129}, "user_id holds an id of 129 bytes; at most 128 are allowed: "),
}


@pytest.mark.parametrize("case", REFUSED)
def test_the_sampler_s_own_sentence_reaches_the_shop(door: Door, case: str) -> None:
    """Triton's words around it are removed. In a batch the other query is answered."""
    query, sentence = REFUSED[case]
    answer = door.ask("/v1/recommend", query)
    assert answer.status == 400
    assert answer.error.startswith(sentence)

    answer = door.ask("/v1/recommend/batch", {"queries": [{}, query]})
    good, bad = answer.body["answers"]
    assert good["items"]
    assert (
        bad["problem"]["status"],
        bad["problem"]["detail"].removeprefix("queries[1]: ")[: len(sentence)],
    ) == (400, sentence)


def test_an_unknown_category_is_a_warning(door: Door, live: Live) -> None:
    """The answer names it, with its place in a batch. Other answers have no warnings."""
    query = {"categories": ['Käse 100% "x"']}
    told = door.ask("/v1/recommend", query).body
    assert told["items"] == []
    assert told["warnings"] == [
        {
            "code": "unknown_category",
            "value": 'Käse 100% "x"',
            "pointer": "/categories",
            "detail": f'release {live.release} has no category "Käse 100% "x""; it matches nothing',
        }
    ]
    batch = door.ask("/v1/recommend/batch", {"queries": [{"k": 1}, query]}).body["answers"]
    assert "warnings" not in batch[0]
    assert batch[1]["warnings"][0]["pointer"] == "/queries/1/categories"


@pytest.mark.parametrize("wire", ["grpc", "http"])
def test_the_sentence_reaches_the_client_letter_by_letter(door: Door, wire: str) -> None:
    """gRPC carries it escaped. A warning comes whole, too."""
    address = door.settings.grpc if wire == "grpc" else door.settings.http
    with Recommender(address, protocol=wire, api_key=door.keys["shop"], timeout_s=30) as shop:
        answer = shop.recommend(["1"], categories=["Käse 100%"])
        assert [(warning.code, warning.value) for warning in answer.warnings] == [
            ("unknown_category", "Käse 100%")
        ]
    key = {"authorization": f"Bearer {door.keys['shop']}"}
    if wire == "grpc":
        with grpc.insecure_channel(address) as channel:
            ask = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
            with pytest.raises(grpc.RpcError) as refused:
                ask(one_query({"basket": ["Käse 100%".encode() * 20]}), metadata=(*key.items(),), timeout=30)
        assert refused.value.details().startswith("basket holds an id of 200 bytes; at most 128 are allowed")
        trailers = dict(refused.value.trailing_metadata())
        assert (trailers["cesta-code"], trailers["cesta-pointer"]) == ("id_too_long", "/basket")


def test_an_id_that_fills_the_body_is_refused_by_the_sampler(door: Door) -> None:
    """The bytes that the gateway adds on the way to Triton do not make the request too large."""
    body = b'{"basket": ["' + b"x" * (65536 - 16) + b'"]}'
    assert len(body) == 65536
    answer = door.ask("/v1/recommend", body)
    assert answer.status == 400
    assert answer.error.startswith("basket holds an id of 65520 bytes; at most 128 are allowed")


def test_a_household_s_basket_is_answered_as_by_triton_itself(door: Door, live: Live) -> None:
    from tests.running.questions import Question, over_generate

    basket = tuple(live.item_ids[:3])
    answer = door.ask("/v1/recommend", {"basket": basket, "user_id": live.user_ids[0], "k": 20})
    direct = over_generate(live, [Question(basket, live.user_ids[0])])

    assert [item["item_id"] for item in answer.body["items"]] == direct.item_ids[0].tolist()
    assert answer.body["release"] == live.release


def test_the_catalog_has_every_item_s_name(door: Door, live: Live) -> None:
    """The names are those that etl read. A second request finds the catalog unchanged."""
    write = [sys.executable, "-m", "operations.gateway.items", "data", door.settings.folder.absolute()]
    done = subprocess.run(write, cwd=live.built.root, check=True, capture_output=True, text=True)
    answer = door.ask("/v1/items")

    assert len(answer.body["items"]) == live.built.shop.n_items - 1
    assert done.stdout == f"{len(answer.body['items'])} items\n"
    assert answer.body["items"][live.item_ids[0]]["name"]
    assert door.ask("/v1/items", headers={"If-None-Match": answer.headers["etag"]}).status == 304


def test_the_supervisor_counts_a_release_s_requests_and_items(door: Door, live: Live) -> None:
    """The gateway's counts and the sampler's, by release: what a retraining compares."""
    repository = open_repository(live.built.root / "repository")

    def counts() -> Counts:
        found = read_traffic(repository, door.settings.folder, live.metrics, 0)["counts"]
        assert found
        return found

    def items(found: Counts, name: str) -> float:
        return found[name].get(str(live.release), 0)

    def known(found: Counts) -> float:
        return items(found, "items") - items(found, "unknown")

    before = counts()
    basket = [live.item_ids[7], "an item of another shop", uuid.uuid4().hex]
    assert door.ask("/v1/recommend", {"basket": basket}).status == 200
    wait_for(lambda: "counted" if known(counts()) > known(before) else "")
    after = counts()
    assert after["answered"]["recommender"] == before["answered"].get("recommender", 0) + 1
    assert items(after, "timed") == items(before, "timed") + 1
    assert items(after, "unknown") >= items(before, "unknown") + 2  # the server's start asks, too
