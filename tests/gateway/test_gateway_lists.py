"""Lists that need no basket, and several lists in one request."""

from __future__ import annotations

import json
import struct
from urllib.parse import quote

import pytest

from operations.gateway.control import TOKEN, announce
from operations.gateway.keys import add_key
from tests.running.door import Door, OpenDoor
from tests.running.fake_triton import FakeTriton

pytestmark = pytest.mark.triton


@pytest.fixture
def shop(open_gateway: OpenDoor, fake: FakeTriton) -> Door:
    return open_gateway(triton_http=fake.address, workers=1)


def test_the_question_reaches_triton_as_it_was_asked(shop: Door, fake: FakeTriton) -> None:
    """Repeated arguments are a set; the id may hold any letter, percent-encoded."""
    path = f"/v1/items/{quote('Käse/1 %', safe='')}/similar"
    answer = shop.ask(f"{path}?limit=5&category=b&category=a&category=b&exclude=i1&store=12")
    assert answer.status == 200
    assert answer.body == {
        "release": 1,
        "items": [{"item_id": "i2", "score": 1.5, "reasons": ["usual"]}],
    }
    (asked,) = fake.asked
    assert asked.model == "lists"
    assert asked.ids == {
        "kind": [[b"similar"]],
        "item": [["Käse/1 %".encode()]],
        "category": [[b"a", b"b"]],
        "store_id": [[b"12"]],
        "exclude": [[b"i1"]],
        "limit": [[struct.pack("<i", 5)]],
    }


@pytest.mark.parametrize("path", ["/v1/popular?days=28", "/v1/items/i9/together", "/v1/items/i9/substitutes"])
def test_each_kind_has_its_path(shop: Door, fake: FakeTriton, path: str) -> None:
    assert shop.ask(path).body["items"][0]["item_id"] == "i1"
    assert fake.asked[0].ids["kind"][0][0].decode() in path
    assert ("days" in fake.asked[0].ids) == ("days" in path)


def test_an_answer_that_has_not_changed_is_not_sent_again(shop: Door) -> None:
    first = shop.ask("/v1/popular")
    assert first.headers["cache-control"] == "private, no-cache"
    tag = first.headers["etag"]
    again = shop.ask("/v1/popular", headers={"If-None-Match": tag})
    assert (again.status, again.body) == (304, None)
    assert shop.ask("/v1/popular", headers={"If-None-Match": '"another"'}).status == 200
    assert shop.ask("/v1/popular?exclude=i1").headers["etag"] != tag


REFUSED = {
    "/v1/popular?limit=0": (400, "out_of_range", "limit is a whole number from 1 to 100; got 0"),
    "/v1/popular?limit=ten": (400, "wrong_form", "limit is a whole number"),
    "/v1/popular?limit=1&limit=2": (400, "wrong_form", "limit is given 2 times"),
    "/v1/popular?k=5": (400, "unknown_field", 'unknown argument "k"; known are category'),
    "/v1/items/i1/similar?days=28": (400, "unknown_field", 'unknown argument "days"'),
    "/v1/popular?category=%ff": (400, "not_utf8", "category is not UTF-8"),
    "/v1/popular?category": (400, "wrong_form", "category has no value"),
    "/v1/items/%ff/similar": (400, "not_utf8", "the item id in the path is not UTF-8"),
    "/v1/items//similar": (404, "no_such_path", "no such path"),
    "/v1/items/a/b/similar": (404, "no_such_path", "no such path"),
    "/v1/items/a/cheaper": (404, "no_such_path", "no such path"),
}


@pytest.mark.parametrize("path", REFUSED)
def test_what_cannot_be_understood_is_refused_in_a_sentence(shop: Door, fake: FakeTriton, path: str) -> None:
    status, code, sentence = REFUSED[path]
    answer = shop.ask(path)
    assert (answer.status, answer.body["code"]) == (status, code)
    assert answer.error.startswith(sentence)
    assert not fake.asked


def test_a_release_from_before_lists_says_so(door: Door) -> None:
    """The real server has no model of this name."""
    answer = door.ask("/v1/items/i1/similar")
    assert (answer.status, answer.body["code"]) == (404, "not_in_this_release")
    assert answer.error == "the active release has no lists; publish and promote a new one"


def test_the_cache_may_hold_another_question_s_list(shop: Door, fake: FakeTriton) -> None:
    """It is asked once more with another text in ``live``."""
    fake.wrong_digests = 1
    assert shop.ask("/v1/popular").status == 200
    assert "live" in fake.asked[1].ids


