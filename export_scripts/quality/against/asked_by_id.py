"""Questions in ids, which any release can answer, whatever numbers it gives to its items and users."""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ensemble.candidate_sampler.query import MAX_BASKET
from ensemble.reference import Reference
from export_scripts.quality.metrics import Ranks, ranks_in_lists
from export_scripts.receipts.shop import Shop
from export_scripts.snapshots.splits import HiddenItems

BATCH: Final = 64


class IdQuestions(NamedTuple):
    """Queries of the test-month protocol as a caller asks them, (n,) each."""

    baskets: list[list[bytes]]  # without the hidden item
    users: list[bytes]  # b"" for an unknown one
    stores: list[bytes]  # likewise
    hidden: NDArray[np.object_]  # ids, str

    @classmethod
    def of(cls, shop: Shop, hidden: HiddenItems) -> "IdQuestions":
        """Name the items and users of queries."""
        ids = shop.catalog["item_id"].tolist()
        pairs = zip(hidden.baskets.tolist(), hidden.items.tolist(), strict=True)
        rows = shop.stores.rows[hidden.baskets].tolist() if shop.stores else [0] * len(hidden)
        store_ids = shop.stores.ids if shop.stores else [""]
        baskets = [[ids[row] for row in shop.basket(b).tolist() if row != item] for b, item in pairs]
        return cls(
            [[name.encode() for name in basket[:MAX_BASKET]] for basket in baskets],
            [shop.user_ids[row].encode() for row in shop.users[hidden.baskets].tolist()],
            [store_ids[row].encode() for row in rows],
            np.array(ids, object)[hidden.items],
        )

    def batches(self) -> Iterator["IdQuestions"]:
        """Yield the questions in order, BATCH at a time."""
        for start in range(0, len(self.users), BATCH):
            part = slice(start, start + BATCH)
            yield IdQuestions(self.baskets[part], self.users[part], self.stores[part], self.hidden[part])


def _further(store: bytes) -> dict[str, Any]:
    return {"store_id": [store]} if store else {}


def ask(reference: Reference, questions: IdQuestions) -> Ranks:
    """(n,) the places of the hidden items in the served lists, at the moment for which a release was made."""
    ranks = [np.zeros(0)]
    for part in questions.batches():
        asked = zip(part.baskets, part.users, part.stores, strict=True)
        queries = [
            reference.vocabulary.query(basket, user, **_further(store)) for basket, user, store in asked
        ]
        ranks.append(ranks_in_lists(reference.recommend(queries).item_ids, part.hidden))
    return np.concatenate(ranks)
