"""Train cesta's network as the paper on neural collaborative filtering (NCF) does.

The loss is binary cross-entropy with sampled negatives:

loss = - log σ(score(u, i)) - Σ_j log(1 - σ(score(u, j)))    eq. 7; j uniform over the items u never chose

The epoch is chosen by each user's last training item, ranked among sampled negatives. No function here reads
the test file: ``Questions`` made from it are given to ``ranks`` only.
"""

import time
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from torch import nn

from export_scripts.paper.files import Protocol, Rows
from export_scripts.progress import Progress
from export_scripts.quality.metrics import Ranks, gains
from export_scripts.scorer.ncf import NCF
from export_scripts.settings import PaperSettings

log = structlog.get_logger()

VALIDATION_NEGATIVES = 99  # as many as the paper's test has
QUESTIONS_AT_ONCE = 512  # 51,200 scores; the MLP (multi-layer perceptron) needs about 50 MB for them


@dataclass(frozen=True)
class Questions:
    """Lists of candidates to rank; the first column is the true item."""

    users: Rows  # (m,)
    baskets: Rows  # (m, L) 0 is padding
    candidates: Rows  # (m, 1 + k)


@dataclass(frozen=True)
class Examples:
    """The training file, sorted by user and time (random among equal times), with a hold-out."""

    users: Rows  # (n,)
    items: Rows  # (n,)
    start: Rows  # (n,) place of the user's first positive
    training: Rows  # (t,) places to learn from
    held_out: Rows  # (v,) places of each user's last positive, to validate on
    n_items: int
    n_users: int

    def history(self, places: Rows, length: int) -> Rows:
        """(b,) places → (b, length) the user's latest items before each place, without the item at it."""
        before = places[:, None] - np.arange(1, length + 1)
        return np.where(before >= self.start[places, None], self.items[before], 0)

    def met(self, places: Rows) -> NDArray[np.bool_]:
        """(users, items) marks the pairs that are positives at these places, and the padding row."""
        met = np.zeros((self.n_users, self.n_items), bool)
        met[self.users[places], self.items[places]] = True
        met[:, 0] = True
        return met


class Deadline:
    """The end of the time that training may take; it is checked after every batch."""

    def __init__(self, seconds: float):
        self._end = time.monotonic() + seconds

    @property
    def seconds_left(self) -> float:
        return max(0.0, self._end - time.monotonic())

    def share(self, part: float) -> "Deadline":
        """A deadline after a ``part`` of the time left, 0 … 1."""
        return Deadline(self.seconds_left * part)


@dataclass(frozen=True)
class FittedModel:
    """A model as it was after its best epoch, and how the training went."""

    model: NCF
    epoch: int  # the best on the hold-out
    epochs: int  # begun, the last one perhaps not finished
    validation: tuple[float, float]  # HR@10 and NDCG@10 on the hold-out
    seconds: float
    cut: bool  # the deadline ended the training


def make_examples(protocol: Protocol, rng: np.random.Generator) -> Examples:
    """Sort the training file and hold out the last item of every user who has at least two."""
    n = len(protocol.users)
    order = np.lexsort((rng.random(n), protocol.times, protocol.users))
    users, items = protocol.users[order], protocol.items[order]
    start = np.searchsorted(users, users)
    last = np.append(users[1:] != users[:-1], True)
    held_out = last & (start < np.arange(n))
    return Examples(
        users,
        items,
        start,
        np.flatnonzero(~held_out),
        np.flatnonzero(held_out),
        protocol.n_items,
        protocol.n_users,
    )


def make_validation_questions(examples: Examples, history: int, rng: np.random.Generator) -> Questions:
    """Rank each user's held-out item among items that the user does not have in the training file."""
    places = examples.held_out
    met = examples.met(np.arange(len(examples.users)))
    users = examples.users[places]
    negatives = draw_negatives(met, users, VALIDATION_NEGATIVES, rng)
    candidates = np.column_stack([examples.items[places], negatives])
    return Questions(users, examples.history(places, history), candidates)


def make_test_questions(protocol: Protocol, examples: Examples, history: int) -> Questions:
    """Rank each user's test item; histories come from the whole training file, held-out items included."""
    after = np.searchsorted(examples.users, protocol.test_users, side="right")
    before = after[:, None] - np.arange(1, history + 1)
    first = np.searchsorted(examples.users, protocol.test_users)
    baskets = np.where(before >= first[:, None], examples.items[before], 0)
    return Questions(protocol.test_users, baskets, np.column_stack([protocol.test_items, protocol.negatives]))


def draw_negatives(met: NDArray[np.bool_], users: Rows, count: int, rng: np.random.Generator) -> Rows:
    """(b,) users → (b, count) items drawn uniformly from those that ``met`` does not mark."""
    drawn = rng.integers(1, met.shape[1], (len(users), count))
    again = np.nonzero(met[users[:, None], drawn])
    while len(again[0]):
        drawn[again] = rng.integers(1, met.shape[1], len(again[0]))
        still = met[users[again[0]], drawn[again]]
        again = again[0][still], again[1][still]
    return drawn


