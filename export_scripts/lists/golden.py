"""The golden answers of the lists: what the release's own arrays give, for each kind."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ensemble.item_lists.lists import ItemLists
from ensemble.item_lists.question import ABOUT_AN_ITEM, read_question
from operations.records.golden_answers import Answer
from operations.records.part_answers import PartAnswer

ITEMS: Final = 2  # that sell best, for each kind of list about an item


def golden_lists(arrays: Path) -> tuple[PartAnswer, ...]:
    """The questions about the best sellers, and the one what they are, with their answers."""
    lists = ItemLists.load(arrays)
    best = [lists.arrays.items[row].decode() for row in lists.arrays.order[:ITEMS].tolist()]
    asked = [{"kind": ("popular",)}]
    asked += [{"kind": (kind,), "item": (item,)} for kind in ABOUT_AN_ITEM for item in best]
    return tuple(_answered(lists, inputs) for inputs in asked)


def _answered(lists: ItemLists, inputs: Mapping[str, tuple[str, ...]]) -> PartAnswer:
    encoded = {name: [value.encode() for value in values] for name, values in inputs.items()}
    listed = lists.list(read_question(lists.arrays, encoded))
    answer = Answer(
        item_ids=tuple(lists.arrays.items[row].decode() for row in listed.rows.tolist()),
        scores=tuple(round(float(score), 4) for score in listed.scores),
        reasons=(listed.reasons,) * len(listed.rows),
    )
    return PartAnswer(inputs=inputs, answer=answer)
