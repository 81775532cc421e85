"""Published models, trained on the same receipts: ``cesta evaluate --all`` compares cesta with them.

item-kNN, iALS and EASE on customers describe users by their purchases. A row of their matrix is a user, or a
basket of an unknown user. Its values are numbers n of baskets with the item, or log(1 + n). A query becomes
such a row: the user's history plus the query's basket, which counts several times; without a user, the basket
alone. Only the basket's items are left out of the ranking.

LightGBM's lambdarank and the plain NeuMF (neural matrix factorisation) rank the sampler's candidates. They
are trained on the scorer's training set. LightGBM gets the scorer's features. The plain NeuMF has no features
and no wide term: it is the published model with a basket beside the user.

All settings are chosen on the validation period.
"""

import importlib.util
import warnings
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any, Final, NamedTuple, Protocol, TypedDict

import numpy as np
import scipy.sparse as sp
import structlog
import torch
from numpy.typing import NDArray

from ensemble.candidate_sampler.arrays import SamplerArrays
from ensemble.candidate_sampler.features import FEATURES
from ensemble.candidate_sampler.query import Query
from ensemble.candidate_sampler.sampler import CandidateSampler
from export_scripts.quality import baselines
from export_scripts.quality.baselines import TIE_BREAK, Pool
from export_scripts.quality.ease.fitting import EASE_ITEMS, ease_weights
from export_scripts.quality.metrics import TOP, Placement, place
from export_scripts.quality.questions import BATCH
from export_scripts.quality.rankers import NO_CANDIDATES, QueryBatch, place_candidates
from export_scripts.receipts.shop import Shop
from export_scripts.scorer.fitting import fit
from export_scripts.scorer.ncf import NCF, NCFShape
from export_scripts.scorer.training_set import TrainingSet, collect_training_sets, make_periods
from export_scripts.settings import Settings
from export_scripts.snapshots.snapshot import recommendable, snapshot
from export_scripts.snapshots.splits import Split, as_queries, hide_items
from operations.records.contract import Contract

log = structlog.get_logger()

EASE: Final = "EASE on customers"  # its rows are users; those of quality/ease/ are receipts
NOT_INSTALLED: Final = "not installed: pip install 'cesta[rivals]'"
NEEDS: Final = {
    "item-kNN": "implicit",
    "iALS": "implicit",
    EASE: "",
    "LightGBM": "lightgbm",
    "plain NeuMF": "",
}
BASKET_WEIGHTS = (1, 10)  # how often the query's basket counts, beside the user's history
CHOOSING_QUERIES = 1_000  # of the validation period; the standard error of HR@10 is 0.012
# More epochs, because its vectors start at random.
PLAIN_NEUMF = {"epochs": 10, "questions_seen": 1_000_000, "learning_rate": 0.002}
NEUMF_WIDTH = 32
MOST_TREES = 1_000  # validation stops far earlier

Matrix = sp.csr_array
ScoreRows = Callable[[Matrix], NDArray[np.floating[Any]]]  # (n, pool) → (n, pool)
Fit = Callable[..., ScoreRows]  # a matrix and the settings of the grid


class TunableModel(NamedTuple):
    """A model of users and items, and the grid of settings that validation chooses from."""

    fit: Fit
    grid: dict[str, tuple[float, ...]]

    def choices(self) -> Iterator[dict[str, float]]:
        """All combinations of the grid; with ``damped`` the values are log(1 + n)."""
        for damped, *values in product((False, True), *self.grid.values()):
            yield {"damped": damped, **dict(zip(self.grid, values, strict=True))}


class UserItem:
    """A ranker that scores rows of the user-item matrix with a function."""

    def __init__(
        self, name: str, arrays: SamplerArrays, pool: Pool, score: ScoreRows, basket: float, note: str = ""
    ):
        """``basket`` is how often the query's basket counts in the query's row."""
        self.names, self.note = (name,), note
        self._arrays, self._pool, self._score, self._basket = arrays, pool, score, basket

    def place(self, batch: QueryBatch) -> dict[str, Placement]:
        pool = self._pool
        values = (
            self._score(profiles(self._arrays, pool, batch.queries, self._basket))
            + TIE_BREAK * pool.popularity
        )
        scores = values.astype(np.float32)
        for row, query in zip(scores, batch.queries, strict=True):
            pool.without(row, query)
        return {self.names[0]: place(pool.rows, scores, batch.hidden, batch.bought)}


