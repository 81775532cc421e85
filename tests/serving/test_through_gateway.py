"""The built release behind the gateway: the real sampler's sentences reach a shop."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator

import pytest

from cesta_client import InvalidRequest, Recommender
from operations.gateway.traffic import Counts, read_traffic
from operations.releases.stores.store import open_repository
from tests.running import needs
from tests.running.door import Door, open_door
from tests.running.gateway_log import wait_for
from tests.running.live import Live

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
    "an unknown category": ({"categories": ["x"]}, 'unknown category "x"; use a value of a category'),
}


@pytest.mark.parametrize("case", REFUSED)
def test_the_sampler_s_own_sentence_reaches_the_shop(door: Door, case: str) -> None:
    """Triton's words around it are removed; in a batch it has the place of the query."""
    query, sentence = REFUSED[case]
    answer = door.ask("/v1/recommend", query)
    assert answer.status == 400
    assert answer.error.startswith(sentence)

    answer = door.ask("/v1/recommend/batch", {"queries": [{}, query]})
    assert answer.status == 400
    assert answer.error.startswith(f"queries[1]: {sentence}")


@pytest.mark.parametrize("wire", ["grpc", "http"])
def test_the_sentence_reaches_the_client_letter_by_letter(door: Door, wire: str) -> None:
    """gRPC carries it escaped."""
    address = door.settings.grpc if wire == "grpc" else door.settings.http
    client = Recommender(address, protocol=wire, api_key=door.keys["shop"], timeout_s=5)
    with client as shop, pytest.raises(InvalidRequest, match=r'^unknown category "Käse 100%"; use a value'):
        shop.recommend(["1"], categories=["Käse 100%"])


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
