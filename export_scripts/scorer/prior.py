"""The prior: the linear score that training starts at, and that chooses the candidates."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from export_scripts.receipts.shop import Shop
from export_scripts.scorer.training_set import Period, collect, sampled
from export_scripts.settings import Settings
from export_scripts.snapshots.snapshot import untrained_prior
from operations.records.contract import Contract

PRIOR_QUERIES = 2_000  # enough for a score of 20 weights
PRIOR_CANDIDATES = 1_536  # far more than C: the prior must rank what a full list would cut off
PRIOR_RIDGE = 40.0  # over the queries: 40 hold it firmly, 2,000 hardly; 10 lose .05 of NDCG for nobody at 50


def fit_prior(
    shop: Shop, asked: Sequence[Period], settings: Settings, contract: Contract
) -> NDArray[np.float32]:
    """(F,) weights of the linear score that keeps the best C candidates, by a softmax over long lists.

    A shop decides for itself what repeats and what popularity are worth: the fewer queries it has, the more
    it is held (ridge) to the untrained blend, of which it may choose the scale.
    """
    wide = Contract(contract.basket_slots, PRIOR_CANDIDATES, contract.features, contract.answers)
    s = settings.train
    rng = np.random.default_rng(s.seed)
    some = sampled(asked, PRIOR_QUERIES, rng)
    examples = collect(shop, some, settings, wide, "prior", rng, anonymous=s.user_dropout)
    if not len(examples):
        return untrained_prior()
    features = torch.from_numpy(examples.features).float()
    padding = torch.from_numpy(examples.rows == 0)
    mean, std = moments(features, ~padding)
    features = ((features - mean) / std).masked_fill(padding.unsqueeze(-1), 0)
    target = torch.from_numpy(examples.target)
    blend = torch.from_numpy(untrained_prior()) * std
    scale, apart = torch.ones(1, requires_grad=True), torch.zeros(contract.features, requires_grad=True)
    optimizer = torch.optim.Adam([scale, apart], lr=0.05)
    for _ in range(200):
        logits = (features @ (scale * blend + apart)).masked_fill(padding, -1e9)
        held = PRIOR_RIDGE / len(examples) * apart.square().sum()
        loss = nn.functional.cross_entropy(logits, target) + held
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return ((scale * blend + apart).detach() / std).numpy()


def moments(features: torch.Tensor, real: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation (F,) over the candidates that are not padding.

    A feature that hardly varies keeps 1: over next to nothing, its first other value would swamp all else.
    """
    values = features[real]
    if len(values) == 0:
        return torch.zeros(features.shape[-1]), torch.ones(features.shape[-1])
    mean, std = values.mean(0), values.std(0, correction=0)
    return mean, torch.where(std > 1e-4 + 1e-3 * mean.abs(), std, 1.0)
