"""Compares releases that have the tower of before with those of now: ``python -m tests.model.tower_before``.

BEFORE is the file of the tower as it was before decision 85:

git show d1a25aa:export_scripts/snapshots/tower.py > artifacts/tower_before.py

It trains a new tower for the training period and another for the release. The tower of now is trained for the
training period and goes on to the release. Everything else is one code: counts, prior, scorer, questions.

The receipts end where the test period begins. The questions are those of the last 28 days before it, which
neither training has seen. For each shop and seed, and for all of them together, two lines say

HR@10, NDCG@10       with the user: all, repeat, explore; then without the user
difference           of NDCG@10, now less before, with its paired 95 % interval
"""

import argparse
import importlib.util
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from ensemble.candidate_sampler.arrays import Prior, Retrieval, SamplerArrays
from export_scripts.engines.local import ThisProcess
from export_scripts.receipts.shop import Shop, load_shop
from export_scripts.scorer.explore import add_explore
from export_scripts.scorer.resume import SavedTraining
from export_scripts.scorer.training_set import make_periods
from export_scripts.settings import Settings, load_settings
from export_scripts.snapshots.partials import PartialCounts
from export_scripts.snapshots.snapshot import recommendable, snapshot
from export_scripts.snapshots.splits import split_by_time
from export_scripts.train import fit_scorer
from tests.model.warm_starts import Answers, answer, cut, describe, train_tower

WAYS: Final = ("before", "now")

Tower = Callable[[Shop, int, SamplerArrays, Settings], Retrieval]


def main() -> None:
    """Print two lines for each shop and seed, and two for all of them together."""
    given = parse()
    before = load_tower_of_before(given.before)
    changes = dict(change.split("=", 1) for change in given.set)
    print("seed tower   HR@10/NDCG@10: known repeat explore no user")
    found: dict[str, list[Answers]] = {way: [] for way in WAYS}
    for data in given.data:
        whole = load_shop(data)
        for seed in given.seeds:
            settings = load_settings(overrides={"train.seed": seed} | changes)
            shop = cut(whole, int(whole.times[split_by_time(whole, settings.splits).test]))
            for way, answers in compare(shop, settings, before, given.queries).items():
                found[way].append(answers)
                line = describe(answers, found[WAYS[0]][-1])
                print(f"{data}\n{seed:4} {way:6}  {line}", flush=True)
    first, now = (together(found[way], len(given.seeds)) for way in WAYS)
    for way, answers in zip(WAYS, (first, now), strict=True):
        print(f" all {way:6}  {describe(answers, first)}")
    print(f"{len(now.known):,} questions")


def parse() -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("before", type=Path, help="the file of the tower of before")
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="etl's tables of each shop")
    parser.add_argument("--seeds", type=int, nargs="+", default=[7])
    parser.add_argument("--queries", type=int, default=4_000)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    return parser.parse_args()


def load_tower_of_before(file: Path) -> Tower:
    """Return the function of ``file`` that trains a new tower."""
    spec = importlib.util.spec_from_file_location("tower_before", file)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def train(shop: Shop, end: int, arrays: SamplerArrays, settings: Settings) -> Retrieval:
        marks, of_item = recommendable(arrays), arrays.categories.of_item
        vectors: Retrieval = module.train_tower(
            shop, end, marks, of_item, settings.retrieval, settings.train.seed
        )
        return vectors

    return train


def compare(shop: Shop, settings: Settings, before: Tower, queries: int) -> dict[str, Answers]:
    """Make a release with each tower, and ask both the same questions."""
    split = split_by_time(shop, settings.splits)
    tower = train_tower(shop, None, settings).tower
    answers = {}
    with tempfile.TemporaryDirectory() as folder:
        counted = PartialCounts(shop, settings.sampler, Path(folder) / "counts", ThisProcess())
        past = snapshot(shop, split.training, settings, partials=counted, tower=tower)
        release = snapshot(shop, split.test, settings, partials=counted, tower=tower)
        for way in WAYS:
            if way == "before":
                arrays, served = (
                    made._replace(retrieval=before(shop, end, made, settings))
                    for made, end in ((past, split.training), (release, split.test))
                )
            else:
                arrays, served = past, release
            periods = make_periods(shop, split, arrays, settings, counted)
            saved = SavedTraining(Path(folder) / way, {})
            fitted = fit_scorer(shop, arrays, periods, settings, saved)
            add_explore(fitted.model, fitted.explore)
            served = served._replace(prior=Prior(fitted.prior))
            answers[way] = answer(shop, fitted.model, served, settings, queries)
    return answers


def together(parts: Sequence[Answers], seeds: int) -> Answers:
    """Join the answers of several shops, whose users are others, and of the ``seeds`` of each."""
    owners, above = [], 0
    for shop in range(0, len(parts), seeds):
        of_shop = [part.owners for part in parts[shop : shop + seeds]]
        owners += [numbers + above for numbers in of_shop]
        above += max(int(numbers.max()) for numbers in of_shop) + 1
    joined = [np.concatenate([part[k] for part in parts]) for k in range(3)]
    return Answers(joined[0], joined[1], joined[2], np.concatenate(owners))


if __name__ == "__main__":
    main()
