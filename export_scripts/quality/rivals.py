"""Models that others wrote, trained on the same receipts: what ours is compared with behind ``--all``.

item-kNN, iALS and EASE know users by what they bought. A row of their matrix is a user, or a basket whose
user nobody knows; its values are the baskets with the item, or log(1 + these). A query is folded in as such a
row, in which the basket that asks counts some times over; without a user that basket stands alone. Only its
own items are left out of the ranking.

LightGBM's lambdarank and the plain NeuMF rank the sampler's candidates, trained on the scorer's own training
set. LightGBM sees the same features; the NeuMF sees none and has no wide term, which is the published model
with a basket beside the user.

Each choice of settings is made on the validation period.
"""

import importlib.util
import warnings
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any, Final, NamedTuple

import numpy as np
import scipy.linalg
import scipy.sparse as sp
import structlog
import torch
from numpy.typing import NDArray

from ensemble.candidate_sampler.arrays import SamplerArrays
from ensemble.candidate_sampler.batch import Candidates
from ensemble.candidate_sampler.features import FEATURES
from ensemble.candidate_sampler.query import Query
from ensemble.candidate_sampler.sampler import CandidateSampler
from export_scripts.quality import baselines
from export_scripts.quality.baselines import TIE_BREAK, Pool
from export_scripts.quality.metrics import TOP, Placed, place
from export_scripts.quality.questions import BATCH
from export_scripts.quality.rankers import Asked, place_candidates
from export_scripts.receipts.shop import Shop
from export_scripts.scorer.fitting import fit
from export_scripts.scorer.ncf import NCF, NCFShape
from export_scripts.scorer.training_set import TrainingSet, collect_training_sets, make_periods
from export_scripts.settings import Settings
from export_scripts.snapshots.snapshot import recommendable, snapshot
from export_scripts.snapshots.splits import Split, as_queries, hide_items
from operations.records.contract import Contract

log = structlog.get_logger()

NOT_INSTALLED: Final = "not installed: pip install 'cesta[rivals]'"
NEEDS: Final = {
    "item-kNN": "implicit",
    "iALS": "implicit",
    "EASE": "",
    "LightGBM": "lightgbm",
    "plain NeuMF": "",
}
EASE_ITEMS = 8_000  # best sellers; one inverse of all 27,000 would take 6 GB and forty times as long
BASKET_WEIGHTS = (1, 10)  # of the basket that asks, against the whole past
CHOOSING_QUERIES = 1_000  # of the validation period, a standard error of HR@10 of .012
PLAIN_NEUMF = {"epochs": 10, "learning_rate": 0.002}  # it has vectors to learn, and nothing to start from
NEUMF_WIDTH = 32
TREES = 1_000  # at most; validation stops it far earlier

NO_CANDIDATES: Final = Candidates(
    np.zeros((0, 0), np.int32), np.zeros((0, 0, 0), np.float32), np.zeros((0, 0), np.int32)
)

Matrix = sp.csr_array
ScoreRows = Callable[[Matrix], NDArray[np.floating[Any]]]  # (n, pool) → (n, pool)
Fit = Callable[..., ScoreRows]


class Options(NamedTuple):
    """A model of users and items, and the settings that validation chooses from."""

    fit: Fit
    grid: dict[str, tuple[float, ...]]

    def choices(self) -> Iterator[dict[str, float]]:
        for damped, *values in product((False, True), *self.grid.values()):
            yield {"damped": damped, **dict(zip(self.grid, values, strict=True))}


class UserItem:
    """A ranker made of a function over rows of the user-item matrix."""

    def __init__(
        self, name: str, arrays: SamplerArrays, pool: Pool, score: ScoreRows, basket: float, note: str = ""
    ):
        """``basket`` is how many times over the asking basket counts in a query's row."""
        self.names, self.note = (name,), note
        self._arrays, self._pool, self._score, self._basket = arrays, pool, score, basket

    def place(self, asked: Asked) -> dict[str, Placed]:
        pool = self._pool
        values = (
            self._score(profiles(self._arrays, pool, asked.queries, self._basket))
            + TIE_BREAK * pool.popularity
        )
        scores = values.astype(np.float32)
        for row, query in zip(scores, asked.queries, strict=True):
            pool.without(row, query)
        return {self.names[0]: place(pool.rows, scores, asked.hidden)}


class Lambdarank:
    """LightGBM over the sampler's candidates and features."""

    names = ("LightGBM",)

    def __init__(self, booster: Any, note: str):
        self._booster, self.note = booster, note

    def place(self, asked: Asked) -> dict[str, Placed]:
        real = asked.candidates.rows > 0
        scores = np.full(real.shape, -np.inf, np.float32)
        if real.any():
            scores[real] = self._booster.predict(asked.candidates.features[real])
        return {self.names[0]: place_candidates(asked, scores)}


