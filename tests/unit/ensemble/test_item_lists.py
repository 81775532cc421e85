"""Lists of a shop of six items, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from ensemble.candidate_sampler.live.change_log import GONE, Change, Group
from ensemble.candidate_sampler.live.forbidden import Forbidden
from ensemble.item_lists.arrays import ListArrays, Partners
from ensemble.item_lists.ids import Ids
from ensemble.item_lists.lists import ItemLists, allowed_by
from ensemble.item_lists.question import BadQuestion, read_question

NAMES = ["", "milk", "oat milk", "butter", "bread", "tea", "caviar"]  # caviar hardly sells
MILK, SPREADS, FOOD = 1, 2, 3


def ids(names: list[str]) -> Ids:
    texts = [name.encode() for name in names]
    offsets = np.cumsum([0, *map(len, texts)]).astype(np.int64)
    return Ids(np.frombuffer(b"".join(texts), np.uint8), offsets)


@pytest.fixture(scope="module")
def arrays() -> ListArrays:
    """Milk and oat milk are of one category, near to each other, and never in one basket."""
    vectors = [[0, 0], [1, 0], [0.8, 0.6], [0.6, 0.8], [0, 1], [-1, 0], [1, 0.1]]
    return ListArrays(
        items=ids(NAMES),
        categories=ids(["", "MILK", "SPREADS", "FOOD"]),
        order=np.array([4, 1, 3, 2, 5], np.int32),
        sold=np.array([0, 4, 2, 3, 5, 1, 0], np.float32),
        sold_lately=np.array([0, 1, 0, 3, 2, 0, 0], np.float32),
        category_of=np.array([[0, 0], [3, 1], [3, 1], [3, 2], [3, 0], [3, 0], [3, 1]], np.int32),
        members_offsets=np.array([0, 0, 3, 4, 10], np.int64),
        members=np.array([1, 2, 6, 3, 4, 1, 3, 2, 5, 6], np.int32),
        partners=Partners(
            np.array([0, 0, 2, 2, 3, 4, 4, 4], np.int64),
            np.array([4, 3, 1, 1], np.int32),
            np.array([0.5, 0.4, 0.4, 0.5], np.float32),
            np.zeros(4, np.float32),
            np.zeros(4, np.float32),
        ),
        vectors=np.array(vectors, np.float32),
        words=np.zeros((7, 2), np.int64),
    )


def values_of(given: str | int | list[str]) -> list[bytes] | list[int]:
    if isinstance(given, int):
        return [given]
    return [each.encode() for each in ([given] if isinstance(given, str) else given)]


def listed(lists: ItemLists, **inputs: str | int | list[str]) -> list[str]:
    values = {name: values_of(given) for name, given in inputs.items()}
    found = lists.list(read_question(lists.arrays, values))
    return [NAMES[row] for row in found.rows.tolist()]


def test_popular_items_come_by_their_sales(arrays: ListArrays) -> None:
    """The sales are of the whole period or of the last 28 days. Items without any are not listed."""
    lists = ItemLists(arrays)
    assert listed(lists, kind="popular") == ["bread", "milk", "butter", "oat milk", "tea"]
    assert listed(lists, kind="popular", days=28) == ["butter", "bread", "milk"]
    assert listed(lists, kind="popular", category=["MILK", "SPREADS"]) == ["milk", "butter", "oat milk"]
    assert listed(lists, kind="popular", exclude=["milk"], limit=2) == ["bread", "butter"]


def test_similar_items_come_by_their_cosine(arrays: ListArrays) -> None:
    """Cosines to milk: oat milk 0.8, butter 0.6, bread 0, tea -1. What hardly sells is not listed."""
    assert listed(ItemLists(arrays), kind="similar", item="milk") == ["oat milk", "butter", "bread", "tea"]


def test_items_of_one_basket_are_together(arrays: ListArrays) -> None:
    assert listed(ItemLists(arrays), kind="together", item="milk") == ["bread", "butter"]
    assert listed(ItemLists(arrays), kind="together", item="milk", category="SPREADS") == ["butter"]


def test_a_substitute_is_of_the_same_finest_category(arrays: ListArrays) -> None:
    assert listed(ItemLists(arrays), kind="substitutes", item="milk") == ["oat milk"]
    assert listed(ItemLists(arrays), kind="substitutes", item="bread") == []  # it has none


def test_unknown_ids_are_warnings(arrays: ListArrays) -> None:
    found = read_question(arrays, {"kind": [b"similar"], "item": [b"soap"], "category": [b"MILK", b"TOYS"]})
    assert found.warnings == (b"unknown_item:soap", b"unknown_category:TOYS")
    assert found.categories == (MILK,)


def test_an_id_that_is_not_utf_8_is_refused(arrays: ListArrays) -> None:
    with pytest.raises(BadQuestion, match="exclude holds an id that is not UTF-8 at byte 0"):
        read_question(arrays, {"kind": [b"popular"], "exclude": [b"\xff"]})


def test_blanks_around_an_id_do_not_count(arrays: ListArrays) -> None:
    assert arrays.items.find(b" oat milk ") == 2
    assert arrays.items.find(b"") == 0


def test_what_is_gone_is_not_listed(arrays: ListArrays) -> None:
    """The live table of the samplers: bread is gone everywhere, butter in store 12. The list is refilled."""
    table = Forbidden(len(NAMES), arrays.items.find_joined)
    lists = ItemLists(arrays, lambda store: allowed_by(table, store))
    assert listed(lists, kind="popular", limit=2) == ["bread", "milk"]
    table.apply(
        [Change(1, 0.0, False, (Group("", GONE, 2, b"bread\xffsoap"), Group("12", GONE, 1, b"butter")))]
    )
    assert listed(lists, kind="popular", limit=2) == ["milk", "butter"]
    assert listed(lists, kind="popular", limit=2, store_id="12") == ["milk", "oat milk"]