# ---- several lists

PAGE = {
    "lists": [
        {"label": "usual", "kind": "recommend", "basket": ["i9"]},
        {"label": "goes with", "kind": "together", "item_id": "i9", "limit": 4},
        {"label": "best", "kind": "popular", "exclude": ["i3"]},
    ]
}


def test_lists_of_one_page_repeat_no_item(shop: Door, fake: FakeTriton) -> None:
    """Each list excludes the items of those before it."""
    answer = shop.ask("/v1/lists", PAGE)
    assert answer.status == 200
    found = {each["label"]: [item["item_id"] for item in each["items"]] for each in answer.body["lists"]}
    assert found == {"usual": ["i1"], "goes with": ["i2"], "best": ["i4"]}
    assert [asked.model for asked in fake.asked] == ["recommender", "lists", "lists"]


@pytest.mark.parametrize("exclude", [None, [""] * 9000], ids=["null", "many"])
def test_no_item_is_repeated_whatever_a_list_excludes(
    shop: Door, fake: FakeTriton, exclude: list[str] | None
) -> None:
    """An empty id is padding."""
    usual, popular = {"kind": "recommend"}, {"kind": "popular", "exclude": exclude}
    answer = shop.ask("/v1/lists", {"lists": [usual, popular]})
    shown = [item["item_id"] for item in answer.body["lists"][0]["items"]]
    assert "problem" not in answer.body["lists"][1]
    assert fake.asked[1].ids["exclude"] == [[item.encode() for item in shown]]


def test_an_object_is_no_list_of_excluded_items(shop: Door) -> None:
    page = {"lists": [{"kind": "popular", "exclude": {"i1": True}}]}
    (answer,) = shop.ask("/v1/lists", page).body["lists"]
    assert answer["problem"]["pointer"] == "/lists/0/exclude"


def test_a_bad_list_has_its_own_problem(shop: Door) -> None:
    page = json.loads(json.dumps(PAGE))
    page["lists"][1] = {"label": "goes with", "kind": "together"}
    answer = shop.ask("/v1/lists", page)
    assert answer.status == 200
    usual, bad, best = answer.body["lists"]
    assert bad["label"] == "goes with"
    assert (bad["problem"]["pointer"], bad["problem"]["status"]) == ("/lists/1/item_id", 400)
    assert usual["items"]
    assert best["items"]


BAD_LISTS = [
    *(None, [], 7, {}, {"kind": "cheapest"}),
    *({"kind": "popular", "limit": 101}, {"kind": "recommend", "k": 0}),
]


@pytest.mark.parametrize("bad", BAD_LISTS, ids=json.dumps)
def test_no_list_can_break_the_request(shop: Door, bad: object) -> None:
    answer = shop.ask("/v1/lists", {"lists": [bad, {"kind": "popular", "label": "best"}]})
    assert answer.status == 200
    assert answer.body["lists"][0]["problem"]["status"] == 400
    assert answer.body["lists"][1]["label"] == "best"


def test_a_server_that_answers_nothing_fails_the_whole_request(shop: Door, fake: FakeTriton) -> None:
    fake.broken = (503, b'{"error": "full"}')
    assert shop.ask("/v1/lists", PAGE).status == 503


def test_lists_cost_as_much_as_they_are_many(shop: Door) -> None:
    """A key of 5 questions a second."""
    page = {"lists": [{"kind": "popular"}] * 8}
    assert shop.ask("/v1/lists", page, key="slow-shop").status == 200
    assert shop.ask("/v1/lists", page, key="slow-shop").status == 429


def test_pages_may_ask_for_lists_but_not_for_substitutes(shop: Door) -> None:
    """A page sends a token; what is out of stock is the shop's own business."""
    folder, origin = shop.settings.folder, {"Origin": "https://shop.example"}
    (folder / TOKEN).write_text("a secret")
    shop.keys["browser"] = add_key(folder, "browser", "browser", 1000, origins=["https://shop.example"])
    assert announce(folder)
    token = shop.ask("/v1/tokens", {}, key="browser").body["token"]
    answer = shop.ask("/v1/items/i9/similar", key=token, headers=origin)
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, "https://shop.example")
    assert shop.ask("/v1/popular", key=token, headers=origin).status == 200
    assert shop.ask("/v1/items/i9/substitutes", key=token, headers=origin).status == 403
