"""Fitting the scorer: epochs until validation stops improving, then the lean to items new to a user."""

from copy import deepcopy

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from torch import nn

from ensemble.candidate_sampler.arrays import SamplerArrays
from ensemble.candidate_sampler.features import FEATURES
from export_scripts.progress import Progress
from export_scripts.scorer.checkpoint import UNTRAINED, Curve
from export_scripts.scorer.ncf import NCF, NCFShape
from export_scripts.scorer.prior import moments
from export_scripts.scorer.resume import Resume, Stateful
from export_scripts.scorer.training_set import TrainingSet
from export_scripts.settings import TrainSettings

log = structlog.get_logger()

LEAST_BATCHES, LEAST_BATCH = 20, 32  # a small shop gets smaller batches before it gets too few steps
LEANS = [step / 10 for step in range(13)]  # what lean_to_new tries, in the score's unit: log odds
NEW_TO_USER = FEATURES.index("new_to_user")
SCALE_SAMPLE = 4_000  # queries whose candidates tell the features' mean and spread


def fit(
    model: NCF, training: TrainingSet, validation: TrainingSet, s: TrainSettings, kept: Resume | None = None
) -> tuple[NCF, Curve]:
    """``model`` after the best epoch by validation loss; its wide term alone if no epoch betters that."""
    rng = np.random.default_rng(s.seed)
    best = deepcopy(model)  # until an epoch betters it, the wide term alone
    nn.init.zeros_(best.gmf_weights)
    if not len(training) or not len(validation):
        log.warning(
            "not trained, ranks by the prior alone: a period of [splits] has no questions",
            training_queries=len(training),
            validation_queries=len(validation),
        )
        return best.eval(), UNTRAINED
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=s.learning_rate, weight_decay=s.weight_decay)
    batches = max(1, len(training) // s.batch_size, min(LEAST_BATCHES, len(training) // LEAST_BATCH))
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, total_iters=batches * s.epochs)
    parts: dict[str, Stateful] = {"model": model, "best": best, "optimizer": optimizer, "schedule": schedule}
    curve = kept.last_epoch(parts, rng) if kept else None
    if curve is None:
        curve = [{"epoch": 0} | _validate(best, validation)]
        log.info("epoch", **curve[-1])
    with Progress("train", batches * s.epochs) as progress:
        progress.advance(batches * (len(curve) - 1))
        while len(curve) <= s.epochs and len(curve) - 1 - best_epoch(curve) < s.patience:
            model.train()
            for places in np.array_split(rng.permutation(len(training)), batches):
                loss = _loss(model, training, places)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                progress.advance(loss=loss.item())
            curve.append({"epoch": len(curve)} | _validate(model, validation))
            if best_epoch(curve) == len(curve) - 1:
                best.load_state_dict(model.state_dict())
            if kept:
                kept.keep_epoch(parts, rng, curve)
            log.info("epoch", **curve[-1])
    return best.eval(), Curve(curve, best_epoch(curve))


@torch.no_grad()
def lean_to_new(model: NCF, validation: TrainingSet, price: float) -> float:
    """Raise items new to the user, as far as it costs at most the share ``price`` of validation's NDCG@10.

    Repeats are likelier than any single new item, so that a list of the likeliest holds few new ones, though
    half of what is bought is new. The shop's own validation says what can be had: of the steps it can afford
    the one that finds most new items, the smallest of those, so that nothing is paid for nothing. Returns
    what was added.
    """
    if not len(validation):
        return 0.0
    new = validation.features[:, :, NEW_TO_USER].astype(np.float32)
    wanted = np.take_along_axis(new, validation.target[:, None], 1)[:, 0] > 0
    scores = np.concatenate([_scores(model, validation, p) for p in _batches(validation)])
    ranks = [_ranks(scores + step * new, validation.target) for step in LEANS]
    quality = [_quality(r, validation.asked) for r in ranks]
    least = (1 - price) * max(q["ndcg_at_10"] for q in quality)
    affordable = [i for i, q in enumerate(quality) if q["ndcg_at_10"] >= least]
    chosen = max(affordable, key=lambda i: (ranks[i][wanted] < 10).sum())  # the first of equals
    model.wide.weight[0, NEW_TO_USER] += LEANS[chosen] * model.feature_std[NEW_TO_USER]
    log.info("leaned to new", added=LEANS[chosen], before=quality[0], after=quality[chosen])
    return LEANS[chosen]


