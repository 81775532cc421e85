"""Measures retrieval towers on the validation period: ``python -m tests.model.tower_quality``.

All towers end where the period begins, like the tower of a release made at that moment: one is new, the
others are the tower of the beginning of the training period, trained on. For each, one line says

steps, CPU seconds   of its training, or of its going on
tower@600            share of hidden items among the 600 items of the largest inner products, without sampler
sampler@600          share of hidden items among 600 candidates of the sampler, from all of its sources
NDCG@10              of the lists that the checkpoint's scorer makes with a release of that moment

With --set, settings differ from the defaults. --tower-only leaves out the lists and needs no checkpoint.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ensemble.candidate_sampler.arrays import Clock, Retrieval, SamplerArrays
from export_scripts.engines.local import ThisProcess
from export_scripts.quality.groups import bought_before
from export_scripts.quality.losses import measure_recall
from export_scripts.quality.metrics import gains, interval
from export_scripts.quality.questions import Questions
from export_scripts.quality.rankers import ServedRanker
from export_scripts.quality.served import served_ranker
from export_scripts.receipts.shop import Shop, load_shop
from export_scripts.scorer.checkpoint import load_checkpoint, load_tower
from export_scripts.settings import Settings, load_settings
from export_scripts.snapshots import counts
from export_scripts.snapshots.leaks import check_leaks
from export_scripts.snapshots.retrieval.tower import TrainedTower
from export_scripts.snapshots.retrieval.training import continue_tower, new_tower
from export_scripts.snapshots.snapshot import sampler_of, snapshot
from export_scripts.snapshots.splits import HiddenItems, Split, hide_items, split_by_time
from operations.outputs import Outputs
from operations.records.contract import read_contract

NEW: Final = "new"
BATCH: Final = 500
RECALL_AT: Final = 600

Bools = NDArray[np.bool_]


def main() -> None:
    """Print one line for each tower."""
    arguments = parse()
    out, changes = Outputs(arguments.out), dict(change.split("=", 1) for change in arguments.set)
    settings = load_settings(overrides=changes)
    shop = load_shop(out.data)
    split = split_by_time(shop, settings.splits)
    marks = counts.support(shop, split.validation) >= settings.sampler.min_support
    rng = np.random.default_rng(settings.train.seed)
    hidden = hide_items(
        shop, split.validation, split.test, marks, settings.splits.hidden_per_basket, rng
    ).sample(arguments.queries, rng)
    repeat = repeats(shop, hidden)
    lists = None if arguments.tower_only else Lists(shop, split, hidden, settings, out.checkpoint)
    first: NDArray[np.float64] | None = None
    print("tower               steps  CPU s  tower@600: known repeat explore no user", end="")
    print("  sampler@600: known repeat explore  NDCG@10: as tower@600, difference" if lists else "")
    for name in arguments.towers:
        began = time.process_time()
        tower, steps = trained(name, shop, split, settings, out.checkpoint)
        line = f"{name:20}{steps:5}{time.process_time() - began:7.1f}"
        hits = [found(tower.vectors(), shop, hidden, marks, known) for known in (True, False)]
        line += "  " + by_kind(hits[0], hits[1], repeat)
        if lists:
            line += "  " + lists.recall(tower, repeat)
            known, unknown = lists.ndcg(tower)
            first = known if first is None else first
            owners = shop.users[hidden.baskets].astype(np.int64)
            low, high = interval((known - first)[:, None], owners, 1_000, np.random.default_rng(1))[0]
            line += f"  {by_kind(known, unknown, repeat)}  {low:+.4f} to {high:+.4f}"
        print(line, flush=True)


def parse() -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("artifacts"), help="with data/ and checkpoint.pt")
    parser.add_argument("--towers", nargs="+", default=[NEW, "0.2"], help=f"{NEW}, or a share to go on for")
    parser.add_argument("--queries", type=int, default=6_000)
    parser.add_argument("--tower-only", action="store_true")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    return parser.parse_args()


def trained(
    name: str, shop: Shop, split: Split, settings: Settings, checkpoint: Path
) -> tuple[TrainedTower, int]:
    """Return the tower ``name`` at the beginning of validation, and the steps that this took."""
    if name == NEW:
        of_item = counts.categories(shop, split.validation)[0].of_item
        tower, chosen = new_tower(shop, of_item, settings), settings
    else:
        retrieval = settings.retrieval.model_copy(update={"continued": float(name)})
        tower, chosen = load_tower(checkpoint), settings.model_copy(update={"retrieval": retrieval})
    later = continue_tower(tower, shop, split.validation, chosen)
    return later, later.steps - tower.steps


class Lists:
    """The lists of the checkpoint's scorer in a release of the moment when validation begins."""

    def __init__(self, shop: Shop, split: Split, hidden: HiddenItems, settings: Settings, checkpoint: Path):
        self._shop, self._split, self._hidden, self._settings = shop, split, hidden, settings
        self._model, self._prior = load_checkpoint(checkpoint, shop, settings)
        self._arrays: SamplerArrays | None = None

    def ndcg(self, tower: TrainedTower) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return (n,) NDCG@10 of each question with its user, and without."""
        contract = read_contract()
        questions = self._questions(self._release(tower))
        item_ids = self._shop.catalog["item_id"].tolist()
        ranker = served_ranker(self._model, item_ids, questions.sampler, contract)
        questions = replace(questions, rankers=[ranker])
        known, unknown = (
            gains(questions.rank(ThisProcess(), user, "lists")[ServedRanker.NAME].ranks)[:, 1]
            for user in (True, False)
        )
        return known, unknown

    def recall(self, tower: TrainedTower, repeat: Bools) -> str:
        """Return the shares of hidden items among 600 candidates: of all questions, repeats, explorations."""
        arrays = self._release(tower)
        shares = measure_recall(self._questions(arrays), arrays, self._settings, read_contract(), repeat)
        return " ".join(f"{share:.4f}" for share in shares["at"][str(RECALL_AT)].values())

    def _release(self, tower: TrainedTower) -> SamplerArrays:
        moment = self._split.validation
        if self._arrays is None:
            self._arrays = snapshot(self._shop, moment, self._settings, self._prior, tower)
            check_leaks(self._shop, self._arrays, moment, self._settings)
        return self._arrays._replace(retrieval=tower.vectors())

    def _questions(self, arrays: SamplerArrays) -> Questions:
        return Questions(self._shop, self._hidden, sampler_of(arrays, self._settings, read_contract()))


def found(vectors: Retrieval, shop: Shop, hidden: HiddenItems, marks: Bools, known: bool) -> Bools:
    """Return (n,) is the hidden item among the RECALL_AT recommendable items nearest to its query?"""
    pool = np.flatnonzero(marks)
    column = np.full(shop.n_items, -1)
    column[pool] = np.arange(len(pool))
    hits = [np.zeros(0, bool)]
    for batch in hidden.batches(BATCH):
        baskets = [shop.basket(b) for b in batch.baskets]
        asked = [basket[basket != item] for basket, item in zip(baskets, batch.items, strict=True)]
        pooled = [vectors.basket[rows].sum(0) / np.sqrt(len(rows)) for rows in asked]
        users = vectors.users[shop.users[batch.baskets] * known]
        products = (users + np.stack(pooled)) @ vectors.items[pool].T
        for row, rows in enumerate(asked):
            inside = column[rows]
            products[row, inside[inside >= 0]] = -np.inf
        wanted = np.take_along_axis(products, column[batch.items][:, None], 1)
        hits.append((products > wanted).sum(1) < RECALL_AT)
    return np.concatenate(hits)


def repeats(shop: Shop, hidden: HiddenItems) -> Bools:
    """Return (n,) did the query's user buy the hidden item before?"""
    histories = counts.histories(shop, shop.n_baskets, shop.n_baskets)
    clock = Clock(np.array(0), np.array(shop.day, np.float32))
    arrays = SamplerArrays(*[None] * len(SamplerArrays._fields))  # type: ignore[arg-type]  # two are read
    arrays = arrays._replace(histories=histories, clock=clock)
    return bought_before(shop, arrays, hidden, hidden.items[:, None])[:, 0]


def by_kind(known: NDArray[np.generic], unknown: NDArray[np.generic], repeat: Bools) -> str:
    """Format the means of the values (n,) by kind of question."""
    groups: Sequence[NDArray[np.generic]] = (known, known[repeat], known[~repeat], unknown)
    return " ".join(f"{float(group.mean()):.4f}" for group in groups)


if __name__ == "__main__":
    main()