class Booster(Protocol):
    """The part of lightgbm.Booster that is used; the package is optional."""

    def predict(self, features: NDArray[np.float32], /) -> NDArray[np.float64]: ...


class Lambdarank:
    """LightGBM's lambdarank over the sampler's candidates and features."""

    names = ("LightGBM",)

    def __init__(self, booster: Booster, note: str):
        self._booster, self.note = booster, note

    def place(self, batch: QueryBatch) -> dict[str, Placement]:
        real = batch.candidates.rows > 0
        scores = np.full(real.shape, -np.inf, np.float32)
        if real.any():
            scores[real] = self._booster.predict(batch.candidates.features[real])
        return {self.names[0]: place_candidates(batch, scores)}


class PlainNeuMF:
    """The scorer's network without the sampler's features, over the sampler's candidates."""

    names = ("plain NeuMF",)

    def __init__(self, model: NCF, sampler: CandidateSampler, note: str):
        self._model, self._sampler, self.note = model, sampler, note

    @torch.no_grad()
    def place(self, batch: QueryBatch) -> dict[str, Placement]:
        rows = batch.candidates.rows
        baskets = self._sampler.basket_rows(batch.queries)
        longest = max(1, int((baskets > 0).sum(1).max(initial=0)))
        scores: torch.Tensor = self._model(
            torch.tensor([query.user_row for query in batch.queries]),
            torch.from_numpy(baskets[:, :longest]),
            torch.from_numpy(rows),
            torch.zeros(*rows.shape, len(FEATURES)),
        )
        return {self.names[0]: place_candidates(batch, np.where(rows > 0, scores.numpy(), -np.inf))}


Rival = UserItem | Lambdarank | PlainNeuMF


def train_rivals(
    shop: Shop,
    split: Split,
    arrays: SamplerArrays,
    sampler: CandidateSampler,
    settings: Settings,
    contract: Contract,
) -> tuple[list[Rival], dict[str, str]]:
    """Train all rivals whose packages are installed, for the test period that begins where ``arrays`` end.

    Returns the rivals, and for each missing one how to install it.
    """
    missing = {name: NOT_INSTALLED for name, package in NEEDS.items() if not _installed(package)}
    past = snapshot(shop, split.training, settings, np.asarray(arrays.prior.weights))
    periods = make_periods(shop, split, past, settings)
    training, validation = collect_training_sets(shop, periods, settings, contract)
    rivals: list[Rival] = []
    for name, model in TUNABLE_MODELS.items():
        if name not in missing:
            choice, basket = choose(name, model, shop, split, past, settings)
            score = fit_to_counts(model, count_matrix(shop, Pool(arrays), split.test), choice)
            note = _words(choice | {"basket weight": basket})
            rivals.append(UserItem(name, arrays, Pool(arrays), score, basket, note))
    if "LightGBM" not in missing and len(training) and len(validation):
        rivals.append(train_lambdarank(training, validation, settings))
    rivals.append(train_plain_neumf(training, validation, past, sampler, settings))
    return rivals, missing


