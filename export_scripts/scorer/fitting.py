"""Fit the scorer: train until validation stops improving, then choose how far new items are raised."""

from copy import deepcopy

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from torch import nn

from ensemble.candidate_sampler.arrays import SamplerArrays
from ensemble.candidate_sampler.features import FEATURES
from export_scripts.durations import step
from export_scripts.progress import Progress
from export_scripts.scorer.checkpoint import UNTRAINED, Curve
from export_scripts.scorer.explore import NEW_TO_USER
from export_scripts.scorer.ncf import NCF, NCFShape
from export_scripts.scorer.prior import moments
from export_scripts.scorer.resume import SavedTraining, Stateful
from export_scripts.scorer.schedule import schedule_for
from export_scripts.scorer.training_set import TrainingSet
from export_scripts.settings import TrainSettings
from export_scripts.thread_count import ThreadCount

log = structlog.get_logger()

VALIDATION_BATCH = 256
TOP = 10  # places of the list that HR@10 and NDCG@10 look at
RISES = [step / 10 for step in range(13)]  # tried by choose_explore, in the score's unit, log odds
SCALE_SAMPLE = 4_000  # training queries from which the features' mean and spread are taken


def new_model(
    arrays: SamplerArrays, training: TrainingSet, linear: NDArray[np.float32], settings: TrainSettings
) -> NCF:
    """Make a scorer with the tower's vectors and the best ``linear`` score (F,) as its wide term.

    Training does not change the vectors. Trained vectors memorise the training period within two epochs; with
    fixed vectors the layers go on learning what holds for every user.
    """
    tower = arrays.retrieval
    torch.manual_seed(settings.seed)
    model = NCF(
        NCFShape(
            n_users=len(tower.users),
            n_items=len(tower.items),
            n_features=len(FEATURES),
            gmf=0,
            mlp=tower.items.shape[1],
            hidden=settings.hidden,
        )
    )
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
        model.wide.weight.copy_(torch.from_numpy(linear) * std)
    for frozen in (model.user_mlp, model.basket_mlp, model.item_mlp, model.item_bias):
        frozen.requires_grad_(False)
    return model


@step("scorer")
def fit(
    model: NCF,
    training: TrainingSet,
    validation: TrainingSet,
    settings: TrainSettings,
    saved: SavedTraining | None = None,
) -> tuple[NCF, Curve]:
    """Train ``model`` and return it as it was after the epoch with the lowest validation loss.

    If no epoch improves on the start, the result is the wide term alone. With ``saved``, training continues
    after the last saved epoch.
    """
    rng = np.random.default_rng(settings.seed)
    best = deepcopy(model)
    nn.init.zeros_(best.gmf_weights)  # the wide term alone, until an epoch improves on it
    if not len(training) or not len(validation):
        log.warning(
            "not trained, ranks by the prior alone: a period of [splits] has no questions",
            training_queries=len(training),
            validation_queries=len(validation),
        )
        return best.eval(), UNTRAINED
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    batches, epochs = length = schedule_for(training, settings)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, total_iters=length.steps)
    parts: dict[str, Stateful] = {"model": model, "best": best, "optimizer": optimizer, "schedule": schedule}
    curve = saved.restore_epoch(parts, rng) if saved else None
    if curve is None:
        curve = [{"epoch": 0} | _validate(best, validation)]
        log.info("epoch", **curve[-1])
    # One thread: on some processors two give other last bits.
    with Progress("train", length.steps) as progress, ThreadCount(1):
        progress.advance(batches * (len(curve) - 1))
        while len(curve) <= epochs and len(curve) - 1 - best_epoch(curve) < settings.patience:
            model.train()
            for places in np.array_split(rng.permutation(len(training)), batches):
                loss = _loss(model, training, places)
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
                schedule.step()
                progress.advance(loss=loss.item())
            curve.append({"epoch": len(curve)} | _validate(model, validation))
            if best_epoch(curve) == len(curve) - 1:
                best.load_state_dict(model.state_dict())
            if saved:
                saved.save_epoch(parts, rng, curve)
            log.info("epoch", **curve[-1])
    return best.eval(), Curve(curve, best_epoch(curve))


