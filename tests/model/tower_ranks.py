"""Compares towers that 1, 2 and 4 ranks have trained: ``python -m tests.model.tower_ranks --out FOLDER``.

Each line has recall@600 of the tower on the validation period, and the 95 % interval of its difference to
that of the first line, over the same questions. FOLDER is that of `cesta etl`. ``--set engine.name=ray`` has
the workers of a Ray cluster train them.
"""

import argparse
from pathlib import Path

import numpy as np

from export_scripts.engines.engine import open_engine
from export_scripts.quality.metrics import interval
from export_scripts.receipts.shop import load_shop
from export_scripts.settings import load_settings
from export_scripts.snapshots import counts
from export_scripts.snapshots.retrieval.ranks import train_in_parallel
from export_scripts.snapshots.splits import hide_items, split_by_time
from operations.outputs import Outputs
from tests.model.tower_quality import found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("artifacts"))
    parser.add_argument("--queries", type=int, default=6_000)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    settings = load_settings(overrides=dict(change.split("=", 1) for change in arguments.set))
    shop = load_shop(Outputs(arguments.out).data)
    end = split_by_time(shop, settings.splits)
    marks = counts.support(shop, end.validation) >= settings.sampler.min_support
    rng = np.random.default_rng(settings.train.seed)
    per_basket = settings.splits.hidden_per_basket
    hidden = hide_items(shop, end.validation, end.test, marks, per_basket, rng).sample(arguments.queries, rng)
    of_item = counts.categories(shop, end.validation)[0].of_item
    first = None
    for ranks in arguments.ranks:
        with open_engine(settings.engine.model_copy(update={"workers": ranks})) as engine:
            tower = train_in_parallel(shop, end.validation, of_item, settings, engine)
        hits = found(tower.vectors(), shop, hidden, marks, True).astype(np.float64)
        first = hits if first is None else first
        owners = shop.users[hidden.baskets].astype(np.int64)
        low, high = interval((hits - first)[:, None], owners, 1_000, np.random.default_rng(1))[0]
        print(f"{ranks} ranks  recall@600 {hits.mean():.4f}  {low:+.4f} to {high:+.4f}", flush=True)


if __name__ == "__main__":
    main()
