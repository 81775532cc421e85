"""Trains a tower on an invented shop by an engine of Ray, and prints what happens as lines of json.

`python -m tests.scale.tower_driver WORKERS` prints {"from_step": …} for each stretch that begins, then
{"steps": …, "partners_found": …}, or {"sentence": …}. Partners are two products that go together.
"""

import json
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from export_scripts.engines.engine import open_engine
from export_scripts.engines.interface import Engine
from export_scripts.receipts.shop import Shop
from export_scripts.settings import load_settings
from export_scripts.snapshots import counts
from export_scripts.snapshots.retrieval import ranks
from export_scripts.snapshots.retrieval.tower import TrainedTower
from operations.errors import CestaError
from tests.building.world import shop_of

ITEMS, USERS, BASKETS = 200, 100, 8_000
STRETCH, LEAST_BASKETS, SILENCE_S = 50, 500, 15
SETTINGS: dict[str, Any] = {
    "engine.name": "ray",
    "retrieval.dimensions": 16,
    "retrieval.epochs": 5,  # of 40 batches each
    "retrieval.uniform_negatives": 64,
}


class Announced:
    """An engine that prints the first step of every stretch before its ranks train it."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self.workers, self.host = engine, engine.workers, engine.host

    def available(self) -> int:
        return self._engine.available()

    def together(self, function: Any, partitions: Sequence[Any], shared: ranks.Training) -> list[Any]:
        begun = {"from_step": shared.stretch.first, "ranks": len(partitions)}
        print(json.dumps(begun), flush=True, file=sys.__stdout__)  # an engine of Ray sends stdout elsewhere
        return self._engine.together(function, partitions, shared)


def make_shop() -> Shop:
    """Each basket has a product, its partner, and two others."""
    rng = np.random.default_rng(3)
    first = rng.integers(ITEMS // 2, size=BASKETS) * 2 + 1
    others = rng.integers(1, ITEMS + 1, size=(BASKETS, 2))
    users = rng.integers(USERS + 1, size=BASKETS)
    receipts = [
        (int(user), k / 100, [int(a), int(a) + 1, *map(int, more)])
        for k, (user, a, more) in enumerate(zip(users, first, others, strict=True))
    ]
    return shop_of(receipts, ITEMS, users=USERS)


def partners_found(tower: TrainedTower) -> float:
    """The share of the products whose partner is among the ten that fit best into a basket of the product."""
    vectors = tower.vectors()
    products = vectors.basket[1:] @ vectors.items[1:].T
    partner = np.arange(ITEMS) ^ 1
    wanted = products[np.arange(ITEMS), partner][:, None]
    return float(((products > wanted).sum(1) < 10).mean())


def main() -> None:
    # So that a training of seconds has several stretches, and as many ranks as are asked for.
    ranks.STRETCH, ranks.LEAST_BASKETS, ranks.SILENCE_S = STRETCH, LEAST_BASKETS, SILENCE_S  # type: ignore[misc]
    settings = load_settings(overrides=SETTINGS | {"engine.workers": int(sys.argv[1])})
    shop = make_shop()
    of_item = counts.categories(shop, BASKETS)[0].of_item
    try:
        with open_engine(settings.engine) as engine:
            tower = ranks.train_in_parallel(shop, BASKETS, of_item, settings, Announced(engine))  # type: ignore[arg-type]
    except CestaError as error:
        print(json.dumps({"sentence": str(error)}))
    else:
        print(json.dumps({"steps": tower.steps, "partners_found": partners_found(tower)}))


if __name__ == "__main__":
    main()