class PlainNeuMF:
    """The scorer's network without the sampler's features, over the sampler's candidates."""

    names = ("plain NeuMF",)

    def __init__(self, model: NCF, sampler: CandidateSampler, note: str):
        self._model, self._sampler, self.note = model, sampler, note

    @torch.no_grad()
    def place(self, asked: Asked) -> dict[str, Placed]:
        rows = asked.candidates.rows
        baskets = self._sampler.basket_rows(asked.queries)
        longest = max(1, int((baskets > 0).sum(1).max(initial=0)))
        scores = self._model(
            torch.tensor([query.user_row for query in asked.queries]),
            torch.from_numpy(baskets[:, :longest]),
            torch.from_numpy(rows),
            torch.zeros(*rows.shape, len(FEATURES)),
        ).numpy()
        return {self.names[0]: place_candidates(asked, np.where(rows > 0, scores, -np.inf))}


Rival = UserItem | Lambdarank | PlainNeuMF


def train_rivals(
    shop: Shop,
    split: Split,
    arrays: SamplerArrays,
    sampler: CandidateSampler,
    settings: Settings,
    contract: Contract,
) -> tuple[list[Rival], dict[str, str]]:
    """All rivals whose packages are there, ready for the test period that ``arrays`` and ``sampler`` end at.

    Also what is missing: name → how to get it.
    """
    missing = {name: NOT_INSTALLED for name, package in NEEDS.items() if not _installed(package)}
    past = snapshot(shop, split.training, settings, np.asarray(arrays.prior.weights))
    periods = make_periods(shop, split, past, settings)
    training, validation = collect_training_sets(shop, periods, settings, contract)
    rivals: list[Rival] = []
    for name, options in USER_ITEM.items():
        if name not in missing:
            chosen, basket = choose(name, options, shop, split, past, settings)
            score = fitted(options, matrix(shop, Pool(arrays), split.test), **chosen)
            note = _words(chosen | {"basket weight": basket})
            rivals.append(UserItem(name, arrays, Pool(arrays), score, basket, note))
    if "LightGBM" not in missing and len(training) and len(validation):
        rivals.append(lambdarank(training, validation, settings))
    rivals.append(plain_neumf(training, validation, past, sampler, settings))
    return rivals, missing


def lambdarank(training: TrainingSet, validation: TrainingSet, settings: Settings) -> Lambdarank:
    """Burges 2010, as LightGBM has it; the number of trees is where NDCG@10 on validation is best."""
    import lightgbm as lgb

    options = {
        "objective": "lambdarank",
        "metric": "ndcg",
        "eval_at": [TOP],
        "lambdarank_truncation_level": 20,
        "label_gain": [0, 1],
        "learning_rate": 0.1,
        "num_leaves": 31,
        "min_data_in_leaf": 200,  # one hit in 128 candidates: smaller leaves would learn single queries
        "seed": settings.train.seed,
        "deterministic": True,
        "verbose": -1,
    }
    train = lgb.Dataset(**_labelled(training), feature_name=list(FEATURES), params=options)
    valid = lgb.Dataset(**_labelled(validation), reference=train)
    stop = lgb.early_stopping(30, verbose=False)
    booster = lgb.train(options, train, TREES, valid_sets=[valid], callbacks=[stop])
    trees = f"{booster.best_iteration} trees, {len(training):,} of {training.n_queries:,} training queries"
    return Lambdarank(booster, trees)


def _labelled(examples: TrainingSet) -> dict[str, NDArray[Any]]:
    """Features (candidates, F) and labels (candidates,) of all queries end to end, and each one's number."""
    real = examples.rows > 0
    labels = np.zeros(real.shape, np.int8)
    labels[np.arange(len(examples)), examples.target] = 1
    return {
        "data": examples.features[real].astype(np.float32),
        "label": labels[real],
        "group": real.sum(1),
    }


def plain_neumf(
    training: TrainingSet,
    validation: TrainingSet,
    arrays: SamplerArrays,
    sampler: CandidateSampler,
    settings: Settings,
) -> PlainNeuMF:
    """He et al. 2017 with the scorer's widths: all features are 0, and so is the wide term over them."""
    s = settings.train.model_copy(update=PLAIN_NEUMF)
    for examples in (training, validation):
        examples.features[:] = 0
    torch.manual_seed(s.seed)
    users, items = len(arrays.retrieval.users), len(arrays.retrieval.items)
    shape = NCFShape(users, items, len(FEATURES), gmf=NEUMF_WIDTH, mlp=NEUMF_WIDTH, hidden=s.hidden)
    model, _ = fit(NCF(shape), training, validation, s)
    return PlainNeuMF(model, sampler, f"{len(training):,} of {training.n_queries:,} training queries")


def matrix(shop: Shop, pool: Pool, end: int) -> Matrix:
    """(owners, pool) of the baskets before ``end``: a row per user, and per basket of an unknown user."""
    users = shop.users[:end].astype(np.int64)
    _, owner = np.unique(np.where(users > 0, users, shop.n_users + np.arange(end)), return_inverse=True)
    owners = np.repeat(owner, np.diff(shop.offsets[: end + 1]))
    return _counts(pool, owners, shop.items[: shop.offsets[end]], int(owner.max(initial=-1)) + 1)


