"""Train the scorer on the sampler's own candidates: what it learns on is what it will be served.

Counts and tower stop where the training period begins, the training queries follow, the validation queries
come last. The loss is a softmax over each query's candidates, with the hidden item as the truth.
"""

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from torch import nn

from ensemble.candidate_sampler.arrays import SamplerArrays
from ensemble.candidate_sampler.features import FEATURES
from ensemble.candidate_sampler.sampler import CandidateSampler
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
from export_scripts.snapshot import limits, recommendable, snapshot, untrained_prior
from export_scripts.splits import HiddenItems, as_queries, hide_items, split_by_time

log = structlog.get_logger()

PRIOR_QUERIES = 2_000  # enough for a score of 20 weights
PRIOR_CANDIDATES = 1_536  # far more than C: the prior must rank what a full list would cut off
PRIOR_LEAST = 50  # below so many the shop says less about 20 weights than the untrained blend knows
SCALE_SAMPLE = 4_000  # queries whose candidates tell the features' mean and spread


@dataclass
class TrainingSet:
    """Queries whose hidden item the sampler found."""

    users: NDArray[np.int32]  # (n,)
    baskets: NDArray[np.int32]  # (n, L)
    rows: NDArray[np.int32]  # (n, C)
    features: NDArray[np.float16]  # (n, C, F)
    target: NDArray[np.int64]  # (n,) place of the hidden item among the candidates
    asked: int  # queries before those without the item among their candidates were left out

    def __len__(self) -> int:
        return len(self.target)


def train(settings: Settings, data: Path, checkpoint: Path) -> Path:
    """Fit prior and scorer to the shop in ``data``; write the checkpoint of the best epoch on validation.

    Killed and started again it goes on after the last finished step (``resume``), to the same weights.
    A shop too small for a period of training or validation gets the linear blend that training starts at.
    Raises CestaError if no item sells often enough to be recommended at all.
    """
    shop, contract = load_shop(data), read_contract()
    check_support(shop, settings)
    split = split_by_time(shop, settings.splits)
    kept = Resume(checkpoint.parent / FOLDER, made_from(shop, settings) | made_with())
    arrays = kept.arrays(lambda: snapshot(shop, split.training, settings))
    check_leaks(shop, arrays, split.training, settings)
    known = recommendable(arrays)
    rng = np.random.default_rng(settings.train.seed)
    hidden = hide_items(shop, split.training, split.validation, known, settings.splits.hidden_per_basket, rng)
    validation = hide_items(shop, split.validation, split.test, known, settings.splits.hidden_per_basket, rng)
    validation = validation.sample(settings.train.validation_queries, rng)
    sample = hidden.sample(PRIOR_QUERIES, rng)
    prior = kept.prior(lambda: fit_prior(shop, arrays, sample, settings, contract))
    arrays = arrays._replace(prior=arrays.prior._replace(weights=prior))
    hidden = hidden.sample(settings.train.training_queries, rng)
    training = collect(shop, arrays, hidden, settings, contract, "training")
    validating = collect(shop, arrays, validation, settings, contract, "validation")
    model, curve = fit(training, validating, arrays, prior, settings, kept)
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


def collect(
    shop: Shop, arrays: SamplerArrays, hidden: HiddenItems, settings: Settings, contract: Contract, what: str
) -> TrainingSet:
    """Sample candidates for every query and keep those that hold the hidden item, C being the widest list."""
    sampler = CandidateSampler(arrays, limits(settings, contract))
    n, c, f = len(hidden), contract.candidates, contract.features
    kept = TrainingSet(
        users=np.zeros(n, np.int32),
        baskets=np.zeros((n, contract.basket_slots), np.int32),
        rows=np.zeros((n, c), np.int32),
        features=np.zeros((n, c, f), np.float16),
        target=np.zeros(n, np.int64),
        asked=n,
    )
    size = 0
    with Progress(what, n) as progress:
        for batch in hidden.batches(256):
            queries = as_queries(shop, batch)
            candidates = sampler.sample(queries)
            hits = candidates.rows == batch.items[:, None]
            found = np.flatnonzero(hits.any(axis=1))
            into = slice(size, size := size + len(found))
            kept.users[into] = [queries[i].user_row for i in found]
            kept.baskets[into] = sampler.basket_rows([queries[i] for i in found])
            kept.rows[into] = candidates.rows[found]
            kept.features[into] = candidates.features[found]
            kept.target[into] = hits[found].argmax(axis=1)
            progress.advance(len(batch), recall=size / n)
    # Candidates come first: what follows the longest list is padding in all of them.
    widest = (kept.rows[:size] > 0).any(0).sum()
    rows, features = kept.rows[:size, :widest], kept.features[:size, :widest]
    return TrainingSet(kept.users[:size], kept.baskets[:size], rows, features, kept.target[:size], n)


def fit_prior(
    shop: Shop, arrays: SamplerArrays, hidden: HiddenItems, settings: Settings, contract: Contract
) -> NDArray[np.float32]:
    """(F,) weights of the linear score that keeps the best C candidates, by a softmax over long lists.

    A shop decides for itself what repeats and what popularity are worth; with too few queries the untrained
    blend stays.
    """
    wide = Contract(contract.basket_slots, PRIOR_CANDIDATES, contract.features, contract.answers)
    examples = collect(shop, arrays, hidden, settings, wide, "prior")
    if len(examples) < PRIOR_LEAST:
        return untrained_prior()
    features = torch.from_numpy(examples.features).float()
    padding = torch.from_numpy(examples.rows == 0)
    mean, std = _moments(features, ~padding)
    features = ((features - mean) / std).masked_fill(padding.unsqueeze(-1), 0)
    weights = torch.zeros(contract.features, requires_grad=True)
    target = torch.from_numpy(examples.target)
    optimizer = torch.optim.Adam([weights], lr=0.1)
    for _ in range(100):
        logits = (features @ weights).masked_fill(padding, -1e9)
        loss = nn.functional.cross_entropy(logits, target) + 1e-3 * weights.square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (weights.detach() / std).numpy()


