"""`cesta paper`: the product's network on the NCF paper's own files, beside what others published.

Leave-one-out as in He et al. 2017: each user's test item is ranked among its sampled negatives. GMF, MLP
and NeuMF are one network (``ncf.py``) without baskets, categories and features; with a basket of the user's
latest items it is cesta's own query.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
    Fitted,
    as_examples,
    asked_about,
    fit,
    rank_of_first,
    ranks,
    validation_questions,
)
from export_scripts.quality.metrics import Ranks, gains
from export_scripts.scorer.ncf import NCF, NCFShape
from export_scripts.settings import PaperSettings, Settings

log = structlog.get_logger()

ALPHA = 0.5  # of eq. 13: what GMF and MLP weigh in NeuMF's start
POPULARITY, GMF, MLP = "popularity", "GMF", "MLP"
NEUMF, PRETRAINED, HISTORY = "NeuMF", "NeuMF, pre-trained", "NeuMF + history"
COSTS = {GMF: 2, MLP: 2, NEUMF: 3, PRETRAINED: 3, HISTORY: 4}  # of an epoch, measured: shares of the time

ML_1M = (994_169, 6_040, 3_706)  # training ratings, users, items
PUBLISHED = {  # HR@10 and NDCG@10 on ML-1M
    POPULARITY: (".453", ".254"),
    PRETRAINED: (".730", ".447"),  # the paper's own
    "NeuMF, tried independently": (".709", ".435"),
    "matrix factorisation, tuned": (".7294", ".4523"),  # Rendle et al. 2020
    "iALS": (".731", ".452"),
    "EASE": (".719", ".449"),
    "item-kNN": (".669", ".398"),
}


@dataclass(frozen=True)
class Row:
    """One line of the table: the test's figures of a model, and how the model came about."""

    name: str
    hr: float
    ndcg: float
    fitted: Fitted | None = None  # None: nothing to train


@dataclass(frozen=True)
class Report:
    """What the command prints."""

    protocol: Protocol
    rows: tuple[Row, ...]
    minutes: float

    @property
    def is_ml_1m(self) -> bool:
        p = self.protocol
        return (len(p.users), p.n_users - 1, p.n_items - 1) == ML_1M


def paper(settings: Settings, train: Path, test: Path, negatives: Path) -> Report:
    """Train all models on ``train`` and measure each once on ``test`` among its ``negatives``.

    Raises CestaError if a file is not in the paper's format.
    """
    s = settings.paper
    deadline = Deadline(60 * s.minutes)
    with one_thread():
        protocol = read_protocol(train, test, negatives)
        log.info("paper", ratings=len(protocol.users), users=protocol.n_users - 1, items=protocol.n_items - 1)
        examples = as_examples(protocol, np.random.default_rng(s.seed))
        rows = [_row(POPULARITY, popularity_ranks(protocol))]
        for name, fitted in fit_all(examples, s, deadline):
            history = s.history if name == HISTORY else 0
            rows.append(_row(name, ranks(fitted.model, asked_about(protocol, examples, history)), fitted))
    return Report(protocol, tuple(rows), s.minutes)


@contextmanager
def one_thread() -> Iterator[None]:
    """The same sums on any machine; and steps this short lose more to other processes than threads gain."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def fit_all(examples: Examples, s: PaperSettings, deadline: Deadline) -> Iterator[tuple[str, Fitted]]:
    """Every model with the name of its row. The test file has no way in here."""
    left = sum(COSTS.values())
    found: dict[str, Fitted] = {}
    for name, cost in COSTS.items():
        history = s.history if name == HISTORY else 0
        validation = validation_questions(examples, history, np.random.default_rng(s.seed))
        if name == PRETRAINED:
            model, rate = pretrained(found[GMF].model, found[MLP].model), s.fine_tuning_rate
        else:
            model, rate = new_model(name, examples, s), s.learning_rate
        found[name] = fit(model, examples, validation, s, deadline.share(cost / left), name, rate)
        left -= cost
        yield name, found[name]


def new_model(name: str, examples: Examples, s: PaperSettings) -> NCF:
    """The product's network, untrained: without MLP as GMF, without GMF branch as MLP."""
    shape = NCFShape(
        n_users=examples.n_users,
        n_items=examples.n_items,
        n_features=0,
        gmf=0 if name == MLP else s.gmf_dimensions,
        mlp=0 if name == GMF else s.mlp_dimensions,
        hidden=() if name == GMF else s.hidden,
    )
    torch.manual_seed(s.seed)
    return _network(shape)


def _network(shape: NCFShape) -> NCF:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Initializing zero-element tensors")  # a missing branch has none
        return NCF(shape)


@torch.no_grad()
def pretrained(gmf: NCF, mlp: NCF) -> NCF:
    """NeuMF that scores as the mean of a trained GMF and a trained MLP (eq. 13 with α = 0.5)."""
    a, b = gmf.shape, mlp.shape
    shape = NCFShape(a.n_users, a.n_items, 0, gmf=a.gmf, mlp=b.mlp, hidden=b.hidden)
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
    """(m,) ranks by how often an item stands in the training file."""
    counts = np.bincount(protocol.items, minlength=protocol.n_items)
    return rank_of_first(counts[np.column_stack([protocol.test_items, protocol.negatives])])


def _row(name: str, found: Ranks, fitted: Fitted | None = None) -> Row:
    hr, ndcg, _ = gains(found).mean(0)
    return Row(name, float(hr), float(ndcg), fitted)


def print_report(report: Report, console: Console) -> None:
    """The table, and below it what a reader must know to compare."""
    p = report.protocol
    title = f"{len(p.users):,} ratings, {p.n_users - 1:,} users, {p.n_items - 1:,} items"
    table = Table(title=f"{title}; the test item among {p.negatives.shape[1]} negatives")
    table.add_column("model")
    for column in ("HR@10", "NDCG@10", "hold-out", "epoch", "seconds", "ML-1M HR", "NDCG"):
        table.add_column(column, justify="right")
    for row in report.rows:
        table.add_row(
            row.name, f"{row.hr:.4f}", f"{row.ndcg:.4f}", *_making(row), *PUBLISHED.get(row.name, ())
        )
    table.add_section()
    ours_too = {row.name for row in report.rows}
    for name, figures in PUBLISHED.items():
        if name not in ours_too:
            table.add_row(name, *[""] * 5, *figures)
    console.print(table)
    for note in _notes(report):
        console.print(note, soft_wrap=True)


def _making(row: Row) -> tuple[str, str, str]:
    if row.fitted is None:
        return "", "", ""
    f = row.fitted
    return f"{f.validation[1]:.4f}", f"{f.epoch}/{f.epochs}{' cut' if f.cut else ''}", f"{f.seconds:.0f}"


def _notes(report: Report) -> Iterator[str]:
    yield "The last two columns were published on ML-1M" + (
        "." if report.is_ml_1m else ", which this is not: they do not compare with the others."
    )
    yield "hold-out: NDCG@10 on each user's last training item; it chose the epoch, the test chose nothing."
    cut = [row.name for row in report.rows if row.fitted and row.fitted.cut]
    if cut:
        yield f"paper.minutes = {report.minutes:g} cut these short: {'; '.join(cut)}."
    if report.protocol.repeats:
        yield f"{report.protocol.repeats} test items are in the training file too, for the same user."
