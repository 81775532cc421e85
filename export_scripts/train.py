"""Train the scorer on the sampler's own candidates, the same kind that it ranks when it serves.

The retrieval tower is trained on the baskets before the training period. The scorer learns from the queries
of the training period and stops by those of the validation period. In between, the counts are made anew, so
they are as recent as those of a release. The loss is a softmax over each query's candidates; the hidden item
is the true class.
"""

from pathlib import Path

import numpy as np
import structlog
import torch

from ensemble.candidate_sampler.arrays import SamplerArrays
from export_scripts.durations import stage
from export_scripts.engines.engine import open_engine
from export_scripts.freshness.code import SourceTree
from export_scripts.receipts.shop import Shop, load_shop
from export_scripts.scorer.checkpoint import FittedScorer, made_from, save_checkpoint
from export_scripts.scorer.fitting import choose_explore, fit, new_model
from export_scripts.scorer.prior import fit_prior
from export_scripts.scorer.resume import FOLDER, SavedTraining
from export_scripts.scorer.training_set import Periods, collect_training_sets, make_periods
from export_scripts.scorer.warm_start import find_start, keep_earlier
from export_scripts.settings import Settings
from export_scripts.snapshots import counts, partials
from export_scripts.snapshots.leaks import check_leaks
from export_scripts.snapshots.partials import PartialCounts
from export_scripts.snapshots.retrieval.ranks import continue_in_parallel, train_in_parallel
from export_scripts.snapshots.retrieval.tower import TrainedTower
from export_scripts.snapshots.snapshot import snapshot
from export_scripts.snapshots.splits import split_by_time
from operations.errors import CestaError
from operations.records.contract import read_contract

log = structlog.get_logger()


@stage("train")
def train(settings: Settings, data: Path, checkpoint: Path, warm_from: Path | None = None) -> Path:
    """Fit prior and scorer to the shop in ``data``; write the checkpoint of the best epoch on validation.

    The tower goes on from that of the checkpoint ``warm_from``, by default from that of the last training in
    this place, if it fits (``scorer/warm_start.py``).

    A killed training that is started again continues after its last finished step and ends with the same
    weights (``scorer/resume.py``). A shop too small for a training or validation period gets the linear score
    that training would start from. Raises CestaError if no item sells often enough to be recommended, or if
    ``warm_from`` does not fit.
    """
    shop = load_shop(data)
    check_support(shop, settings)
    split = split_by_time(shop, settings.splits)
    log.info(
        "training period",
        days=round(split.training_days(shop), 1),
        baskets=split.validation - split.training,
        validation_baskets=split.test - split.validation,
    )
    start = find_start(shop, split.training, settings, checkpoint, warm_from)
    started = {"start": start.digest if start else ""}
    saved = SavedTraining(checkpoint.parent / FOLDER, made_from(shop, settings) | made_with() | started)
    with open_engine(settings.engine) as engine:

        def train_tower() -> TrainedTower:
            if start:
                return continue_in_parallel(start.tower, shop, split.training, settings, engine)
            of_item = counts.categories(shop, split.training)[0].of_item
            return train_in_parallel(shop, split.training, of_item, settings, engine)

        tower = saved.load_or_train_tower(train_tower)
        counted = PartialCounts(shop, settings.sampler, checkpoint.parent / partials.FOLDER, engine)
        arrays = saved.load_or_make_arrays(
            lambda: snapshot(shop, split.training, settings, partials=counted, tower=tower)
        )
        periods = make_periods(shop, split, arrays, settings, counted)
    fitted = fit_scorer(shop, arrays, periods, settings, saved)
    keep_earlier(start, checkpoint)
    save_checkpoint(checkpoint, fitted, shop, settings, tower, start.warm if start else 0)
    saved.discard()
    return checkpoint


def fit_scorer(
    shop: Shop, arrays: SamplerArrays, periods: Periods, settings: Settings, saved: SavedTraining
) -> FittedScorer:
    """Fit prior and scorer, which reads the vectors in ``arrays``, to the queries of the ``periods``."""
    contract = read_contract()
    for period in (*periods.training, periods.validation):
        check_leaks(shop, period.arrays, period.start, settings)
    linear, prior = saved.load_or_fit_prior(lambda: fit_prior(shop, periods.training, settings, contract))
    training, validation = collect_training_sets(shop, periods.with_prior(prior), settings, contract)
    untrained = new_model(arrays, training, linear, settings.train)
    model, curve = fit(untrained, training, validation, settings.train, saved)
    return FittedScorer(model, prior, curve, choose_explore(model, validation, settings.train.price_of_new))


def made_with() -> dict[str, str]:
    """List what decides the last bit of the weights besides data and settings."""
    return {"code": SourceTree().digest(__name__), "torch": torch.__version__, "numpy": np.__version__}


def check_support(shop: Shop, settings: Settings) -> None:
    """Raise CestaError if no item is in enough baskets to be recommended."""
    best, least = int(counts.support(shop, shop.n_baskets).max()), settings.sampler.min_support
    if best < least:
        raise CestaError(
            f"no item is in {least} baskets (sampler.min_support); the best seller is in {best} of "
            f"{shop.n_baskets}: give more receipts, or lower sampler.min_support"
        )
