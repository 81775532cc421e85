"""``cesta paper``: cesta's network on the files of the NCF paper, beside published figures.

The paper on neural collaborative filtering (NCF, He et al. 2017) leaves one item out: each user's test item
is ranked among its sampled negatives. Three of its models are cesta's network (``scorer/ncf.py``) without
baskets, categories and features: GMF (generalised matrix factorisation), MLP (multi-layer perceptron) and
their sum, NeuMF (neural matrix factorisation). With a basket of the user's latest items, the query is cesta's
own.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import structlog
import torch
from rich.console import Console
from rich.table import Table

from export_scripts.paper.files import Protocol, read_protocol
from export_scripts.paper.training import (
    Deadline,
    Examples,
    FittedModel,
    fit,
    make_examples,
    make_test_questions,
    make_validation_questions,
    rank_of_first,
    ranks,
)
from export_scripts.quality.metrics import Ranks, gains
from export_scripts.scorer.ncf import NCF, NCFShape
from export_scripts.settings import PaperSettings, Settings

log = structlog.get_logger()

ALPHA = 0.5  # of eq. 13: the weight of GMF in NeuMF's start; that of MLP is 1 - ALPHA
POPULARITY, GMF, MLP = "popularity", "GMF", "MLP"
NEUMF, PRETRAINED, HISTORY = "NeuMF", "NeuMF, pre-trained", "NeuMF + history"
COSTS = {
    GMF: 2,
    MLP: 2,
    NEUMF: 3,
    PRETRAINED: 3,
    HISTORY: 4,
}  # measured, of an epoch: the models' shares of the time

ML_1M = (994_169, 6_040, 3_706)  # training ratings, users, items
PUBLISHED = {  # HR@10 and NDCG@10 on ML-1M
    POPULARITY: ("0.453", "0.254"),
    PRETRAINED: ("0.730", "0.447"),  # the paper's own
    "NeuMF, tried independently": ("0.709", "0.435"),
    "matrix factorisation, tuned": ("0.7294", "0.4523"),  # Rendle et al. 2020
    "iALS": ("0.731", "0.452"),
    "EASE": ("0.719", "0.449"),
    "item-kNN": ("0.669", "0.398"),
}


@dataclass(frozen=True)
class Row:
    """One line of the table: a model's figures on the test, and how it was trained."""

    name: str
    hr: float
    ndcg: float
    fitted: FittedModel | None = None  # None: nothing to train


@dataclass(frozen=True)
class Report:
    """The content of the printed table."""

    protocol: Protocol
    rows: tuple[Row, ...]
    minutes: float

    @property
    def is_ml_1m(self) -> bool:
        protocol = self.protocol
        return (len(protocol.users), protocol.n_users - 1, protocol.n_items - 1) == ML_1M


def paper(settings: Settings, train: Path, test: Path, negatives: Path) -> Report:
    """Train all models on ``train``, and measure each once on ``test`` among the ``negatives``.

    Raises CestaError if a file is not in the paper's format.
    """
    chosen = settings.paper
    deadline = Deadline(60 * chosen.minutes)
    with use_one_thread():
        protocol = read_protocol(train, test, negatives)
        log.info("paper", ratings=len(protocol.users), users=protocol.n_users - 1, items=protocol.n_items - 1)
        examples = make_examples(protocol, np.random.default_rng(chosen.seed))
        rows = [_row(POPULARITY, popularity_ranks(protocol))]
        for name, fitted in fit_all(examples, chosen, deadline):
            history = chosen.history if name == HISTORY else 0
            questions = make_test_questions(protocol, examples, history)
            rows.append(_row(name, ranks(fitted.model, questions), fitted))
    return Report(protocol, tuple(rows), chosen.minutes)


