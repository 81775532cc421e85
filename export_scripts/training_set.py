"""What the scorer learns from: queries of a period with the sampler's own candidates and features.

Training and serving thus see one distribution, and one kernel computes the features of both.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ensemble.candidate_sampler.arrays import SamplerArrays
from ensemble.candidate_sampler.batch import Candidates
from ensemble.candidate_sampler.query import Query
from export_scripts.contract import Contract
from export_scripts.progress import Progress
from export_scripts.settings import Settings
from export_scripts.shop import Shop
from export_scripts.snapshot import recommendable, sampler_of, with_content
from export_scripts.splits import HiddenItems, Split, as_queries, hide_items

BATCH = 256


@dataclass
class TrainingSet:
    """Queries whose hidden item the sampler found, with c candidates each."""

    users: NDArray[np.int32]  # (n,)
    baskets: NDArray[np.int32]  # (n, L)
    rows: NDArray[np.int32]  # (n, c)
    features: NDArray[np.float16]  # (n, c, F)
    log_weights: NDArray[np.float32]  # (n, c) log of how many candidates one stands for
    target: NDArray[np.int64]  # (n,) place of the hidden item among the candidates
    asked: int  # queries before those without the item among their candidates were left out

    def __len__(self) -> int:
        return len(self.target)


@dataclass(frozen=True)
class Thinning:
    """Keep ``candidates`` of a query's: the better half by the ``prior`` (F,), the rest at random.

    A softmax over 160 of them, those drawn counting for those left out (importance sampling, Bengio & Senécal
    2003), learns what all of them teach in a quarter of time and memory.
    """

    candidates: int
    prior: NDArray[np.float32]


class _Thinned(NamedTuple):
    rows: NDArray[np.int32]
    features: NDArray[np.float32]
    log_weights: NDArray[np.float32]
    target: NDArray[np.int64]


class Periods(NamedTuple):
    """Protocol W queries of the training and of the validation period."""

    training: HiddenItems
    validation: HiddenItems


def periods(shop: Shop, split: Split, arrays: SamplerArrays, settings: Settings) -> Periods:
    """Hide items of the two periods' baskets: for validation as the protocol has it, for training more.

    Training asks for some of the cold items too: else the scorer would learn that what hardly sold is never
    bought.
    """
    s, known = settings.train, recommendable(arrays)
    rng, most = np.random.default_rng(s.seed), settings.splits.hidden_per_basket
    validation = hide_items(shop, split.validation, split.test, known, most, rng)
    content = known | with_content(arrays)
    training = hide_items(shop, split.training, split.validation, content, s.hidden_per_basket, rng)
    asked = known[training.items] | (rng.random(len(training)) < s.cold_share)
    training = HiddenItems(training.baskets[asked], training.items[asked])
    return Periods(training.sample(s.training_queries, rng), validation.sample(s.validation_queries, rng))


def training_sets(
    shop: Shop, arrays: SamplerArrays, asked: Periods, settings: Settings, contract: Contract
) -> tuple[TrainingSet, TrainingSet]:
    """What the scorer learns from, thinned by the arrays' prior, and what stops it."""
    s = settings.train
    rng = np.random.default_rng(s.seed)
    thinning = Thinning(s.candidates, arrays.prior.weights)
    wide = replace(contract, candidates=s.drawn_from)
    training = collect(
        shop, arrays, asked.training, settings, wide, "training", rng, thinning, s.user_dropout
    )
    return training, collect(shop, arrays, asked.validation, settings, contract, "validation", rng)


def collect(
    shop: Shop,
    arrays: SamplerArrays,
    hidden: HiddenItems,
    settings: Settings,
    contract: Contract,
    what: str,
    rng: np.random.Generator,
    thinning: Thinning | None = None,
    anonymous: float = 0.0,
) -> TrainingSet:
    """Sample candidates for every query and keep those that hold the hidden item, in order.

    The share ``anonymous`` of the queries is asked without the user: their features know no history either,
    which is what the scorer will see of unknown users.
    """
    sampler = sampler_of(arrays, settings, contract)
    n, f = len(hidden), contract.features
    c = min(contract.candidates, thinning.candidates) if thinning else contract.candidates
    kept = TrainingSet(
        users=np.zeros(n, np.int32),
        baskets=np.zeros((n, contract.basket_slots), np.int32),
        rows=np.zeros((n, c), np.int32),
        features=np.zeros((n, c, f), np.float16),
        log_weights=np.zeros((n, c), np.float32),
        target=np.zeros(n, np.int64),
        asked=n,
    )
    size = 0
    with Progress(what, n) as progress:
        for batch in hidden.batches(BATCH):
            queries = _some_anonymous(as_queries(shop, batch), anonymous, rng)
            candidates = sampler.sample(queries)
            hits = candidates.rows == batch.items[:, None]
            found = np.flatnonzero(hits.any(axis=1))
            into = slice(size, size := size + len(found))
            kept.users[into] = [queries[i].user_row for i in found]
            kept.baskets[into] = sampler.basket_rows([queries[i] for i in found])
            chosen = _thin(candidates, found, hits[found].argmax(axis=1), thinning, rng)
            kept.rows[into], kept.features[into] = chosen.rows, chosen.features
            kept.log_weights[into], kept.target[into] = chosen.log_weights, chosen.target
            progress.advance(len(batch), recall=size / n)
    # Candidates come first: what follows the longest list is padding in all of them.
    widest = (kept.rows[:size] > 0).any(0).sum()
    return TrainingSet(
        kept.users[:size],
        kept.baskets[:size],
        kept.rows[:size, :widest],
        kept.features[:size, :widest],
        kept.log_weights[:size, :widest],
        kept.target[:size],
        n,
    )


def _some_anonymous(queries: list[Query], share: float, rng: np.random.Generator) -> list[Query]:
    hide = rng.random(len(queries)) < share
    return [
        replace(query, user_row=0) if anonymous else query
        for query, anonymous in zip(queries, hide, strict=True)
    ]


def _thin(
    candidates: Candidates,
    found: NDArray[np.int64],
    target: NDArray[np.int64],
    thinning: Thinning | None,
    rng: np.random.Generator,
) -> _Thinned:
    """The queries ``found`` of a batch with fewer candidates, the hidden item first; all without thinning."""
    rows, features = candidates.rows[found], candidates.features[found]
    if thinning is None:
        return _Thinned(rows, features, np.zeros(rows.shape, np.float32), target)
    k, half = min(thinning.candidates, rows.shape[1]), thinning.candidates // 2
    scores = np.where(rows > 0, features @ thinning.prior, -np.inf)
    scores[np.arange(len(rows)), target] = np.inf
    order = np.argsort(-scores, axis=1, kind="stable")  # padding last
    best, rest = order[:, :half], order[:, half:]
    keys = np.where(np.take_along_axis(rows, rest, 1) > 0, rng.random(rest.shape), 2.0)
    drawn = np.take_along_axis(rest, np.argsort(keys, axis=1)[:, : k - half], 1)
    chosen = np.concatenate([best, drawn], 1)
    left = np.maximum((rows > 0).sum(1) - half, 1)
    log_weights = np.zeros(chosen.shape, np.float32)
    log_weights[:, half:] = np.log(np.maximum(left / max(k - half, 1), 1))[:, None]
    return _Thinned(
        np.take_along_axis(rows, chosen, 1),
        np.take_along_axis(features, chosen[:, :, None], 1),
        log_weights,
        np.zeros(len(rows), np.int64),
    )
