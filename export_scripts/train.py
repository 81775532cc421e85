"""Train the scorer on the sampler's own candidates: what it learns on is what it will be served.

The tower stops where the training period begins, the training queries follow, the validation queries come
last. Counts are made anew in between: they are then as old as those that serve. The loss is a softmax over
each query's candidates, with the hidden item as the truth.
"""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from torch import nn

from ensemble.candidate_sampler.arrays import SamplerArrays
from ensemble.candidate_sampler.features import FEATURES
from export_scripts import counts
from export_scripts.checkpoint import UNTRAINED, Curve, made_from, save_checkpoint
from export_scripts.contract import Contract, read_contract
from export_scripts.errors import CestaError
from export_scripts.leaks import check_leaks
from export_scripts.ledger import code_digest
from export_scripts.ncf import NCF, NCFShape
from export_scripts.progress import Progress
from export_scripts.resume import FOLDER, Resume, Stateful
from export_scripts.settings import Settings, TrainSettings
from export_scripts.shop import Shop, load_shop
from export_scripts.snapshot import snapshot, untrained_prior
from export_scripts.splits import split_by_time
from export_scripts.training_set import Period, TrainingSet, collect, periods, sampled, training_sets

log = structlog.get_logger()

PRIOR_QUERIES = 2_000  # enough for a score of 20 weights
PRIOR_CANDIDATES = 1_536  # far more than C: the prior must rank what a full list would cut off
PRIOR_RIDGE = 40.0  # over the queries: 40 hold it firmly, 2,000 hardly; 10 lose .05 of NDCG for nobody at 50
LEAST_BATCHES, LEAST_BATCH = 20, 32  # a small shop gets smaller batches before it gets too few steps
LEANS = [step / 10 for step in range(13)]  # what lean_to_new tries, in the score's unit: log odds
NEW_TO_USER = FEATURES.index("new_to_user")
SCALE_SAMPLE = 4_000  # queries whose candidates tell the features' mean and spread


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
    mean, std = _moments(features, ~padding)
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
        mean, std = _moments(features, torch.from_numpy(training.rows[sample] > 0))
        model.feature_mean.copy_(mean)
        model.feature_std.copy_(std)
        model.wide.weight.copy_(torch.from_numpy(prior) * std)
    for frozen in (model.user_mlp, model.basket_mlp, model.item_mlp, model.item_bias):
        frozen.requires_grad_(False)
    return model


def _moments(features: torch.Tensor, real: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation (F,) over the candidates that are not padding.

    A feature that hardly varies keeps 1: over next to nothing, its first other value would swamp all else.
    """
    values = features[real]
    if len(values) == 0:
        return torch.zeros(features.shape[-1]), torch.ones(features.shape[-1])
    mean, std = values.mean(0), values.std(0, correction=0)
    return mean, torch.where(std > 1e-4 + 1e-3 * mean.abs(), std, 1.0)


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


if __name__ == "__main__":
    from export_scripts.cli import main

    main("train")