def fit(
    model: NCF,
    examples: Examples,
    validation: Questions,
    settings: PaperSettings,
    deadline: Deadline,
    name: str,
    learning_rate: float,
) -> FittedModel:
    """Train ``model`` until its NDCG@10 on the hold-out stops improving, or until the deadline.

    Returns the model after the best epoch; epoch 0 is the start.
    """
    began = time.monotonic()
    rng = np.random.default_rng(settings.seed)
    torch.manual_seed(settings.seed)
    met = examples.met(examples.training)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True)
    batches = max(1, -(-len(examples.training) // settings.batch_size))
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, total_iters=batches * settings.epochs)
    history = validation.baskets.shape[1]
    penalty = L2Penalty(model, examples, settings)
    best, best_quality, best_epoch = deepcopy(model), measure_quality(model, validation), 0
    epoch, cut = 0, False
    with Progress(name, batches * settings.epochs) as progress:
        for epoch in range(1, settings.epochs + 1):
            model.train()
            for places in np.array_split(rng.permutation(examples.training), batches):
                users = examples.users[places]
                items = np.column_stack(
                    [examples.items[places], draw_negatives(met, users, settings.negatives, rng)]
                )
                scores = score(model, users, examples.history(places, history), items)
                truth = torch.zeros_like(scores)
                truth[:, 0] = 1
                loss = nn.functional.binary_cross_entropy_with_logits(scores, truth) + penalty(model)
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
                schedule.step()
                progress.advance(loss=loss.item())
                if cut := deadline.seconds_left == 0:
                    break
            hr, ndcg = measure_quality(model, validation)
            log.info("paper", model=name, epoch=epoch, loss=loss.item(), hr=hr, ndcg=ndcg)
            if ndcg > best_quality[1]:
                best, best_quality, best_epoch = deepcopy(model), (hr, ndcg), epoch
            if cut or epoch - best_epoch >= settings.patience:
                break
    return FittedModel(best.eval(), best_epoch, epoch, best_quality, time.monotonic() - began, cut)


class L2Penalty:
    """The L2 penalty on vectors, in proportion to how often they are used, as in Rendle et al. 2020."""

    def __init__(self, model: NCF, examples: Examples, settings: PaperSettings):
        users = np.bincount(examples.users[examples.training], minlength=model.shape.n_users)
        items = np.bincount(examples.items[examples.training], minlength=model.shape.n_items)
        total = len(examples.training)
        self.users = torch.from_numpy(users / total).float() * settings.l2
        drawn = items + settings.negatives * total / len(items)
        self.items = torch.from_numpy(drawn / drawn.sum()).float() * settings.l2

    def __call__(self, model: NCF) -> torch.Tensor:
        loss = torch.zeros(())
        for table in (model.user_gmf, model.user_mlp):
            loss = loss + self.users @ table.weight.square().sum(1)
        for table in (model.item_gmf, model.item_mlp):
            loss = loss + self.items @ table.weight.square().sum(1)
        return loss


def score(model: NCF, users: Rows, baskets: Rows, candidates: Rows) -> torch.Tensor:
    """(b,), (b, L), (b, c) → (b, c) scores; the paper's data has no features."""
    scores: torch.Tensor = model(
        torch.from_numpy(users),
        torch.from_numpy(baskets),
        torch.from_numpy(candidates),
        torch.zeros(*candidates.shape, 0),
    )
    return scores


@torch.no_grad()
def ranks(model: NCF, questions: Questions) -> Ranks:
    """(m,) ranks of the true items among their negatives."""
    model.eval()
    parts = []
    for at in range(0, len(questions.users), QUESTIONS_AT_ONCE):
        part = slice(at, at + QUESTIONS_AT_ONCE)
        scores = score(model, questions.users[part], questions.baskets[part], questions.candidates[part])
        parts.append(rank_of_first(scores.numpy()))
    return np.concatenate(parts)


def rank_of_first(scores: NDArray[np.float32] | NDArray[np.intp]) -> Ranks:
    """(m, 1 + k) → (m,) the number of negatives that the first column does not exceed; ties count half."""
    truth, others = scores[:, :1], scores[:, 1:]
    ranks: Ranks = others.shape[1] - (others < truth).sum(1) - (others == truth).sum(1) / 2
    return ranks


def measure_quality(model: NCF, questions: Questions) -> tuple[float, float]:
    """HR@10 and NDCG@10; ``quality/metrics.py`` defines both."""
    hr, ndcg, _ = gains(ranks(model, questions)).mean(0)
    return float(hr), float(ndcg)
