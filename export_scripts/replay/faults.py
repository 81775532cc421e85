"""Faults of receipts and of a model, planted to see whether the gate refuses them.

All but one are in the receipts of the newest days. The weights of a candidate were chosen on receipts before
its test period, so these faults change no weight.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from export_scripts.receipts.shop import DAY_S, Shop

# A shop whose baskets from a number on are new → the faulty one; None if it cannot have the fault.
Fault = Callable[[Shop, int, np.random.Generator], Shop | None]

SHUFFLED_MODEL: Final = "shuffled items in the model"  # no fault of the receipts: the graph names wrong ids
HEALTHY: Final = "equal"


def without_a_new_day(shop: Shop, start: int, rng: np.random.Generator) -> Shop:
    """Lose one whole day among the new ones."""
    days = np.unique(shop.times[start:] // DAY_S)[1:-1]
    return keep_baskets(shop, shop.times // DAY_S != rng.choice(days))


def without_an_old_day(shop: Shop, start: int, rng: np.random.Generator) -> Shop:
    """Lose one day that the active release has seen."""
    days = np.unique(shop.times[:start] // DAY_S)[1:-1]
    return keep_baskets(shop, shop.times // DAY_S != rng.choice(days))


def without_half_of_the_customers(shop: Shop, _: int, rng: np.random.Generator) -> Shop:
    """Lose the baskets of every second customer."""
    lost = rng.permutation(shop.n_users) < shop.n_users // 2
    lost[0] = False
    return keep_baskets(shop, ~lost[shop.users])


def with_other_item_ids(shop: Shop, start: int, rng: np.random.Generator) -> Shop | None:
    """A till that sends other numbers: the sold items of new baskets are among products never sold before."""
    sold = np.bincount(shop.items[: shop.offsets[start]], minlength=shop.n_items) > 0
    unsold = np.flatnonzero(~sold)[1:]
    if not len(unsold):
        return None
    return _with_new_items(shop, start, lambda lines: rng.choice(unsold, len(lines)))


def without_customer_ids(shop: Shop, start: int, _: np.random.Generator) -> Shop:
    """The column of customers is empty in the new files."""
    users = shop.users.copy()
    users[start:] = 0
    return replace(shop, users=users)


def with_shuffled_items(shop: Shop, start: int, rng: np.random.Generator) -> Shop:
    """The new lines have each other's items, as after a join that went wrong."""
    return _with_new_items(shop, start, rng.permutation)


FAULTS: Final[Mapping[str, Fault]] = MappingProxyType(
    {
        "a lost new day": without_a_new_day,
        "a lost old day": without_an_old_day,
        "half of the customers": without_half_of_the_customers,
        "other item ids in new receipts": with_other_item_ids,
        "no customer ids in new receipts": without_customer_ids,
        "shuffled items in new receipts": with_shuffled_items,
    }
)


def keep_baskets(shop: Shop, kept: NDArray[np.bool_]) -> Shop:
    """The shop with the chosen baskets (baskets,) only."""
    sizes = np.diff(shop.offsets)
    return replace(
        shop,
        offsets=np.concatenate([[0], np.cumsum(sizes[kept])]),
        items=shop.items[np.repeat(kept, sizes)],
        users=shop.users[kept],
        times=shop.times[kept],
        stores=shop.stores and shop.stores.only(kept),
    )


def _with_new_items(
    shop: Shop, start: int, change: Callable[[NDArray[np.int32]], NDArray[np.integer]]
) -> Shop:
    """The shop with changed lines from basket ``start`` on; an item is in a basket once."""
    begin = shop.offsets[start]
    items = np.concatenate([shop.items[:begin], change(shop.items[begin:]).astype(np.int32)])
    baskets = np.repeat(np.arange(shop.n_baskets), np.diff(shop.offsets))
    pairs = np.unique(baskets * shop.n_items + items)
    sizes = np.bincount(pairs // shop.n_items, minlength=shop.n_baskets)
    return replace(
        shop,
        offsets=np.concatenate([[0], np.cumsum(sizes)]),
        items=(pairs % shop.n_items).astype(np.int32),
    )
