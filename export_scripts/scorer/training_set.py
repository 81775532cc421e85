"""The scorer's training sets: the queries of a period with the sampler's own candidates and features.

Training and serving see the same distribution, and the same kernel computes the features of both.
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
from export_scripts.durations import step
from export_scripts.progress import Progress
from export_scripts.receipts.shop import Shop
from export_scripts.settings import Settings, TrainSettings
from export_scripts.snapshots.partials import PartialCounts
from export_scripts.snapshots.sample import mark_sampled
from export_scripts.snapshots.snapshot import recommendable, recount, sampler_of, with_content
from export_scripts.snapshots.splits import HiddenItems, Split, as_queries, hide_items
from operations.records.contract import Contract

BATCH = 256


@dataclass
class TrainingSet:
    """Queries whose hidden item is among the sampler's candidates, with c candidates each."""

    users: NDArray[np.int32]  # (n,)
    baskets: NDArray[np.int32]  # (n, L)
    rows: NDArray[np.int32]  # (n, c)
    features: NDArray[np.float16]  # (n, c, F)
    log_weights: NDArray[np.float32]  # (n, c) log of how many candidates this one represents
    target: NDArray[np.int64]  # (n,) place of the hidden item among the candidates
    n_queries: int  # of the period, including those whose hidden item is no candidate

    def __len__(self) -> int:
        return len(self.target)


@dataclass(frozen=True)
class Thinning:
    """The choice of a query's candidates for training: ``candidates`` in number, by the ``prior`` (F,).

    Half are the best by the prior, the other half is drawn from the rest and weighted to represent all of the
    rest (importance sampling, Bengio & Senécal 2003). A softmax over 160 candidates learns as much as one
    over all of them, in a quarter of the time and memory.
    """

    candidates: int
    prior: NDArray[np.float32]


class _Thinned(NamedTuple):
    rows: NDArray[np.int32]
    features: NDArray[np.float32]
    log_weights: NDArray[np.float32]
    target: NDArray[np.int64]


class Period(NamedTuple):
    """Hidden-item queries of the baskets from ``start`` on, and arrays whose counts end there."""

    start: int
    arrays: SamplerArrays
    hidden: HiddenItems


class Periods(NamedTuple):
    """The parts of the training period in time order, and the validation period."""

    training: list[Period]
    validation: Period

    def with_prior(self, weights: NDArray[np.float32]) -> "Periods":
        """Return the same periods with ``weights`` (F,) as their samplers' prior."""

        def replace_prior(period: Period) -> Period:
            return period._replace(arrays=period.arrays._replace(prior=Prior(weights)))

        return Periods([replace_prior(part) for part in self.training], replace_prior(self.validation))


def make_periods(
    shop: Shop,
    split: Split,
    arrays: SamplerArrays,
    settings: Settings,
    partials: PartialCounts | None = None,
) -> Periods:
    """Hide items of the baskets of both periods: for validation as for the test, for training more.

    The counts in ``arrays`` end where training begins. They are made anew for each of the ``train.recounts``
    parts of training, and for validation, as they are for the test period and for a release. So items that
    began to sell in between are hidden too, and the scorer does not learn that nobody buys new items.
    """
    rng = np.random.default_rng(settings.train.seed)
    bounds = split.parts_of_training(shop, settings.train.recounts, settings.splits.training_days)
    # In the order of time, so that each one adds to the pairs that the one before has counted.
    snapshots = [arrays, *(recount(shop, arrays, start, settings, partials) for start in bounds[1:-1])]
    recent = recount(shop, arrays, split.validation, settings, partials)
    hidden = hide_items(
        shop, split.validation, split.test, recommendable(recent), settings.splits.hidden_per_basket, rng
    ).sample(settings.train.validation_queries, rng)
    parts = [
        _training_part(shop, counted, start, end, settings.train, rng)
        for counted, (start, end) in zip(snapshots, pairwise(bounds), strict=True)
    ]
    training = sample_periods(parts, settings.train.training_queries, rng)
    return Periods(training, Period(split.validation, recent, hidden))


def sample_periods(periods: Sequence[Period], queries: int, rng: np.random.Generator) -> list[Period]:
    """Draw about as many ``queries`` from all periods together, the same share from each."""
    share = queries / max(sum(len(period.hidden) for period in periods), 1)
    return [
        period._replace(hidden=period.hidden.sample(round(share * len(period.hidden)), rng))
        for period in periods
    ]


def _training_part(
    shop: Shop, arrays: SamplerArrays, start: int, end: int, settings: TrainSettings, rng: np.random.Generator
) -> Period:
    """Hide items of the baskets start … end - 1.

    Some of the hidden items are cold. Without them the scorer would learn that nobody buys cold items.
    """
    warm = recommendable(arrays)
    hidden = hide_items(shop, start, end, warm | with_content(arrays), settings.hidden_per_basket, rng)
    chosen = warm[hidden.items] | (rng.random(len(hidden)) < settings.cold_share)
    chosen &= mark_sampled(shop, settings.users)[hidden.baskets]
    return Period(start, arrays, HiddenItems(hidden.baskets[chosen], hidden.items[chosen]))


