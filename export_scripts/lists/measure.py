"""Measures how substitutes differ from similar items and from those bought together, as a table.

python -m export_scripts.lists.measure artifacts/run
"""

import sys
from pathlib import Path
from typing import Final

import numpy as np

from ensemble.item_lists.lists import ItemLists
from ensemble.item_lists.question import Question

KINDS: Final = ("substitutes", "similar", "together")
ITEMS: Final = 2_000  # that sell best
PLACES: Final = 5


def measure(lists: ItemLists, kind: str) -> dict[str, float]:
    """Measure the first PLACES of a kind's lists: how long they are, and two shares in percent."""
    sizes, same, partners = [], [], []
    finest = lists.arrays.category_of[:, -1]
    for item in lists.arrays.order[:ITEMS].tolist():
        rows = lists.list(Question(kind, item=item, limit=PLACES)).rows
        bought = lists.list(Question("together", item=item, limit=100)).rows
        sizes.append(len(rows))
        same += (finest[rows] == finest[item]).tolist()
        partners += np.isin(rows, bought).tolist()
    return {
        "items": float(np.mean(sizes)),
        "of the same finest category, %": 100 * float(np.mean(same)),
        "among the item's partners, %": 100 * float(np.mean(partners)),
    }


if __name__ == "__main__":
    made = ItemLists.load(Path(sys.argv[1]) / "arrays")
    for each in KINDS:
        print(each, {name: round(value, 1) for name, value in measure(made, each).items()})
