"""Compares towers that went on from week to week with new ones: ``python -m tests.model.warm_starts``.

For each number of --weeks, a tower is trained for a retraining so many weeks before the demo's test month,
and goes on once a week until that month begins. There it meets a new tower. Each gets a scorer of its own,
and both releases answer the same questions about the last 28 days before the test month. The columns are

steps, CPU seconds   of the last tower's training, or of its going on
tower@600            share of hidden items among the 600 items of the largest inner products, without sampler,
                     in the 28 days after the tower's end
HR@10, NDCG@10       of the release, trained on 20,000 queries in 3 epochs, unless --set says otherwise
difference           of NDCG@10, with its paired 95 % interval
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ensemble.candidate_sampler.arrays import SamplerArrays
from export_scripts.engines.local import ThisProcess
from export_scripts.quality.groups import Groups
from export_scripts.quality.metrics import gains, interval
from export_scripts.quality.questions import Questions
from export_scripts.quality.rankers import ServedRanker
from export_scripts.quality.served import served_ranker
from export_scripts.receipts.shop import Shop, load_shop
from export_scripts.scorer.explore import add_explore
from export_scripts.scorer.ncf import NCF
from export_scripts.scorer.resume import SavedTraining
from export_scripts.scorer.training_set import make_periods
from export_scripts.settings import Settings, load_settings
from export_scripts.snapshots import counts
from export_scripts.snapshots.partials import PartialCounts
from export_scripts.snapshots.retrieval.tower import TrainedTower
from export_scripts.snapshots.retrieval.training import continue_tower, new_tower
from export_scripts.snapshots.snapshot import recommendable, sampler_of, snapshot
from export_scripts.snapshots.splits import hide_items, split_by_time
from export_scripts.train import fit_scorer
from operations.outputs import ARTIFACTS
from operations.records.contract import read_contract
from tests.model.tower_quality import by_kind, found, repeats

WEEK_DAYS: Final = 7
AFTER_DAYS: Final = 28
SMALL: Final = {"train.training_queries": 20_000, "train.validation_queries": 3_000, "train.epochs": 3}


class Answers(NamedTuple):
    """HR@10 and NDCG@10 (n, 2) of each question, with its user and without; its kind and its owner."""

    known: NDArray[np.float64]
    unknown: NDArray[np.float64]
    repeat: NDArray[np.bool_]
    owners: NDArray[np.int64]


class Trained(NamedTuple):
    """A tower, and what its last training took."""

    tower: TrainedTower
    steps: int
    cpu_s: float


def main() -> None:
    """Print two lines for each number of weeks."""
    given = parse()
    settings = load_settings(overrides=SMALL | dict(change.split("=", 1) for change in given.set))
    shop = load_shop(given.data)
    before_test = shop.times[split_by_time(shop, settings.splits).test]
    print("weeks start steps  CPU s  tower@600: known repeat explore no user  HR@10, NDCG@10: the same")
    for weeks in given.weeks:
        ends = [int(before_test - shop.day * WEEK_DAYS * ago) for ago in range(weeks, -1, -1)]
        shops = [cut(shop, end) for end in ends]
        warm = train_tower(shops[0], None, settings)
        for later in shops[1:]:
            warm = train_tower(later, warm.tower, settings)
        new = train_tower(shops[-1], None, settings)
        first: Answers | None = None
        for name, trained in (("new", new), ("warm", warm)):
            line = f"{weeks:5} {name:5} {trained.steps:5}{trained.cpu_s:7.1f}  "
            line += recall(shops[-1], trained.tower, settings, given.queries)
            if not given.tower_only:
                answers = ask(shops[-1], trained.tower, settings, given.queries)
                first = first or answers
                line += "  " + describe(answers, first)
            print(line, flush=True)


def parse() -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, default=ARTIFACTS / "data", help="etl's tables")
    parser.add_argument("--weeks", type=int, nargs="+", default=[1, 4, 12])
    parser.add_argument("--queries", type=int, default=8_000)
    parser.add_argument("--tower-only", action="store_true")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    return parser.parse_args()


def cut(shop: Shop, time: int) -> Shop:
    """Return the shop as it was at ``time``."""
    n = shop.first_basket_at(time)
    return replace(
        shop,
        offsets=shop.offsets[: n + 1],
        items=shop.items[: shop.offsets[n]],
        users=shop.users[:n],
        times=shop.times[:n],
        fingerprint=f"{shop.fingerprint} until {time}",
    )


def train_tower(shop: Shop, earlier: TrainedTower | None, settings: Settings) -> Trained:
    """Train a new tower to the begin of the training period, or go on with an ``earlier`` one."""
    end = split_by_time(shop, settings.splits).training
    tower = earlier or new_tower(shop, counts.categories(shop, end)[0].of_item, settings)
    begun = time.process_time()
    later = continue_tower(tower, shop, end, settings)
    return Trained(later, later.steps - tower.steps, time.process_time() - begun)


def recall(shop: Shop, tower: TrainedTower, settings: Settings, queries: int) -> str:
    """Ask about the days after the tower's end, by the tower alone."""
    marks = counts.support(shop, tower.end) >= settings.sampler.min_support
    end = shop.first_basket_at(int(shop.times[tower.end] + shop.day * AFTER_DAYS))
    rng, most = np.random.default_rng(settings.train.seed), settings.splits.hidden_per_basket
    hidden = hide_items(shop, tower.end, end, marks, most, rng).sample(queries, rng)
    hits = [found(tower.vectors(), shop, hidden, marks, known) for known in (True, False)]
    return by_kind(hits[0], hits[1], repeats(shop, hidden))


