"""The prior: the linear score that the scorer's training starts from, and that chooses the candidates.

The likeliest items fill a known user's candidates with repeats, the last of which hardly ever enter a list.
So the sampler's prior raises items that are new to the user, as far as its candidates hold no fewer hidden
items.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from torch import nn

from ensemble.candidate_sampler.features import FEATURES
from export_scripts.durations import step
from export_scripts.receipts.shop import Shop
from export_scripts.scorer.training_set import Period, collect, sample_periods
from export_scripts.settings import Settings
from export_scripts.snapshots.snapshot import untrained_prior
from export_scripts.thread_count import ThreadCount
from operations.records.contract import Contract

log = structlog.get_logger()

PRIOR_QUERIES = 2_000  # enough for a score of 28 weights
PRIOR_ITERATIONS = 50  # of L-BFGS at most; it ends after 20 to 30, where the loss no longer changes
PRIOR_CANDIDATES = 1_536  # far more than C: the prior must also rank items that a full list cuts off
# Ridge over all queries: 40 queries pin the weights to the blend, 2,000 hardly do. A ridge of 10 loses 0.05
# of the unknown users' NDCG@10 at 50 queries.
PRIOR_RIDGE = 40.0
RAISES = [step / 4 for step in range(9)]  # tried for items new to the user, in log odds
NEW_TO_USER = FEATURES.index("new_to_user")


@step("prior")
def fit_prior(
    shop: Shop, training: Sequence[Period], settings: Settings, contract: Contract
) -> NDArray[np.float32]:
    """Fit a linear score by a softmax over long lists; return the weights (2, F) of score and prior.

    The prior is the score with new items raised; it keeps the best C candidates.

    The weights are those of the untrained blend times a free scale, plus a deviation. The ridge penalises the
    deviation, so a shop with few queries stays close to the blend.
    """
    wide = replace(contract, candidates=PRIOR_CANDIDATES)
    rng = np.random.default_rng(settings.train.seed)
    periods = sample_periods(training, PRIOR_QUERIES, rng)
    examples = collect(shop, periods, settings, wide, "prior", rng, anonymous=settings.train.user_dropout)
    if not len(examples):
        return np.stack([untrained_prior()] * 2)
    features = torch.from_numpy(examples.features).float()
    padding = torch.from_numpy(examples.rows == 0)
    mean, std = moments(features, ~padding)
    features = ((features - mean) / std).masked_fill(padding.unsqueeze(-1), 0)
    target = torch.from_numpy(examples.target)
    blend = torch.from_numpy(untrained_prior()) * std
    fitted = fit_linear(features, padding, target, blend)
    scores = (features @ fitted).masked_fill(padding, -torch.inf)
    new = torch.from_numpy(examples.features[:, :, NEW_TO_USER]).float()
    weights = np.stack([(fitted / std).numpy()] * 2)
    weights[1, NEW_TO_USER] += choose_raise(scores, new, target, contract.candidates)
    return weights


def fit_linear(
    features: torch.Tensor, padding: torch.Tensor, target: torch.Tensor, blend: torch.Tensor
) -> torch.Tensor:
    """Return the weights (F,) of the least loss, by L-BFGS: the loss is convex.

    ``features`` (n, c, F) are standardised, ``padding`` (n, c) marks places without an item, and ``target``
    (n,) are the places of the hidden items. The ridge draws the weights to a multiple of the ``blend`` (F,).
    """
    scale, deviation = torch.ones(1, requires_grad=True), torch.zeros(len(blend), requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [scale, deviation],
        max_iter=PRIOR_ITERATIONS,
        tolerance_grad=1e-4,
        tolerance_change=1e-7,
        line_search_fn="strong_wolfe",
    )

    def loss_and_gradient() -> torch.Tensor:
        logits = (features @ (scale * blend + deviation)).masked_fill(padding, -1e9)
        ridge = PRIOR_RIDGE / len(features) * deviation.square().sum()
        loss = nn.functional.cross_entropy(logits, target) + ridge
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        return loss

    with ThreadCount(1):  # the last bits depend on the number of threads
        optimizer.step(loss_and_gradient)  # type: ignore[no-untyped-call]
    return (scale * blend + deviation).detach()


def choose_raise(scores: torch.Tensor, new: torch.Tensor, target: torch.Tensor, capacity: int) -> float:
    """Return the largest of the RAISES with which the best ``capacity`` hold no fewer hidden items.

    ``scores`` (n, c) are those of the candidates, ``new`` (n, c) is 1 for items that are new to the user, and
    ``target`` (n,) are the places of the hidden items, whether new or not. It is 0 if no raise changes which
    candidates are kept.
    """
    real, is_new = scores > -torch.inf, new > 0
    mixed = (real & is_new).any(1) & (real & ~is_new).any(1)
    if not (mixed & (real.sum(1) > capacity)).any():
        return 0.0

    def count_kept(raised: float) -> int:
        lifted = scores + raised * new
        better = (lifted > lifted.gather(1, target[:, None])).sum(1)
        return int((better < capacity).sum())

    kept = [count_kept(raised) for raised in RAISES]
    chosen = max(i for i, number in enumerate(kept) if number >= kept[0])
    log.info("sampler leans to new", added=RAISES[chosen], kept=kept[chosen], before=kept[0], of=len(target))
    return RAISES[chosen]


def moments(features: torch.Tensor, real: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation (F,) of the features over the candidates that are not padding.

    The deviation of a feature that hardly varies is set to 1: divided by a tiny one, the feature's first
    other value would dominate every score.
    """
    values = features[real]
    if len(values) == 0:
        return torch.zeros(features.shape[-1]), torch.ones(features.shape[-1])
    mean, std = values.mean(0), values.std(0, correction=0)
    return mean, torch.where(std > 1e-4 + 1e-3 * mean.abs(), std, 1.0)