def train_lambdarank(training: TrainingSet, validation: TrainingSet, settings: Settings) -> Lambdarank:
    """Train LightGBM's lambdarank (Burges 2010); NDCG@10 on validation chooses the number of trees."""
    import lightgbm as lgb

    options = {
        "objective": "lambdarank",
        "metric": "ndcg",
        "eval_at": [TOP],
        "lambdarank_truncation_level": 20,
        "label_gain": [0, 1],
        "learning_rate": 0.1,
        "num_leaves": 31,
        "min_data_in_leaf": 200,  # one hit in 128 candidates: smaller leaves would memorise single queries
        "seed": settings.train.seed,
        "deterministic": True,
        "verbose": -1,
    }
    train = lgb.Dataset(**_labelled(training), feature_name=list(FEATURES), params=options)
    valid = lgb.Dataset(**_labelled(validation), reference=train)
    stop = lgb.early_stopping(30, verbose=False)
    booster = lgb.train(options, train, MOST_TREES, valid_sets=[valid], callbacks=[stop])
    trees = f"{booster.best_iteration} trees, {len(training):,} of {training.n_queries:,} training queries"
    return Lambdarank(booster, trees)


class _Labelled(TypedDict):
    """The arguments of lightgbm.Dataset; the queries lie end to end."""

    data: NDArray[np.float32]  # (candidates, F)
    label: NDArray[np.int8]  # (candidates,)
    group: NDArray[np.int64]  # (queries,) their numbers of candidates


def _labelled(examples: TrainingSet) -> _Labelled:
    real = examples.rows > 0
    labels = np.zeros(real.shape, np.int8)
    labels[np.arange(len(examples)), examples.target] = 1
    return {
        "data": examples.features[real].astype(np.float32),
        "label": labels[real],
        "group": real.sum(1),
    }


def train_plain_neumf(
    training: TrainingSet,
    validation: TrainingSet,
    arrays: SamplerArrays,
    sampler: CandidateSampler,
    settings: Settings,
) -> PlainNeuMF:
    """Train the NeuMF of He et al. 2017 with the scorer's layers; without features the wide term is 0.

    The features of ``training`` and ``validation`` are overwritten with zeros.
    """
    chosen = settings.train.model_copy(update=PLAIN_NEUMF)
    for examples in (training, validation):
        examples.features[:] = 0
    torch.manual_seed(chosen.seed)
    users, items = len(arrays.retrieval.users), len(arrays.retrieval.items)
    shape = NCFShape(users, items, len(FEATURES), gmf=NEUMF_WIDTH, mlp=NEUMF_WIDTH, hidden=chosen.hidden)
    model, _ = fit(NCF(shape), training, validation, chosen)
    return PlainNeuMF(model, sampler, f"{len(training):,} of {training.n_queries:,} training queries")


def count_matrix(shop: Shop, pool: Pool, end: int) -> Matrix:
    """Count the baskets before ``end``: (owners, pool), a row per user and per basket of an unknown user."""
    users = shop.users[:end].astype(np.int64)
    _, owner = np.unique(np.where(users > 0, users, shop.n_users + np.arange(end)), return_inverse=True)
    owners = np.repeat(owner, np.diff(shop.offsets[: end + 1]))
    return _counts(pool, owners, shop.items[: shop.offsets[end]], int(owner.max(initial=-1)) + 1)


def profiles(arrays: SamplerArrays, pool: Pool, queries: list[Query], basket: float) -> Matrix:
    """Make the queries' rows (queries, pool): the user's history, and the query's basket ``basket`` times."""
    histories = [baselines.past(arrays, query).items for query in queries]
    baskets = [np.array(query.basket, np.int32) for query in queries]
    rows: Matrix = _rows(pool, histories) + basket * _rows(pool, baskets)
    return rows


def _rows(pool: Pool, parts: list[NDArray[np.int32]]) -> Matrix:
    owners = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return _counts(pool, owners, np.concatenate([np.zeros(0, np.int32), *parts]), len(parts))


def _counts(pool: Pool, owners: NDArray[np.int64], items: NDArray[np.int32], n: int) -> Matrix:
    columns = pool.columns[items]
    inside = columns >= 0
    entries = (np.ones(inside.sum(), np.float32), (owners[inside], columns[inside]))
    counts: Matrix = sp.coo_array(entries, shape=(n, len(pool.rows))).tocsr()  # duplicates are summed
    return counts


