"""Compares training on samples of users with training on all of them, on the validation period.

python -m loadtests.growth_offline.sample --data artifacts/data --shares 1 0.5 0.25

Counts and histories take all receipts in any case. All trainings are asked the same queries, of all users. A
training that was measured before is read from ``--results``; remove the folder after a change of the code.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from export_scripts.engines.local import ThisProcess
from export_scripts.quality.groups import Groups
from export_scripts.quality.metrics import gains, interval
from export_scripts.quality.questions import Questions
from export_scripts.quality.served import served_ranker
from export_scripts.receipts.shop import Shop, load_shop
from export_scripts.scorer.checkpoint import load_checkpoint, load_tower
from export_scripts.settings import Settings, load_settings
from export_scripts.snapshots.snapshot import recommendable, sampler_of, snapshot
from export_scripts.snapshots.splits import hide_items, split_by_time
from export_scripts.train import train
from operations.outputs import ARTIFACTS
from operations.records.contract import read_contract

MEASURES: Final = ("HR@10", "NDCG@10")


class Answers(NamedTuple):
    """The ranks (n,) of the hidden items, and what the queries are."""

    known: NDArray[np.float64]
    unknown: NDArray[np.float64]
    repeat: NDArray[np.bool_]
    owners: NDArray[np.int64]
    users: NDArray[np.int64]  # () in training
    cpu_s: NDArray[np.float64]  # () of the training


def answer(shop: Shop, data: Path, folder: Path, settings: Settings) -> Answers:
    """Train into ``folder``; rank the hidden items of the validation period, by a snapshot at its begin."""
    begun = time.process_time()
    checkpoint = train(settings, data, folder / "checkpoint.pt")
    cpu_s, contract = time.process_time() - begun, read_contract()
    model, prior = load_checkpoint(checkpoint, shop, settings)
    split = split_by_time(shop, settings.splits)
    arrays = snapshot(shop, split.validation, settings, prior, tower=load_tower(checkpoint))
    rng, most = np.random.default_rng(settings.train.seed), settings.splits.hidden_per_basket
    hidden = hide_items(shop, split.validation, split.test, recommendable(arrays), most, rng)
    hidden = hidden.sample(settings.train.validation_queries, rng)
    sampler = sampler_of(arrays, settings, contract)
    ranker = served_ranker(model, shop.catalog["item_id"].tolist(), sampler, contract)
    questions = Questions(shop, hidden, sampler, [ranker])
    known, unknown = (
        questions.rank(ThisProcess(), is_known, "ask")[ranker.NAME].ranks for is_known in (True, False)
    )
    groups = Groups.of(shop, arrays, hidden, split.validation, settings)
    users = np.array(settings.train.users or shop.n_users - 1)
    return Answers(known, unknown, groups.repeat, groups.owners, users, np.array(cpu_s))


def compare(answers: Answers, with_all: Answers) -> str:
    """One row of the table: the figures, and the paired differences from training on all users."""
    cells = [f"{answers.users:,}", f"{answers.cpu_s:.0f}"]
    everything = np.ones(len(answers.known), bool)
    parts = [
        (answers.known[chosen], with_all.known[chosen], chosen)
        for chosen in (everything, answers.repeat, ~answers.repeat)
    ]
    parts.append((answers.unknown, with_all.unknown, everything))
    for ranks, ranks_of_all, chosen in parts:
        values, of_all = (gains(each)[:, : len(MEASURES)] for each in (ranks, ranks_of_all))
        means = "/".join(f"{mean:.3f}" for mean in values.mean(0))
        if answers is with_all:
            cells.append(means)
            continue
        rng = np.random.default_rng(0)
        bounds = interval(values - of_all, answers.owners[chosen], 1000, rng)[1]  # of NDCG@10
        cells.append(f"{means} ({bounds[0]:+.4f} to {bounds[1]:+.4f})")
    return "| " + " | ".join(cells) + " |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Train once for each share of the users, and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.growth_offline.sample", description=main.__doc__
    )
    parser.add_argument("--data", type=Path, default=ARTIFACTS / "data", help="etl's tables")
    parser.add_argument("--results", type=Path, default=ARTIFACTS / "growth-offline" / "sample")
    parser.add_argument("--settings", type=Path, help="a toml, as for cesta build")
    parser.add_argument("--shares", type=float, nargs="+", default=[1, 0.5, 0.25])
    given = parser.parse_args(arguments)
    shop, found = load_shop(given.data), []
    for share in given.shares:
        kept = given.results / f"{share:g}.npz"
        if not kept.exists():
            users = None if share == 1 else round(share * (shop.n_users - 1))
            settings = load_settings(given.settings, {"train.users": users})
            folder = given.results / f"{share:g}"
            np.savez(kept, **answer(shop, given.data, folder, settings)._asdict())
        with np.load(kept) as arrays:
            found.append(Answers(**arrays))
    print("| users in training | CPU s | known | repeat | explore | unknown |")
    print("|---:|---:|---|---|---|---|")
    for answers in found:
        print(compare(answers, found[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