@step("candidates")
def collect_training_sets(
    shop: Shop, periods: Periods, settings: Settings, contract: Contract
) -> tuple[TrainingSet, TrainingSet]:
    """Collect the training set, thinned by the prior of the arrays, and the validation set."""
    chosen = settings.train
    rng = np.random.default_rng(chosen.seed)
    thinning = Thinning(chosen.candidates, periods.validation.arrays.prior.weights)
    wide = replace(contract, candidates=chosen.drawn_from)
    training = collect(shop, periods.training, settings, wide, "training", rng, thinning, chosen.user_dropout)
    return training, collect(shop, [periods.validation], settings, contract, "validation", rng)


def collect(
    shop: Shop,
    periods: Sequence[Period],
    settings: Settings,
    contract: Contract,
    what: str,
    rng: np.random.Generator,
    thinning: Thinning | None = None,
    anonymous: float = 0.0,
) -> TrainingSet:
    """Sample candidates for every query; keep the queries whose candidates hold the hidden item, in order.

    The share ``anonymous`` of the queries is put without the user. Their features have no history, as those
    of an unknown user when the scorer serves. ``what`` names the progress bar.
    """
    n, f = sum(len(period.hidden) for period in periods), contract.features
    c = min(contract.candidates, thinning.candidates) if thinning else contract.candidates
    examples = TrainingSet(
        users=np.zeros(n, np.int32),
        baskets=np.zeros((n, contract.basket_slots), np.int32),
        rows=np.zeros((n, c), np.int32),
        features=np.zeros((n, c, f), np.float16),
        log_weights=np.zeros((n, c), np.float32),
        target=np.zeros(n, np.int64),
        n_queries=n,
    )
    size = 0
    samplers = ((sampler_of(period.arrays, settings, contract), period.hidden) for period in periods)
    with Progress(what, n) as progress:
        batches = ((sampler, batch) for sampler, hidden in samplers for batch in hidden.batches(BATCH))
        for sampler, batch in batches:
            queries = _hide_users(as_queries(shop, batch), anonymous, rng)
            if shop.stores and anonymous:
                queries = _hide_stores(queries, settings.stores.dropout, rng)
            candidates = sampler.sample(queries)
            hits = candidates.rows == batch.items[:, None]
            found = np.flatnonzero(hits.any(axis=1))
            into = slice(size, size := size + len(found))
            examples.users[into] = [queries[i].user_row for i in found]
            examples.baskets[into] = sampler.basket_rows([queries[i] for i in found])
            thinned = _thin(candidates, found, hits[found].argmax(axis=1), thinning, rng)
            examples.rows[into], examples.features[into] = thinned.rows, thinned.features
            examples.log_weights[into], examples.target[into] = thinned.log_weights, thinned.target
            progress.advance(len(batch), recall=size / n)
    # Candidates come before padding, so all columns beyond the longest list are padding.
    widest = (examples.rows[:size] > 0).any(0).sum()
    return TrainingSet(
        users=examples.users[:size],
        baskets=examples.baskets[:size],
        rows=examples.rows[:size, :widest],
        features=examples.features[:size, :widest],
        log_weights=examples.log_weights[:size, :widest],
        target=examples.target[:size],
        n_queries=n,
    )


def _hide_users(queries: list[Query], share: float, rng: np.random.Generator) -> list[Query]:
    """Replace the user of a random ``share`` of the queries by the unknown user."""
    hide = rng.random(len(queries)) < share
    return [
        replace(query, user_row=0) if hidden else query for query, hidden in zip(queries, hide, strict=True)
    ]


def _hide_stores(queries: list[Query], share: float, rng: np.random.Generator) -> list[Query]:
    """Let a random ``share`` of the queries name no store."""
    hide = rng.random(len(queries)) < share
    return [
        replace(query, store_row=0) if hidden else query for query, hidden in zip(queries, hide, strict=True)
    ]


def _thin(
    candidates: Candidates,
    found: NDArray[np.int64],
    target: NDArray[np.int64],
    thinning: Thinning | None,
    rng: np.random.Generator,
) -> _Thinned:
    """Thin the candidates of a batch's queries ``found``; the hidden item comes first.

    Without ``thinning`` all candidates stay, and the hidden items at their places ``target``.
    """
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
    rest_size = np.maximum((rows > 0).sum(1) - half, 1)
    log_weights = np.zeros(chosen.shape, np.float32)
    log_weights[:, half:] = np.log(np.maximum(rest_size / max(k - half, 1), 1))[:, None]
    return _Thinned(
        np.take_along_axis(rows, chosen, 1),
        np.take_along_axis(features, chosen[:, :, None], 1),
        log_weights,
        np.zeros(len(rows), np.int64),
    )
