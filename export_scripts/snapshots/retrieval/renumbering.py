"""Gives a trained tower the row numbers of a later shop, so that its training can go on there.

Each run of etl numbers users, items and categories anew. Their ids and names tell which row is which.
"""

import json
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from export_scripts.receipts.shop import Shop
from export_scripts.settings import Settings
from export_scripts.snapshots import counts
from export_scripts.snapshots.retrieval.tower import TrainedTower
from export_scripts.snapshots.retrieval.training import new_tower


class Numbering(NamedTuple):
    """What the rows of a tower's tables stand for. Row 0 of each is the unknown one, with an empty name."""

    users: list[str]
    items: list[str]
    categories: list[str]

    @classmethod
    def of(cls, shop: Shop) -> "Numbering":
        names = counts.categories(shop, 0)[1]
        return cls(
            shop.user_ids, shop.catalog["item_id"].tolist(), [name.decode() for name in names.unpack()]
        )

    @classmethod
    def from_json(cls, text: str) -> "Numbering":
        return cls(**json.loads(text))

    def to_json(self) -> str:
        return json.dumps(self._asdict())

    def rows_in(self, earlier: "Numbering") -> "Rows":
        """Return for each row of this numbering its row in ``earlier``, or -1."""
        pairs = zip(self, earlier, strict=True)
        return Rows(*(pd.Index(theirs).get_indexer(pd.Index(mine)) for mine, theirs in pairs))


class Rows(NamedTuple):
    """Rows of an earlier numbering, -1 where it has none."""

    users: NDArray[np.intp]
    items: NDArray[np.intp]
    categories: NDArray[np.intp]


@torch.no_grad()
def renumber(tower: TrainedTower, rows: Rows, shop: Shop, end: int, settings: Settings) -> TrainedTower:
    """Return ``tower`` in the numbering of ``shop``, where the baskets that it has seen are those before
    ``end``.

    Rows that it does not know start as in a new tower. So do users whose baskets before ``end`` are gone
    from the receipts.
    """
    later = new_tower(shop, counts.categories(shop, end)[0].of_item, settings)
    still_there = np.bincount(shop.users[:end], minlength=shop.n_users) > 0
    still_there[0] = True
    users = np.where(still_there, rows.users, -1)
    of_categories = np.where(rows.categories >= 0, len(tower.network.codes) + rows.categories, -1)
    codes = np.concatenate([rows.items, of_categories])
    sources = {"users": users, "basket": codes, "items": codes}
    for name, source in sources.items():
        table, earlier = (getattr(each.network, name).weight for each in (later, tower))
        known = torch.from_numpy(np.flatnonzero(source >= 0))
        chosen = torch.from_numpy(source[source >= 0])
        table[known] = earlier[chosen]
        state, earlier_state = later.optimizer.state[table], tower.optimizer.state[earlier]
        state["step"].copy_(earlier_state["step"])
        for number in ("read", "square"):
            state[number][known] = earlier_state[number][chosen]
    with_id = (rows.items >= 0) & (tower.network.codes[:, 0].numpy() > 0)[rows.items]
    later.network.codes[:, 0] = torch.from_numpy(np.where(with_id, np.arange(shop.n_items), 0))
    return TrainedTower(later.network, later.optimizer, end, tower.steps, tower.scale)
