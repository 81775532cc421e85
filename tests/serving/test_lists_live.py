"""The lists of the built release, asked from a real server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from ensemble.item_lists.digest import question_digest
from ensemble.item_lists.lists import ItemLists
from ensemble.item_lists.question import ABOUT_AN_ITEM, read_question
from operations.records.contract import LISTS
from operations.server.process import Server

if TYPE_CHECKING:
    from tests.building.slices import Built

pytestmark = [pytest.mark.triton, pytest.mark.timeout(240)]

Values = str | int | Sequence[str]


@pytest.fixture(scope="module")
def shop(start_server: Callable[..., Server], built: Built) -> Server:
    """The lists alone: they need no sampler."""
    return start_server(built.repository, models=(LISTS,))


@pytest.fixture(scope="module")
def lists(built: Built) -> ItemLists:
    """The same lists in this process."""
    return ItemLists.load(built.run / "arrays")


def values_of(given: Values) -> list[Any]:  # bytes, or a number
    if isinstance(given, int):
        return [given]
    return [each.encode() for each in ([given] if isinstance(given, str) else given)]


def ask(shop: Server, **inputs: Values) -> dict[str, list[Any]]:
    """The outputs of one question by name."""
    tensors = []
    for name, given in inputs.items():
        array = np.array([values_of(given)], np.int32 if isinstance(given, int) else object)
        tensor = triton.InferInput(name, array.shape, "INT32" if isinstance(given, int) else "BYTES")
        tensor.set_data_from_numpy(array)
        tensors.append(tensor)
    with triton.InferenceServerClient(shop.grpc) as client:
        answer = client.infer(LISTS, tensors)
    return {name: answer.as_numpy(name)[0].tolist() for name in ("item_ids", "scores", "reasons", "digest")}


def best_seller(lists: ItemLists) -> str:
    return lists.arrays.items[int(lists.arrays.order[0])].decode()


def test_the_best_seller_comes_first(shop: Server, lists: ItemLists) -> None:
    answer = ask(shop, kind="popular", limit=3)
    expected = [lists.arrays.items[row] for row in lists.arrays.order[:3].tolist()]
    assert answer["item_ids"] == expected
    assert answer["reasons"] == [8, 8, 8]  # popular


@pytest.mark.parametrize("kind", ABOUT_AN_ITEM)
def test_the_server_lists_what_the_arrays_say(shop: Server, lists: ItemLists, kind: str) -> None:
    """Each list names its question, and never the item itself."""
    item = best_seller(lists)
    inputs: dict[str, Values] = {"kind": kind, "item": item, "limit": 7}
    asked = {name: values_of(given) for name, given in inputs.items()}
    expected = lists.list(read_question(lists.arrays, asked))
    answer = ask(shop, **inputs)
    assert answer["item_ids"] == [lists.arrays.items[row] for row in expected.rows.tolist()]
    assert answer["scores"] == pytest.approx(expected.scores.tolist(), abs=1e-5)
    assert 0 < len(answer["item_ids"]) <= 7
    assert item.encode() not in answer["item_ids"]
    assert answer["digest"] == [question_digest(asked)]


def test_excluded_items_make_room_for_others(shop: Server) -> None:
    first, second, third = ask(shop, kind="popular", limit=3)["item_ids"]
    without = ask(shop, kind="popular", limit=2, exclude=[second.decode()])
    assert without["item_ids"] == [first, third]


def test_an_unknown_item_has_an_empty_list_and_a_warning(shop: Server) -> None:
    answer = ask(shop, kind="similar", item="no such item")
    assert answer["item_ids"] == []
    assert answer["digest"][1:] == [b"unknown_item:no such item"]


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({"kind": "cheapest"}, 'kind is "cheapest"; use similar, together, substitutes, popular'),
        ({"kind": "popular", "days": 7}, "days is 7; use 0 or 28"),
        ({"kind": "popular", "limit": 101}, "limit is 101; use 1 to 100"),
        ({"kind": "similar"}, "item is missing: similar is about one item"),
        ({"kind": "popular", "category": "x" * 129}, "category holds an id of 129 bytes"),
    ],
)
def test_a_bad_question_is_told_what_is_wrong(shop: Server, inputs: dict[str, Values], sentence: str) -> None:
    with pytest.raises(InferenceServerException, match=sentence):
        ask(shop, **inputs)


def test_a_repeated_question_is_answered_by_the_cache(shop: Server) -> None:
    """Another text in ``live`` asks past it."""
    with triton.InferenceServerClient(shop.grpc) as client:

        def hits() -> int:
            (stats,) = client.get_inference_statistics(LISTS).model_stats
            return int(stats.inference_stats.cache_hit.count)

        ask(shop, kind="popular", limit=11)
        before = hits()
        again = ask(shop, kind="popular", limit=11)
        assert hits() == before + 1
        assert ask(shop, kind="popular", limit=11, live="2") == again
        assert hits() == before + 1