@contextmanager
def use_one_thread() -> Iterator[None]:
    """Compute with one thread, so that every machine gets the same sums.

    Steps are so short that more threads would lose more to other processes than they gain.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def fit_all(
    examples: Examples, settings: PaperSettings, deadline: Deadline
) -> Iterator[tuple[str, FittedModel]]:
    """Train every model, and yield it with the name of its row. The test file is not passed in."""
    cost_left = sum(COSTS.values())
    fitted: dict[str, FittedModel] = {}
    for name, cost in COSTS.items():
        history = settings.history if name == HISTORY else 0
        validation = make_validation_questions(examples, history, np.random.default_rng(settings.seed))
        if name == PRETRAINED:
            model, rate = pretrained(fitted[GMF].model, fitted[MLP].model), settings.fine_tuning_rate
        else:
            model, rate = new_model(name, examples, settings), settings.learning_rate
        share = deadline.share(cost / cost_left)
        fitted[name] = fit(model, examples, validation, settings, share, name, rate)
        cost_left -= cost
        yield name, fitted[name]


def new_model(name: str, examples: Examples, settings: PaperSettings) -> NCF:
    """Make the untrained network: GMF has no MLP, and MLP has no GMF branch."""
    shape = NCFShape(
        n_users=examples.n_users,
        n_items=examples.n_items,
        n_features=0,
        gmf=0 if name == MLP else settings.gmf_dimensions,
        mlp=0 if name == GMF else settings.mlp_dimensions,
        hidden=() if name == GMF else settings.hidden,
    )
    torch.manual_seed(settings.seed)
    return _network(shape)


def _network(shape: NCFShape) -> NCF:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Initializing zero-element tensors")  # those of a missing branch
        return NCF(shape)


@torch.no_grad()
def pretrained(gmf: NCF, mlp: NCF) -> NCF:
    """Make a NeuMF that scores as the mean of a trained GMF and a trained MLP (eq. 13 with α = 0.5)."""
    shape = replace(gmf.shape, mlp=mlp.shape.mlp, hidden=mlp.shape.hidden)
    model = _network(shape)
    of_gmf = {"user_gmf.weight", "basket_gmf.weight", "item_gmf.weight", "gmf_weights"}
    weights = {
        name: (gmf if name in of_gmf else mlp).state_dict()[name]
        for name, tensor in model.state_dict().items()
        if tensor.numel()
    }
    weights["gmf_weights"] = ALPHA * gmf.gmf_weights
    weights["out.weight"] = (1 - ALPHA) * mlp.out.weight
    weights["item_bias.weight"] = ALPHA * gmf.item_bias.weight + (1 - ALPHA) * mlp.item_bias.weight
    model.load_state_dict(weights, strict=False)
    return model


def popularity_ranks(protocol: Protocol) -> Ranks:
    """(m,) ranks of the test items by their number of lines in the training file."""
    counts = np.bincount(protocol.items, minlength=protocol.n_items)
    return rank_of_first(counts[np.column_stack([protocol.test_items, protocol.negatives])])


def _row(name: str, test_ranks: Ranks, fitted: FittedModel | None = None) -> Row:
    hr, ndcg, _ = gains(test_ranks).mean(0)
    return Row(name, float(hr), float(ndcg), fitted)


def print_report(report: Report, console: Console) -> None:
    """Print the table, and below it the notes that a comparison needs."""
    protocol = report.protocol
    title = f"{len(protocol.users):,} ratings, {protocol.n_users - 1:,} users, {protocol.n_items - 1:,} items"
    table = Table(title=f"{title}; the test item among {protocol.negatives.shape[1]} negatives")
    table.add_column("model")
    for column in ("HR@10", "NDCG@10", "hold-out", "epoch", "seconds", "ML-1M HR", "NDCG"):
        table.add_column(column, justify="right")
    for row in report.rows:
        table.add_row(
            row.name, f"{row.hr:.4f}", f"{row.ndcg:.4f}", *_training_cells(row), *PUBLISHED.get(row.name, ())
        )
    table.add_section()
    trained = {row.name for row in report.rows}
    for name, figures in PUBLISHED.items():
        if name not in trained:
            table.add_row(name, *[""] * 5, *figures)
    console.print(table)
    for note in _notes(report):
        console.print(note, soft_wrap=True)


def _training_cells(row: Row) -> tuple[str, str, str]:
    if row.fitted is None:
        return "", "", ""
    fitted = row.fitted
    epochs = f"{fitted.epoch}/{fitted.epochs}{' cut' if fitted.cut else ''}"
    return f"{fitted.validation[1]:.4f}", epochs, f"{fitted.seconds:.0f}"


def _notes(report: Report) -> Iterator[str]:
    if report.is_ml_1m:
        yield "The last two columns are figures published on ML-1M."
    else:
        yield "The last two columns are figures published on ML-1M, not on these files. Do not compare them."
    yield "hold-out: NDCG@10 on each user's last training item. It chose the epoch; the test chose nothing."
    cut = [row.name for row in report.rows if row.fitted and row.fitted.cut]
    if cut:
        yield f"The time limit paper.minutes = {report.minutes:g} cut these short: {'; '.join(cut)}."
    if report.protocol.repeats:
        yield f"{report.protocol.repeats} test items are also in the training file, for the same user."