def fit_to_counts(model: TunableModel, counts: Matrix, choice: dict[str, float]) -> ScoreRows:
    """Fit ``model`` with one of its ``choices()`` to the counts, or to log(1 + counts) if it is damped."""
    settings = {name: value for name, value in choice.items() if name != "damped"}
    if not choice["damped"]:
        return model.fit(counts, **settings)
    score = model.fit(counts.log1p(), **settings)
    return lambda rows: score(rows.log1p())


def fit_item_knn(x: Matrix, neighbours: float) -> ScoreRows:
    """Cosine similarity between items; each item keeps its nearest neighbours (implicit)."""
    from implicit.nearest_neighbours import CosineRecommender

    model = CosineRecommender(K=int(neighbours))
    with warnings.catch_warnings(action="ignore"):  # implicit warns about its own conversion
        model.fit(sp.csr_matrix(x), show_progress=False)
    return lambda rows: (rows @ model.similarity).toarray()


def fit_ials(x: Matrix, alpha: float, regularization: float) -> ScoreRows:
    """Implicit alternating least squares (Hu, Koren and Volinsky 2008; implicit).

    The confidence is alpha times the value. Users' vectors are solved anew for the rows to score.
    """
    from implicit.cpu.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):  # implicit's own threads and those of BLAS would compete
        model = AlternatingLeastSquares(
            factors=64, alpha=alpha, regularization=regularization, iterations=15, random_state=7
        )
        model.fit(sp.csr_matrix(x), show_progress=False)

    def score(rows: Matrix) -> NDArray[np.float32]:
        users = model.recalculate_user(np.arange(rows.shape[0]), sp.csr_matrix(rows))
        scores: NDArray[np.float32] = users @ model.item_factors.T
        return scores

    return score


def fit_ease(x: Matrix, l2: float) -> ScoreRows:
    """Embarrassingly shallow autoencoder (Steck 2019) over the EASE_ITEMS best sellers; the rest scores 0."""
    n, pool = min(EASE_ITEMS, x.shape[1]), x.shape[1]
    best = x[:, :n]  # the pool is sorted by sales
    weights = ease_weights((best.T @ best).toarray(), l2)

    def score(rows: Matrix) -> NDArray[np.float32]:
        return np.pad(rows[:, :n] @ weights, ((0, 0), (0, pool - n)))

    return score


TUNABLE_MODELS: Final[dict[str, TunableModel]] = {
    "item-kNN": TunableModel(fit_item_knn, {"neighbours": (50, 200)}),
    "iALS": TunableModel(fit_ials, {"alpha": (1, 5), "regularization": (1, 10)}),
    EASE: TunableModel(fit_ease, {"l2": (30, 300)}),
}


def choose(
    name: str, model: TunableModel, shop: Shop, split: Split, arrays: SamplerArrays, settings: Settings
) -> tuple[dict[str, float], float]:
    """Choose the model's settings and the basket's weight with the best HR@10 on the validation period.

    The model is fitted to the baskets before that period.
    """
    rng = np.random.default_rng(settings.train.seed)
    rankable, per_basket = recommendable(arrays), settings.splits.hidden_per_basket
    hidden = hide_items(shop, split.validation, split.test, rankable, per_basket, rng)
    hidden = hidden.sample(CHOOSING_QUERIES, rng)
    pool = Pool(arrays)
    counts = count_matrix(shop, pool, split.validation)
    trials = []
    for choice in model.choices():
        score = fit_to_counts(model, counts, choice)
        for basket in BASKET_WEIGHTS:
            ranker = UserItem(name, arrays, pool, score, basket)
            placements = [
                ranker.place(QueryBatch(as_queries(shop, part), part.items, NO_CANDIDATES))[name]
                for part in hidden.batches(BATCH)
            ]
            hits = sum(int((placement.ranks < TOP).sum()) for placement in placements)
            trials.append((hits, choice, basket))
            log.info("choice", rival=name, hits=hits, queries=len(hidden), basket=basket, **choice)
    _, choice, basket = max(trials, key=lambda trial: trial[0])
    return choice, basket


def _words(choice: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in choice.items())


def _installed(package: str) -> bool:
    return not package or importlib.util.find_spec(package) is not None