def profiles(arrays: SamplerArrays, pool: Pool, queries: list[Query], basket: float) -> Matrix:
    """(queries, pool): what the query's user bought, and its own basket ``basket`` times."""
    past = [baselines.past(arrays, query).items for query in queries]
    now = [np.array(query.basket, np.int32) for query in queries]
    return _rows(pool, past) + basket * _rows(pool, now)


def _rows(pool: Pool, parts: list[NDArray[np.int32]]) -> Matrix:
    owners = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return _counts(pool, owners, np.concatenate([np.zeros(0, np.int32), *parts]), len(parts))


def _counts(pool: Pool, owners: NDArray[np.int64], items: NDArray[np.int32], n: int) -> Matrix:
    columns = pool.columns[items]
    inside = columns >= 0
    entries = (np.ones(inside.sum(), np.float32), (owners[inside], columns[inside]))
    return sp.coo_array(entries, shape=(n, len(pool.rows))).tocsr()  # duplicates are summed


def fitted(options: Options, x: Matrix, damped: bool, **chosen: float) -> ScoreRows:
    """A model of the counts ``x``, or of log(1 + counts)."""
    if not damped:
        return options.fit(x, **chosen)
    score = options.fit(x.log1p(), **chosen)
    return lambda rows: score(rows.log1p())


def item_knn(x: Matrix, neighbours: float) -> ScoreRows:
    """Cosine between items, each keeping its nearest (implicit)."""
    from implicit.nearest_neighbours import CosineRecommender

    model = CosineRecommender(K=int(neighbours))
    with warnings.catch_warnings(action="ignore"):  # it warns of a conversion that is its own
        model.fit(sp.csr_matrix(x), show_progress=False)
    return lambda rows: (rows @ model.similarity).toarray()


def ials(x: Matrix, alpha: float, regularization: float) -> ScoreRows:
    """Hu, Koren and Volinsky 2008 (implicit): confidence is alpha times the value; users solved anew."""
    from implicit.cpu.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):  # its own threads and BLAS's would stand in each other's way
        model = AlternatingLeastSquares(
            factors=64, alpha=alpha, regularization=regularization, iterations=15, random_state=7
        )
        model.fit(sp.csr_matrix(x), show_progress=False)

    def score(rows: Matrix) -> NDArray[np.float32]:
        users = model.recalculate_user(np.arange(rows.shape[0]), sp.csr_matrix(rows))
        return users @ model.item_factors.T

    return score


def ease(x: Matrix, l2: float) -> ScoreRows:
    """Steck 2019, "Embarrassingly shallow autoencoders", eq. 8, over the EASE_ITEMS best sellers.

    With P the inverse of X'X + l2: B = -P / diag(P), its diagonal 0. The rest of the pool scores 0.
    """
    n, pool = min(EASE_ITEMS, x.shape[1]), x.shape[1]
    best = x[:, :n]  # the pool is in the order of sales
    gram = (best.T @ best).toarray()
    gram[np.diag_indices(n)] += l2
    factor, _ = scipy.linalg.lapack.spotrf(gram, lower=False, overwrite_a=True)
    inverse, _ = scipy.linalg.lapack.spotri(factor, lower=False, overwrite_c=True)
    del gram, factor
    inverse = np.triu(inverse) + np.triu(inverse, 1).T
    weights = inverse / -np.diag(inverse)
    weights[np.diag_indices(n)] = 0

    def score(rows: Matrix) -> NDArray[np.float32]:
        return np.pad(rows[:, :n] @ weights, ((0, 0), (0, pool - n)))

    return score


USER_ITEM: Final[dict[str, Options]] = {
    "item-kNN": Options(item_knn, {"neighbours": (50, 200)}),
    "iALS": Options(ials, {"alpha": (1, 5), "regularization": (1, 10)}),
    "EASE": Options(ease, {"l2": (30, 300)}),
}


def choose(
    name: str, options: Options, shop: Shop, split: Split, arrays: SamplerArrays, settings: Settings
) -> tuple[dict[str, float], float]:
    """The settings and the basket's weight with the best HR@10 on validation, fitted to what came before."""
    rng = np.random.default_rng(settings.train.seed)
    known, most = recommendable(arrays), settings.splits.hidden_per_basket
    hidden = hide_items(shop, split.validation, split.test, known, most, rng).sample(CHOOSING_QUERIES, rng)
    pool = Pool(arrays)
    x = matrix(shop, pool, split.validation)
    tried = []
    for chosen in options.choices():
        score = fitted(options, x, **chosen)
        for basket in BASKET_WEIGHTS:
            ranker = UserItem(name, arrays, pool, score, basket)
            placed = [
                ranker.place(Asked(as_queries(shop, part), part.items, NO_CANDIDATES))[name]
                for part in hidden.batches(BATCH)
            ]
            hits = sum(int((part.ranks < TOP).sum()) for part in placed)
            tried.append((hits, chosen, basket))
            log.info("choice", rival=name, hits=hits, queries=len(hidden), basket=basket, **chosen)
    _, chosen, basket = max(tried, key=lambda t: t[0])
    return chosen, basket


def _words(chosen: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in chosen.items())


def _installed(package: str) -> bool:
    return not package or importlib.util.find_spec(package) is not None