def fit(
    training: TrainingSet,
    validation: TrainingSet,
    arrays: SamplerArrays,
    prior: NDArray[np.float32],
    settings: Settings,
    kept: Resume | None = None,
) -> tuple[NCF, Curve]:
    """The model of the best epoch by validation loss, or the linear start if no epoch betters it."""
    s = settings.train
    torch.manual_seed(s.seed)
    rng = np.random.default_rng(s.seed)
    model = new_model(arrays, s)
    _start_at(model, training, prior)
    best = deepcopy(model)  # until an epoch betters it, the wide term alone
    nn.init.zeros_(best.gmf_weights)
    if not len(training) or not len(validation):
        log.warning("untrained", training_queries=len(training), validation_queries=len(validation))
        return best.eval(), UNTRAINED
    optimizer = torch.optim.AdamW(model.parameters(), lr=s.learning_rate, weight_decay=s.weight_decay)
    batches = max(1, -(-len(training) // s.batch_size))
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
                loss = _loss(model, training, places, s, rng)
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


def best_epoch(curve: list[dict[str, float]]) -> int:
    """The first epoch of the lowest validation loss."""
    return min(range(len(curve)), key=lambda epoch: curve[epoch]["loss"])


def new_model(arrays: SamplerArrays, s: TrainSettings) -> NCF:
    """An untrained scorer of the arrays' sizes."""
    known = recommendable(arrays)
    content = torch.from_numpy(arrays.categories.of_item.astype(np.int64))
    shape = NCFShape(
        n_users=len(arrays.retrieval.users),
        n_items=len(known),
        n_ids=int(known.sum()) + 1,
        n_categories=len(arrays.categories.members_offsets) - 1,
        n_features=len(FEATURES),
        gmf=s.gmf_dimensions,
        mlp=s.mlp_dimensions,
        hidden=s.hidden,
    )
    return NCF(shape, torch.from_numpy(np.where(known, np.cumsum(known), 0)), content)


def _start_at(model: NCF, training: TrainingSet, prior: NDArray[np.float32]) -> None:
    """Set the feature scale, and the wide term to the prior: training starts at the best linear score."""
    sample = slice(0, SCALE_SAMPLE)
    features = torch.from_numpy(training.features[sample]).float()
    mean, std = _moments(features, torch.from_numpy(training.rows[sample] > 0))
    model.feature_mean.copy_(mean)
    model.feature_std.copy_(std)
    with torch.no_grad():
        model.wide.weight.copy_(torch.from_numpy(prior) * std)


def _moments(features: torch.Tensor, real: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation (F,) over the candidates that are not padding.

    A feature that hardly varies keeps 1: over next to nothing, its first other value would swamp all else.
    """
    values = features[real]
    if len(values) == 0:
        return torch.zeros(features.shape[-1]), torch.ones(features.shape[-1])
    mean, std = values.mean(0), values.std(0, correction=0)
    return mean, torch.where(std > 1e-4 + 1e-3 * mean.abs(), std, 1.0)


def _loss(
    model: NCF, examples: TrainingSet, places: NDArray[np.int64], s: TrainSettings, rng: np.random.Generator
) -> torch.Tensor:
    users = examples.users[places] * (rng.random(len(places)) >= s.user_dropout)
    hide = torch.from_numpy(rng.random(model.shape.n_items) < s.id_dropout)
    return nn.functional.cross_entropy(
        _scores(model, examples, places, users, hide), torch.from_numpy(examples.target[places])
    )


def _scores(
    model: NCF,
    examples: TrainingSet,
    places: NDArray[np.int64],
    users: NDArray[np.int32],
    hide_ids: torch.Tensor | None = None,
) -> torch.Tensor:
    rows = torch.from_numpy(examples.rows[places])
    sizes = (examples.baskets[places] > 0).sum(1)
    longest = max(1, int(sizes.max(initial=0)))  # padding beyond it costs and does nothing
    scores = model(
        torch.from_numpy(users),
        torch.from_numpy(examples.baskets[places, :longest]),
        rows,
        torch.from_numpy(examples.features[places]).float(),
        hide_ids,
    )
    return scores.masked_fill(rows == 0, -1e9)


@torch.no_grad()
def _validate(model: NCF, examples: TrainingSet) -> dict[str, float]:
    """Loss over the queries whose item was found, HR@10 and NDCG@10 over all that were asked."""
    model.eval()
    loss, ranks = 0.0, []
    for places in np.array_split(np.arange(len(examples)), max(1, len(examples) // 256)):
        scores = _scores(model, examples, places, examples.users[places])
        target = torch.from_numpy(examples.target[places])
        loss += float(nn.functional.cross_entropy(scores, target, reduction="sum"))
        ranks.append((scores > scores.gather(1, target[:, None])).sum(1).numpy())
    rank = np.concatenate(ranks)
    asked = max(examples.asked, 1)
    return {
        "loss": round(loss / max(len(rank), 1), 4),
        "hr_at_10": round(float((rank < 10).sum() / asked), 4),
        "ndcg_at_10": round(float((1 / np.log2(rank[rank < 10] + 2)).sum() / asked), 4),
    }


if __name__ == "__main__":
    from export_scripts.cli import main

    main("train")
