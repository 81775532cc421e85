"""``cesta paper``: cesta's network on the files of the NCF paper, beside published figures.

The paper on neural collaborative filtering (NCF, He et al. 2017) leaves one item out: each user's test item
is ranked among its sampled negatives. Three of its models are cesta's network (``scorer/ncf.py``) without
baskets, categories and features: GMF (generalised matrix factorisation), MLP (multi-layer perceptron) and
their sum, NeuMF (neural matrix factorisation). With a basket of the user's latest items, the query is cesta's
own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import structlog
import torch

from export_scripts.paper.examples import make_examples, make_test_questions, rank_of_first, ranks
from export_scripts.paper.files import Protocol, read_protocol
from export_scripts.paper.models import HISTORY, fit_all
from export_scripts.paper.search import FittedModel
from export_scripts.paper.trainers import Deadline
from export_scripts.quality.metrics import Ranks, gains
from export_scripts.settings import Settings

log = structlog.get_logger()

POPULARITY = "popularity"
MEASURING = 0.02  # of the time, kept for the test of all models; 1 minute of 50


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


def paper(settings: Settings, train: Path, test: Path, negatives: Path) -> Report:
    """Train all models on ``train``, and measure each once on ``test`` among the ``negatives``.

    Raises CestaError if a file is not in the paper's format.
    """
    chosen = settings.paper
    deadline = Deadline(60 * chosen.minutes)
    with use_one_thread():
        protocol = read_protocol(train, test, negatives)
        log.info("paper", ratings=len(protocol.users), users=protocol.n_users - 1, items=protocol.n_items - 1)
        if protocol.own_negatives:
            log.warning(
                f"{protocol.own_negatives} test items stand among their own negatives; each is ranked once, "
                "as by the published code"
            )
        examples = make_examples(protocol, np.random.default_rng(chosen.seed))
        rows = [_row(POPULARITY, popularity_ranks(protocol))]
        fitted = fit_all(examples, chosen, deadline.share(1 - MEASURING))
        for name, model in fitted.items():
            history = chosen.history if name == HISTORY else 0
            questions = make_test_questions(protocol, examples, history)
            rows.append(_row(name, ranks(model.model, questions), model))
    return Report(protocol, tuple(rows), chosen.minutes)


@contextmanager
def use_one_thread() -> Iterator[None]:
    """Let each of the two trainings compute with one thread, so that every machine gets the same sums."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def popularity_ranks(protocol: Protocol) -> Ranks:
    """(m,) ranks of the test items by their number of lines in the training file."""
    counts = np.bincount(protocol.items, minlength=protocol.n_items)
    counts[0] = -1  # not ranked
    return rank_of_first(counts[np.column_stack([protocol.test_items, protocol.negatives])])


def _row(name: str, test_ranks: Ranks, fitted: FittedModel | None = None) -> Row:
    hr, ndcg, _ = gains(test_ranks).mean(0)
    return Row(name, float(hr), float(ndcg), fitted)
