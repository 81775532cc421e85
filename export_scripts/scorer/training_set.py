"""What the scorer learns from: queries of a period with the sampler's own candidates and features.

Training and serving thus see one distribution, and one kernel computes the features of both.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ensemble.candidate_sampler.arrays import Prior, SamplerArrays
from ensemble.candidate_sampler.batch import Candidates
from ensemble.candidate_sampler.query import Query
from export_scripts.progress import Progress
from export_scripts.receipts.shop import Shop
from export_scripts.settings import Settings, TrainSettings
from export_scripts.snapshots.snapshot import recommendable, recount, sampler_of, with_content
from export_scripts.snapshots.splits import HiddenItems, Split, as_queries, hide_items
from operations.records.contract import Contract

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


class Period(NamedTuple):
    """Protocol W queries from basket ``start`` on, and arrays whose counts end there."""

    start: int
    arrays: SamplerArrays
    hidden: HiddenItems


class Periods(NamedTuple):
    """What is learnt from, in the order of time, and what stops it."""

    training: list[Period]
    validation: Period

    def with_prior(self, weights: NDArray[np.float32]) -> "Periods":
        """The same, their samplers' prior being ``weights`` (F,)."""

        def with_it(period: Period) -> Period:
            return period._replace(arrays=period.arrays._replace(prior=Prior(weights)))

        return Periods([with_it(part) for part in self.training], with_it(self.validation))


def periods(shop: Shop, split: Split, arrays: SamplerArrays, settings: Settings) -> Periods:
    """Hide items of the two periods' baskets: for validation as the protocol has it, for training more.

    ``arrays`` end where training begins. Their counts are made anew ``train.recounts`` times in all, and for
    validation, as they are for the test period and a release: items that began to sell meanwhile are then
    asked for, and the scorer does not learn that what is new is never bought.
    """
    rng = np.random.default_rng(settings.train.seed)
    now = recount(shop, arrays, split.validation, settings)
    hidden = hide_items(
        shop, split.validation, split.test, recommendable(now), settings.splits.hidden_per_basket, rng
    ).sample(settings.train.validation_queries, rng)
    ends = split.parts_of_training(shop, settings.train.recounts)
    counted = [arrays, *(recount(shop, arrays, start, settings) for start in ends[1:-1])]
    parts = [
        _to_learn_from(shop, known, start, end, settings.train, rng)
        for known, (start, end) in zip(counted, pairwise(ends), strict=True)
    ]
    training = sampled(parts, settings.train.training_queries, rng)
    return Periods(training, Period(split.validation, now, hidden))


def sampled(parts: Sequence[Period], most: int, rng: np.random.Generator) -> list[Period]:
    """About ``most`` of the queries of all parts, as large a share of each."""
    share = most / max(sum(len(part.hidden) for part in parts), 1)
    return [part._replace(hidden=part.hidden.sample(round(share * len(part.hidden)), rng)) for part in parts]


def _to_learn_from(
    shop: Shop, arrays: SamplerArrays, start: int, end: int, s: TrainSettings, rng: np.random.Generator
) -> Period:
    """Queries of the baskets start … end - 1.

    Some cold items are asked for too: else the scorer would learn that what hardly sold is never bought.
    """
    known = recommendable(arrays)
    hidden = hide_items(shop, start, end, known | with_content(arrays), s.hidden_per_basket, rng)
    asked = known[hidden.items] | (rng.random(len(hidden)) < s.cold_share)
    return Period(start, arrays, HiddenItems(hidden.baskets[asked], hidden.items[asked]))


def training_sets(
    shop: Shop, asked: Periods, settings: Settings, contract: Contract
) -> tuple[TrainingSet, TrainingSet]:
    """What the scorer learns from, thinned by the arrays' prior, and what stops it."""
    s = settings.train
    rng = np.random.default_rng(s.seed)
    thinning = Thinning(s.candidates, asked.validation.arrays.prior.weights)
    wide = replace(contract, candidates=s.drawn_from)
    training = collect(shop, asked.training, settings, wide, "training", rng, thinning, s.user_dropout)
    return training, collect(shop, [asked.validation], settings, contract, "validation", rng)


def collect(
    shop: Shop,
    parts: Sequence[Period],
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
    n, f = sum(len(part.hidden) for part in parts), contract.features
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
    samplers = ((sampler_of(part.arrays, settings, contract), part.hidden) for part in parts)
    with Progress(what, n) as progress:
        for sampler, batch in ((s, batch) for s, hidden in samplers for batch in hidden.batches(BATCH)):
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
