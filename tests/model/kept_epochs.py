"""Compares two ways to keep an epoch: ``python -m tests.model.kept_epochs --data OUT/data``.

A training keeps the epoch with the lowest loss on validation. Here it is kept by two sets of the same
questions: "users" asks all with their users, as ``cesta train`` does, and "mixture" asks the share
``train.user_dropout`` without them, as training does. Everything else is one training.

The receipts end where the test month begins, or so many times 28 days earlier (--back). The questions are
those of the last 28 days, which neither training nor validation has seen. For each seed, and for all of them
together, one line for each way says

epoch, rise          that was kept, and by how much new items are raised
HR@10, NDCG@10       with the user: all, repeat, explore; then without the user
difference           of NDCG@10, mixture less users, with its paired 95 % interval
"""

import argparse
import tempfile
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Final

import numpy as np

from export_scripts.engines.local import ThisProcess
from export_scripts.receipts.shop import Shop, load_shop
from export_scripts.scorer.explore import add_explore
from export_scripts.scorer.fitting import choose_explore, fit, new_model
from export_scripts.scorer.prior import fit_prior
from export_scripts.scorer.training_set import collect, collect_training_sets, make_periods
from export_scripts.settings import Settings, load_settings
from export_scripts.snapshots.partials import PartialCounts
from export_scripts.snapshots.snapshot import snapshot
from export_scripts.snapshots.splits import split_by_time
from operations.outputs import ARTIFACTS
from operations.records.contract import read_contract
from tests.model.warm_starts import Answers, answer, cut, describe, train_tower

WAYS: Final = ("users", "mixture")


def main() -> None:
    """Print two lines for each seed, and two for all of them together."""
    given = parse()
    changes = dict(change.split("=", 1) for change in given.set)
    shop = load_shop(given.data)
    for _ in range(given.back):
        shop = cut(shop, int(shop.times[split_by_time(shop, load_settings(overrides=changes).splits).test]))
    print("seed kept    epoch rise  HR@10/NDCG@10: known repeat explore no user")
    answers: dict[str, list[Answers]] = {way: [] for way in WAYS}
    for seed in given.seeds:
        settings = load_settings(overrides={"train.seed": seed} | changes)
        for way, (epoch, rise, found) in zip(WAYS, compare(shop, settings, given.queries), strict=True):
            answers[way].append(found)
            line = describe(found, answers[WAYS[0]][-1])
            print(f"{seed:4} {way:8}{epoch:5} {rise:4}  {line}", flush=True)
    users, mixture = (together(answers[way]) for way in WAYS)
    for way, found in zip(WAYS, (users, mixture), strict=True):
        print(f" all {way:20}{describe(found, users)}")


def parse() -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, default=ARTIFACTS / "data", help="etl's tables")
    parser.add_argument("--back", type=int, choices=range(1, 7), default=1, help="periods of 28 days")
    parser.add_argument("--seeds", type=int, nargs="+", default=[7, 8, 9])
    parser.add_argument("--queries", type=int, default=4_000)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    return parser.parse_args()


def compare(shop: Shop, settings: Settings, queries: int) -> list[tuple[int, float, Answers]]:
    """Train once, keep an epoch each way, and ask both scorers the same questions."""
    split, contract, chosen = split_by_time(shop, settings.splits), read_contract(), settings.train
    tower = train_tower(shop, None, settings).tower
    with tempfile.TemporaryDirectory() as folder:
        counted = PartialCounts(shop, settings.sampler, Path(folder), ThisProcess())
        past = snapshot(shop, split.training, settings, partials=counted, tower=tower)
        periods = make_periods(shop, split, past, settings, counted)
        linear, prior = fit_prior(shop, periods.training, settings, contract)
        periods = periods.with_prior(prior)
        release = snapshot(shop, split.test, settings, prior, counted, tower)
    training, users = collect_training_sets(shop, periods, settings, contract)
    rng = np.random.default_rng(chosen.seed)
    mixture = collect(
        shop, [periods.validation], settings, contract, "mixture", rng, None, chosen.user_dropout
    )
    untrained = new_model(past, training, linear, chosen)
    found = []
    for validation in (users, mixture):
        model, curve = fit(deepcopy(untrained), training, validation, chosen)
        rise = choose_explore(model, validation, chosen.price_of_new)
        add_explore(model, rise)
        found.append((curve.kept, rise, answer(shop, model, release, settings, queries)))
    return found


def together(answers: Sequence[Answers]) -> Answers:
    """Join the answers of several seeds."""
    return Answers(*(np.concatenate(parts) for parts in zip(*answers, strict=True)))


if __name__ == "__main__":
    main()
