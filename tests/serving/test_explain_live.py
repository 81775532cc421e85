"""`POST /v1/explain` through a gateway tells about the answers of the Triton behind it."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import cesta_client
from cesta_client import AsyncRecommender, Recommender
from operations.gateway.control import announce
from operations.gateway.keys import add_key
from tests.building.slices import Built
from tests.running import needs
from tests.running.door import Door, open_door
from tests.running.supervised import Supervised

pytestmark = [pytest.mark.triton, pytest.mark.timeout(300)]

K = 5


@pytest.fixture(scope="module")
def door(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """A supervised server on a copy of the built release, behind a gateway."""
    folder, repository = tmp_path_factory.mktemp("gateway"), tmp_path_factory.mktemp("served") / "repository"
    shutil.copytree(built.repository, repository)
    supervised = Supervised(repository, f"--gateway={folder}")
    try:
        addresses = supervised.addresses
        with needs.debian_packages():
            door = open_door(
                folder, triton_http=addresses["http"], supervisor=addresses["supervisor"], workers=1
            )
        door.keys["stock"] = add_key(folder, "stock", "stock", 100)
        door.keys["desk"] = add_key(folder, "desk", "explain", 100)
        assert announce(folder)
        yield door
        door.gateway.stop()
    finally:
        supervised.end()


@pytest.fixture(scope="module")
def questions(built: Built) -> list[dict[str, Any]]:
    """Three customers' last baskets, alone, with a filter, and with excluded items."""
    shop, found = built.shop, []
    for number in (100, 2000, 5000):
        basket = list(shop.catalog["item_id"].iloc[shop.basket(number)][:20])
        found.append({"basket": basket, "user_id": shop.user_ids[shop.users[number]]})
    category = str(shop.catalog[shop.category_columns[1]].iloc[shop.basket(2000)[0]])
    found[1] |= {"categories": [category]}
    found[2] |= {"exclude": found[2]["basket"][:3]}
    return found


def explain(door: Door, body: dict[str, Any], key: str = "desk") -> Any:
    """Ask with the time that the first explanation takes."""
    with Recommender(door.settings.http, protocol="http", api_key=door.keys[key], timeout_s=120) as shop:
        return shop.explain(**body, timeout_s=120)


def test_the_parts_add_up_to_the_scores_that_the_gateway_serves(
    door: Door, questions: list[dict[str, Any]]
) -> None:
    for question in questions:
        served = door.ask("/v1/recommend", question | {"k": K}).body
        told = explain(door, question | {"k": K})
        assert told["release"] == served["release"]
        assert len(told["items"]) == len(served["items"]) > 0
        for one, item in zip(told["items"], served["items"], strict=True):
            parts = told["baseline"]["score"] + sum(part["total"] for part in one["groups"])
            assert (one["item_id"], parts) == (item["item_id"], pytest.approx(item["score"], abs=1e-5))
            assert sorted(one["sources"]) == sorted(item["reasons"])


def test_every_stage_is_told(door: Door, built: Built, questions: list[dict[str, Any]]) -> None:
    """The shop's items are asked about until each of the later stages was seen."""
    item_ids = built.shop.catalog["item_id"].tolist()[1:]  # row 0 is the unknown item
    early = {
        "unknown": explain(door, {"item_ids": ["nothing"]}),
        "in_basket": explain(door, {"basket": item_ids[:1], "item_ids": item_ids[:1]}),
        "excluded": explain(door, {"exclude": item_ids[:1], "item_ids": item_ids[:1]}),
    }
    for stage, told in early.items():
        assert [other["stage"] for other in told["others"]] == [stage]
    later, seen = {"other_category", "not_proposed", "cut", "ranked"}, set()
    for n in range(0, len(item_ids), 20):
        for question in questions[1:]:
            others = explain(door, question | {"item_ids": item_ids[n : n + 20]})["others"]
            seen |= {other["stage"] for other in others}
        if seen >= later:
            break
    assert seen >= later


def test_what_a_question_rules_out_has_stages_of_its_own(
    door: Door, built: Built, questions: list[dict[str, Any]]
) -> None:
    """A listed item is scored with the score that is served; a history replaces the customer's."""
    shop = built.shop.catalog
    item_id, category = (str(shop[name].iloc[7]) for name in ("item_id", built.shop.category_columns[1]))
    other = str(shop["item_id"].iloc[8])
    told = explain(door, {"exclude_categories": [category], "item_ids": [item_id]})
    assert told["others"][0]["stage"] == "excluded_category"

    listed = questions[0] | {"items": [item_id]}
    told = explain(door, listed | {"history": [(item_id, 3.0)], "k": 1, "item_ids": [other]})
    assert told["others"][0]["stage"] == "not_listed"
    history = {"history": [item_id], "history_ages": [3.0], "k": 1}
    (one,), (served,) = told["items"], door.ask("/v1/recommend", listed | history).body["items"]
    assert (one["item_id"], one["score"]) == (item_id, pytest.approx(served["score"], abs=1e-5))
    bought = {feature["feature"]: feature for group in one["groups"] for feature in group["features"]}
    assert bought["user_count"]["contributor"]["days_ago"] == 3


def test_what_is_not_in_stock_is_told(door: Door, questions: list[dict[str, Any]]) -> None:
    """The answer without the item is explained, with the scores that are served."""
    question = questions[0] | {"k": K}
    gone = explain(door, question)["items"][0]["item_id"]
    body = {"items": [{"item_id": gone, "available": False}]}
    assert door.ask("/v1/availability", body, key="stock", method="PUT").status == 200
    told = explain(door, question | {"item_ids": [gone]})
    assert told["others"][0]["stage"] == "not_in_stock"
    served = door.ask("/v1/recommend", question).body["items"]
    expected = [(item["item_id"], pytest.approx(item["score"], abs=1e-5)) for item in served]
    assert [(one["item_id"], one["score"]) for one in told["items"]] == expected


def test_only_the_roles_admin_and_explain_may_ask(door: Door) -> None:
    assert door.ask("/v1/explain", {}, key="shop").status == 403
    assert door.ask("/v1/explain", {}, key=None).status == 401
    assert door.ask("/v1/recommend", {}, key="desk").status == 403
    assert explain(door, {"k": 1}, "admin")["items"]


def test_the_samplers_refusal_reaches_the_caller(door: Door) -> None:
    answer = door.ask("/v1/explain", {"basket": ["x" * 129]}, key="desk")
    assert (answer.status, answer.body["code"]) == (400, "invalid_body")
    assert answer.error.startswith("basket holds an id of 129 bytes; at most 128 are allowed")


def test_asyncio_asks_it_too_and_grpc_does_not(door: Door, questions: list[dict[str, Any]]) -> None:
    async def ask() -> Any:
        key = door.keys["desk"]
        async with AsyncRecommender(door.settings.http, protocol="http", api_key=key) as shop:
            return await shop.explain(**questions[0], k=1)

    told, again = asyncio.run(ask()), explain(door, questions[0] | {"k": 1})
    assert told["items"] == again["items"]
    with (
        Recommender(door.settings.grpc, api_key=door.keys["desk"]) as shop,
        pytest.raises(cesta_client.InvalidRequest, match='protocol="http"'),
    ):
        shop.explain(k=1)


def test_the_command_asks_a_gateway(door: Door, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(door.keys["desk"])
    words = ["explain", "--k=1", "--item=nothing", "--json", f"--gateway={door.settings.http}"]
    done = subprocess.run(
        [sys.executable, "-m", "operations.cli", *words, f"--key-file={key}"],
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout)
    assert [len(told["items"]), told["others"][0]["stage"]] == [1, "unknown"]
