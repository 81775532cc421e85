"""Train the scorer on the sampler's own candidates: what it learns on is what it will be served.

The tower stops where the training period begins, the training queries follow, the validation queries come
last. Counts are made anew in between: they are then as old as those that serve. The loss is a softmax over
each query's candidates, with the hidden item as the truth.
"""

from pathlib import Path

import numpy as np
import torch

from export_scripts.freshness.ledger import code_digest
from export_scripts.receipts.shop import Shop, load_shop
from export_scripts.scorer.checkpoint import made_from, save_checkpoint
from export_scripts.scorer.fitting import fit, lean_to_new, new_model
from export_scripts.scorer.prior import fit_prior
from export_scripts.scorer.resume import FOLDER, Resume
from export_scripts.scorer.training_set import periods, training_sets
from export_scripts.settings import Settings
from export_scripts.snapshots import counts
from export_scripts.snapshots.leaks import check_leaks
from export_scripts.snapshots.snapshot import snapshot
from export_scripts.snapshots.splits import split_by_time
from operations.errors import CestaError
from operations.records.contract import read_contract


def train(settings: Settings, data: Path, checkpoint: Path) -> Path:
    """Fit prior and scorer to the shop in ``data``; write the checkpoint of the best epoch on validation.

    Killed and started again it goes on after the last finished step (``resume``), to the same weights.
    A shop too small for a period of training or validation gets the linear blend that training starts at.
    Raises CestaError if no item sells often enough to be recommended at all.
    """
    shop, contract, s = load_shop(data), read_contract(), settings.train
    check_support(shop, settings)
    split = split_by_time(shop, settings.splits)
    kept = Resume(checkpoint.parent / FOLDER, made_from(shop, settings) | made_with())
    arrays = kept.arrays(lambda: snapshot(shop, split.training, settings))
    asked = periods(shop, split, arrays, settings)
    for period in (*asked.training, asked.validation):
        check_leaks(shop, period.arrays, period.start, settings)
    prior = kept.prior(lambda: fit_prior(shop, asked.training, settings, contract))
    training, validation = training_sets(shop, asked.with_prior(prior), settings, contract)
    model, curve = fit(new_model(arrays, training, prior, s), training, validation, s, kept)
    lean_to_new(model, validation, s.price_of_new)
    save_checkpoint(checkpoint, model, prior, shop, settings, curve)
    kept.discard()
    return checkpoint


def made_with() -> dict[str, str]:
    """What else than data and settings decides the last bit of the weights."""
    return {"code": code_digest(), "torch": torch.__version__, "numpy": np.__version__}


def check_support(shop: Shop, settings: Settings) -> None:
    """Raise CestaError if no item is in enough baskets to be recommended."""
    best, least = int(counts.support(shop, shop.n_baskets).max()), settings.sampler.min_support
    if best < least:
        raise CestaError(
            f"no item is in {least} baskets (sampler.min_support); the best seller is in {best} of "
            f"{shop.n_baskets}: give more receipts, or lower sampler.min_support"
        )