def best_epoch(curve: list[dict[str, float]]) -> int:
    """Return the epoch with the lowest validation loss, the first of several."""
    return min(range(len(curve)), key=lambda epoch: curve[epoch]["loss"])


@torch.no_grad()
def choose_explore(model: NCF, validation: TrainingSet, price: float) -> float:
    """Return by how much to raise the scores of items that are new to the user.

    A list of the likeliest items holds few new ones, because a repeat is likelier than any single new item.
    Half of the purchases are new items, though. Of the RISES that cost at most the share ``price`` of
    validation's NDCG@10, the one that finds the most new items is chosen; of equals the smallest.
    """
    if not len(validation):
        return 0.0
    new = validation.features[:, :, NEW_TO_USER].astype(np.float32)
    hidden_is_new = np.take_along_axis(new, validation.target[:, None], 1)[:, 0] > 0
    scores = np.concatenate([_scores(model, validation, places) for places in _batches(validation)])
    ranks = [_ranks(scores + rise * new, validation.target) for rise in RISES]
    quality = [_quality(each, validation.n_queries) for each in ranks]
    least = (1 - price) * max(each["ndcg_at_10"] for each in quality)
    affordable = [i for i, each in enumerate(quality) if each["ndcg_at_10"] >= least]
    chosen = max(affordable, key=lambda i: (ranks[i][hidden_is_new] < TOP).sum())  # the first of equals
    log.info("explore", added=RISES[chosen], before=quality[0], after=quality[chosen])
    return RISES[chosen]


def _loss(model: NCF, examples: TrainingSet, places: NDArray[np.int64]) -> torch.Tensor:
    scores = _scores(model, examples, places) + torch.from_numpy(examples.log_weights[places])
    return nn.functional.cross_entropy(scores, torch.from_numpy(examples.target[places]))


def _scores(model: NCF, examples: TrainingSet, places: NDArray[np.int64]) -> torch.Tensor:
    rows = torch.from_numpy(examples.rows[places])
    sizes = (examples.baskets[places] > 0).sum(1)
    longest = max(1, int(sizes.max(initial=0)))  # padding beyond it costs time and changes nothing
    scores: torch.Tensor = model(
        torch.from_numpy(examples.users[places]),
        torch.from_numpy(examples.baskets[places, :longest]),
        rows,
        torch.from_numpy(examples.features[places]).float(),
    )
    return scores.masked_fill(rows == 0, -1e9)


@torch.no_grad()
def _validate(model: NCF, examples: TrainingSet) -> dict[str, float]:
    """Measure the loss over ``examples``, and HR@10 and NDCG@10 over all queries of their period."""
    model.eval()
    loss, ranks = 0.0, []
    for places in _batches(examples):
        scores = _scores(model, examples, places)
        target = examples.target[places]
        loss += float(nn.functional.cross_entropy(scores, torch.from_numpy(target), reduction="sum"))
        ranks.append(_ranks(scores.numpy(), target))
    quality = _quality(np.concatenate(ranks), examples.n_queries)
    return {"loss": round(loss / max(len(examples), 1), 4)} | quality


def _batches(examples: TrainingSet) -> list[NDArray[np.int64]]:
    return np.array_split(np.arange(len(examples)), max(1, len(examples) // VALIDATION_BATCH))


def _ranks(scores: NDArray[np.float32], target: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n, c) scores and (n,) places of the hidden items → (n,) ranks from 0; ties count half."""
    hidden = np.take_along_axis(scores, target[:, None], 1)
    ranks: NDArray[np.float64] = (scores > hidden).sum(1) + ((scores == hidden).sum(1) - 1) / 2
    return ranks


def _quality(ranks: NDArray[np.float64], n_queries: int) -> dict[str, float]:
    """HR@10 and NDCG@10 over ``n_queries``; queries without a rank count 0."""
    top = ranks[ranks < TOP]
    return {
        "hr_at_10": round(len(top) / max(n_queries, 1), 4),
        "ndcg_at_10": round(float((1 / np.log2(top + 2)).sum()) / max(n_queries, 1), 4),
    }