def ask(shop: Shop, tower: TrainedTower, settings: Settings, queries: int) -> Answers:
    """Train a scorer with the tower; ask about the last days as ``cesta evaluate`` does."""
    split = split_by_time(shop, settings.splits)
    with tempfile.TemporaryDirectory() as folder:
        counted = PartialCounts(shop, settings.sampler, Path(folder) / "counts", ThisProcess())
        saved = SavedTraining(Path(folder) / "training", {})
        arrays = snapshot(shop, split.training, settings, partials=counted, tower=tower)
        periods = make_periods(shop, split, arrays, settings, counted)
        fitted = fit_scorer(shop, arrays, periods, settings, saved)
        add_explore(fitted.model, fitted.explore)
        arrays = snapshot(shop, split.test, settings, fitted.prior, counted, tower)
    return answer(shop, fitted.model, arrays, settings, queries)


def answer(shop: Shop, model: NCF, arrays: SamplerArrays, settings: Settings, queries: int) -> Answers:
    """Ask the scorer about the test period, whose release has the ``arrays``."""
    split, contract = split_by_time(shop, settings.splits), read_contract()
    rng, most = np.random.default_rng(settings.train.seed), settings.splits.hidden_per_basket
    hidden = hide_items(shop, split.test, split.end, recommendable(arrays), most, rng).sample(queries, rng)
    sampler = sampler_of(arrays, settings, contract)
    ranker = served_ranker(model, shop.catalog["item_id"].tolist(), sampler, contract)
    questions = Questions(shop, hidden, sampler, [ranker])
    known, unknown = (
        gains(questions.rank(ThisProcess(), user, "lists")[ServedRanker.NAME].ranks)[:, :2]
        for user in (True, False)
    )
    groups = Groups.of(shop, arrays, hidden, split.test, settings)
    return Answers(known, unknown, groups.repeat, groups.owners)


def describe(answers: Answers, first: Answers) -> str:
    """Format the figures by kind of question, and the differences in NDCG@10 from the ``first``."""
    repeat = answers.repeat
    pairs: Sequence[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]] = (
        (answers.known, first.known, np.ones(len(repeat), bool)),
        (answers.known, first.known, repeat),
        (answers.known, first.known, ~repeat),
        (answers.unknown, first.unknown, np.ones(len(repeat), bool)),
    )
    cells = []
    for mine, theirs, chosen in pairs:
        if not chosen.any():  # no user is known, or nobody buys anything again
            cells.append("-")
            continue
        cell = "/".join(f"{mean:.4f}" for mean in mine[chosen].mean(0))
        if answers is not first:
            differences = (mine - theirs)[chosen][:, 1:]
            bounds = interval(differences, answers.owners[chosen], 1_000, np.random.default_rng(1))
            cell += f" ({bounds[0][0]:+.4f} to {bounds[0][1]:+.4f})"
        cells.append(cell)
    return " ".join(cells)


if __name__ == "__main__":
    main()