def best_epoch(curve: list[dict[str, float]]) -> int:
    """The first epoch of the lowest validation loss."""
    return min(range(len(curve)), key=lambda epoch: curve[epoch]["loss"])


def new_model(
    arrays: SamplerArrays, training: TrainingSet, prior: NDArray[np.float32], s: TrainSettings
) -> NCF:
    """A scorer whose vectors are the tower's and whose wide term is the prior: the best linear score.

    The vectors stay as they are. Trained on with the rest they learn the training period by heart within two
    epochs; with those of the tower, the layers go on learning what holds for everybody.
    """
    tower = arrays.retrieval
    torch.manual_seed(s.seed)
    shape = NCFShape(*map(len, tower[:2]), len(FEATURES), gmf=0, mlp=tower.items.shape[1], hidden=s.hidden)
    model = NCF(shape)
    with torch.no_grad():
        for table, vectors in zip((model.user_mlp, model.basket_mlp, model.item_mlp), tower, strict=True):
            table.weight.copy_(torch.from_numpy(np.array(vectors)))
        for layer in (model.from_user, model.from_basket, model.from_item):
            layer.weight.zero_()
        sample = slice(0, SCALE_SAMPLE)
        features = torch.from_numpy(training.features[sample]).float()
        mean, std = moments(features, torch.from_numpy(training.rows[sample] > 0))
        model.feature_mean.copy_(mean)
        model.feature_std.copy_(std)
        model.wide.weight.copy_(torch.from_numpy(prior) * std)
    for frozen in (model.user_mlp, model.basket_mlp, model.item_mlp, model.item_bias):
        frozen.requires_grad_(False)
    return model


def _loss(model: NCF, examples: TrainingSet, places: NDArray[np.int64]) -> torch.Tensor:
    scores = _scores(model, examples, places) + torch.from_numpy(examples.log_weights[places])
    return nn.functional.cross_entropy(scores, torch.from_numpy(examples.target[places]))


def _scores(model: NCF, examples: TrainingSet, places: NDArray[np.int64]) -> torch.Tensor:
    rows = torch.from_numpy(examples.rows[places])
    sizes = (examples.baskets[places] > 0).sum(1)
    longest = max(1, int(sizes.max(initial=0)))  # padding beyond it costs and does nothing
    scores = model(
        torch.from_numpy(examples.users[places]),
        torch.from_numpy(examples.baskets[places, :longest]),
        rows,
        torch.from_numpy(examples.features[places]).float(),
    )
    return scores.masked_fill(rows == 0, -1e9)


@torch.no_grad()
def _validate(model: NCF, examples: TrainingSet) -> dict[str, float]:
    """Loss over the queries whose item was found, HR@10 and NDCG@10 over all that were asked."""
    model.eval()
    loss, ranks = 0.0, []
    for places in _batches(examples):
        scores = _scores(model, examples, places)
        target = examples.target[places]
        loss += float(nn.functional.cross_entropy(scores, torch.from_numpy(target), reduction="sum"))
        ranks.append(_ranks(scores.numpy(), target))
    quality = _quality(np.concatenate(ranks), examples.asked)
    return {"loss": round(loss / max(len(examples), 1), 4)} | quality


def _batches(examples: TrainingSet) -> list[NDArray[np.int64]]:
    return np.array_split(np.arange(len(examples)), max(1, len(examples) // 256))


def _ranks(scores: NDArray[np.float32], target: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n, c) scores and (n,) places of the hidden items → (n,) ranks from 0; ties count half."""
    own = np.take_along_axis(scores, target[:, None], 1)
    ranks: NDArray[np.float64] = (scores > own).sum(1) + ((scores == own).sum(1) - 1) / 2
    return ranks


def _quality(ranks: NDArray[np.float64], asked: int) -> dict[str, float]:
    top = ranks[ranks < 10]
    return {
        "hr_at_10": round(len(top) / max(asked, 1), 4),
        "ndcg_at_10": round(float((1 / np.log2(top + 2)).sum()) / max(asked, 1), 4),
    }
