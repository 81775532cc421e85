"""Prints what the values of ranking.explore find on validation: ``python -m tests.model.repeat_or_explore``.

The questions are those by which ``cesta train`` chose a value, with counts of their moment. The columns are
HR@10 and NDCG@10 of all of them, and HR@10 of repeat and of explore. Rankers without training follow.
"""

import argparse
from pathlib import Path

import numpy as np

from export_scripts.engines.local import ThisProcess
from export_scripts.quality.frontier import measure_frontier, values_around
from export_scripts.quality.groups import Groups
from export_scripts.quality.metrics import gains
from export_scripts.quality.questions import Questions
from export_scripts.quality.rankers import ServedRanker, UntrainedRankers
from export_scripts.quality.served import served_ranker
from export_scripts.receipts.shop import load_shop
from export_scripts.scorer.checkpoint import load_checkpoint, load_chosen_explore, load_tower
from export_scripts.settings import load_settings
from export_scripts.snapshots import partials
from export_scripts.snapshots.partials import PartialCounts
from export_scripts.snapshots.snapshot import recommendable, sampler_of, snapshot
from export_scripts.snapshots.splits import hide_items, split_by_time
from operations.outputs import ARTIFACTS, Outputs
from operations.records.contract import read_contract


def main() -> None:
    """Print a line for each value and each ranker."""
    given = parse()
    settings, contract, out = load_settings(), read_contract(), Outputs(given.out)
    shop = load_shop(out.data)
    split, chosen = split_by_time(shop, settings.splits), load_chosen_explore(out.checkpoint)
    model, prior = load_checkpoint(out.checkpoint, shop, settings)
    counted = PartialCounts(shop, settings.sampler, out.checkpoint.parent / partials.FOLDER, ThisProcess())
    tower = load_tower(out.checkpoint)
    arrays = snapshot(shop, split.validation, settings, prior, partials=counted, tower=tower)
    rng, most = np.random.default_rng(settings.train.seed), settings.splits.hidden_per_basket
    hidden = hide_items(shop, split.validation, split.test, recommendable(arrays), most, rng)
    hidden = hidden.sample(settings.train.validation_queries, rng).sample(given.queries, rng)
    sampler = sampler_of(arrays, settings, contract)
    moves = [value - chosen for value in values_around(chosen, chosen)]
    ours = served_ranker(model, shop.catalog["item_id"].tolist(), sampler, contract, moves=moves)
    questions = Questions(shop, hidden, sampler, [ours, UntrainedRankers(arrays)])
    placed = questions.rank(ThisProcess(), True, "validation")
    groups = Groups.of(shop, arrays, hidden, split.validation, settings)
    print(f"{len(hidden):,} questions; validation chose {chosen:g}")
    for point in measure_frontier(groups, placed[ServedRanker.NAME], chosen, chosen)["points"]:
        figures = (point["hr_at_10"], point["ndcg_at_10"], point["repeat"], point["explore"])
        print(f"{point['value']:+34.1f} " + " ".join(f"{figure:.4f}" for figure in figures))
    for name in UntrainedRankers(arrays).names:
        hr, ndcg, _ = gains(placed[name].ranks).T
        figures = (hr.mean(), ndcg.mean(), hr[groups.repeat].mean(), hr[~groups.repeat].mean())
        print(f"{name:>34} " + " ".join(f"{figure:.4f}" for figure in figures))


def parse() -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=ARTIFACTS, help="where data and checkpoint are")
    parser.add_argument("--queries", type=int, default=10_000)
    return parser.parse_args()


if __name__ == "__main__":
    main()
