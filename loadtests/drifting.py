"""Asks a running server with real baskets in which a drift is planted, so that its alert can be seen.

python -m loadtests.drifting other-ids --share 0.3 --seconds 300       # a new till sends ids of its own
python -m loadtests.drifting none                                      # a healthy shop, for comparison
CESTA_KEY_FILE=key python -m loadtests.drifting lost-category --address 127.0.0.1:8080

The baskets are whole receipts of the last weeks, of every hour of the week, in random order.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

import cesta_client
from ensemble.candidate_sampler.query import MAX_BASKET
from export_scripts.receipts.shop import Shop, load_shop
from loadtests.shops.new_items import is_replaced, replacement
from operations.commands.ask import read_key
from operations.outputs import ARTIFACTS, Outputs

WEEKS: Final = 8  # as in the reference of a release, `[drift] weeks`
SEED: Final = 7


class Basket(NamedTuple):
    """A receipt in ids."""

    items: tuple[str, ...]
    user: str


Change = Callable[[Basket, Basket, "Plan"], Basket]  # of a basket; the second is the one before it


class Plan(NamedTuple):
    """The planted drift: a share of the baskets or items, and the items of the lost category."""

    share: float
    rng: np.random.Generator
    new: frozenset[str]
    lost: frozenset[str]


def unchanged(basket: Basket, before: Basket, plan: Plan) -> Basket:
    return basket


def other_ids(basket: Basket, before: Basket, plan: Plan) -> Basket:
    """A till writes its ids with a zero in front."""
    if plan.rng.random() >= plan.share:
        return basket
    return basket._replace(items=tuple(f"0{item}" for item in basket.items))


def new_assortment(basket: Basket, before: Basket, plan: Plan) -> Basket:
    """Some items were replaced by new ones."""
    return basket._replace(items=tuple(replacement(i) if i in plan.new else i for i in basket.items))


def lost_category(basket: Basket, before: Basket, plan: Plan) -> Basket:
    """A category is not sold any more."""
    return basket._replace(items=tuple(item for item in basket.items if item not in plan.lost))


def doubled_baskets(basket: Basket, before: Basket, plan: Plan) -> Basket:
    """Each basket also holds what another one held."""
    return basket._replace(items=tuple(dict.fromkeys(basket.items + before.items)))


CHANGES: Final[Mapping[str, Change]] = {
    "none": unchanged,
    "other-ids": other_ids,
    "new-assortment": new_assortment,
    "lost-category": lost_category,
    "doubled-baskets": doubled_baskets,
}


def main() -> None:
    """Ask until the time is over, and print how many questions were answered."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("change", choices=CHANGES)
    parser.add_argument("--share", type=float, default=0.3, help="of the baskets (other-ids) or items")
    parser.add_argument("--address", default="127.0.0.1:8001", help="gRPC of a server or a gateway")
    parser.add_argument("--rate", type=float, default=20, help="questions per second")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--out", type=Path, default=ARTIFACTS)
    given = parser.parse_args()
    rng = np.random.default_rng(SEED)
    shop = load_shop(Outputs(given.out).data)
    asked = changed(shop, given.change, plan_of(shop, given.share, rng), rng)
    key_file = os.environ.get("CESTA_KEY_FILE")
    key = read_key(Path(key_file)) if key_file else None
    answered = failed = 0
    end_s, due_s = time.monotonic() + given.seconds, time.monotonic()
    with cesta_client.Recommender(given.address, timeout_s=2, api_key=key) as client:
        while (now_s := time.monotonic()) < end_s:
            if now_s < due_s:
                time.sleep(due_s - now_s)
            due_s += 1 / given.rate
            basket = next(asked)
            try:
                client.recommend(basket.items[:MAX_BASKET], user_id=basket.user or None)
                answered += 1
            except cesta_client.CestaError as error:
                failed += 1
                print(error)
    print(f"{given.change}: {answered} questions answered, {failed} failed")


def plan_of(shop: Shop, share: float, rng: np.random.Generator) -> Plan:
    """The lost category is the finest one that sells most."""
    ids = shop.catalog["item_id"].to_numpy()
    new = frozenset(item for item in ids[1:].tolist() if is_replaced(item, share))
    lost: frozenset[str] = frozenset()
    if shop.category_columns:
        names = shop.catalog[shop.category_columns[-1]].to_numpy().astype(str)
        sold = names[shop.items]
        values, counts = np.unique(sold[sold != ""], return_counts=True)
        lost = frozenset(ids[names == values[counts.argmax()]].tolist()) if len(values) else lost
    return Plan(share, rng, new, lost)


def changed(shop: Shop, change: str, plan: Plan, rng: np.random.Generator) -> Iterator[Basket]:
    """Baskets of the last weeks without end, with the change in them."""
    ids = shop.catalog["item_id"].tolist()
    start = shop.first_basket_at(int(shop.times[-1] - WEEKS * 7 * shop.day))
    before = Basket((), "")
    while True:
        for number in rng.permutation(np.arange(start, shop.n_baskets)).tolist():
            items = tuple(ids[row] for row in shop.basket(number).tolist())
            basket = Basket(items, shop.user_ids[shop.users[number]])
            yield CHANGES[change](basket, before, plan)
            before = basket


if __name__ == "__main__":
    main()
