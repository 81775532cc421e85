"""Lists that need no basket, asked from a gateway."""

from __future__ import annotations

from typing import Any

import pytest

from cesta_client import InvalidRequest, Reason, Recommender, Unavailable
from cesta_client.testing import FakeShop

ITEM = {"item_id": "butter", "score": 0.5, "reasons": ["together", "a reason of later"]}


class Gateway(FakeShop):
    """Answers JSON with ``told``, and keeps what it was asked."""

    def __init__(self, told: dict[str, Any]) -> None:
        super().__init__()
        self.told, self.asked = told, []

    def ask_json(self, path: str, asked: dict[str, Any], **_: object) -> dict[str, Any]:
        self.asked.append((path, asked))
        return self.told


def test_a_list_is_asked_in_json() -> None:
    """Arguments that are left out are not sent. Reasons of newer servers are ignored."""
    shop = Gateway({"lists": [{"label": None, "release": 7, "items": [ITEM]}]})
    with Recommender(transport=shop) as recommender:
        found = recommender.together("milk", limit=3, exclude=["tea"])
    assert shop.asked == [
        ("/v1/lists", {"lists": [{"kind": "together", "item_id": "milk", "limit": 3, "exclude": ["tea"]}]})
    ]
    assert (found.release, [item.item_id for item in found]) == (7, ["butter"])
    assert found[0].reasons == (Reason.TOGETHER,)


def test_each_list_has_a_method() -> None:
    shop = Gateway({"lists": [{"label": None, "release": 7, "items": []}]})
    with Recommender(transport=shop) as recommender:
        recommender.similar("milk")
        recommender.substitutes("milk", store_id="12")
        recommender.popular(days=28, categories=["dairy"])
    assert [asked["lists"][0] for _, asked in shop.asked] == [
        {"kind": "similar", "item_id": "milk", "limit": 10},
        {"kind": "substitutes", "item_id": "milk", "limit": 10, "store_id": "12"},
        {"kind": "popular", "limit": 10, "categories": ["dairy"], "days": 28},
    ]


def test_a_problem_of_the_list_is_an_error() -> None:
    problem = {"status": 404, "code": "not_in_this_release", "detail": "the active release has no lists"}
    with (
        Recommender(transport=Gateway({"lists": [{"problem": problem}]}), retries=0) as recommender,
        pytest.raises(Unavailable, match="the active release has no lists") as refused,
    ):
        recommender.popular()
    assert refused.value.code == "not_in_this_release"


@pytest.mark.parametrize("limit", [0, 101, 1.5, True])
def test_a_limit_out_of_range_is_refused(limit: Any) -> None:
    with Recommender(transport=Gateway({})) as recommender, pytest.raises(InvalidRequest, match="1 to 100"):
        recommender.popular(limit=limit)


def test_over_grpc_there_are_no_lists() -> None:
    with Recommender("localhost:8001") as recommender, pytest.raises(InvalidRequest, match='protocol="http"'):
        recommender.similar("milk")


def test_a_list_is_ranked_over_each_protocol() -> None:
    shop = FakeShop({"": ["bread", "butter", "tea"]})
    with Recommender(transport=shop) as recommender:
        assert [item.item_id for item in recommender.rank(["tea", "bread"])] == ["bread", "tea"]
        with pytest.raises(InvalidRequest, match="items is empty"):
            recommender.rank([])
