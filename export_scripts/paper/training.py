"""Train the product's network as the NCF paper does: BCE on sampled negatives, one held-out item per user.

loss = - log σ(score(u, i)) - Σ_j log(1 - σ(score(u, j)))    eq. 7; j uniform over what u never met

The epoch is chosen on each user's last training item, ranked among sampled negatives. The test file is not
known here: ``Questions`` made of it are only ever given to ``ranks``.
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
QUESTIONS_AT_ONCE = 512  # 51,200 scores, some 50 MB on the way through the MLP


@dataclass(frozen=True)
class Questions:
    """Candidate lists to rank; the first column is the truth."""

    users: Rows  # (m,)
    baskets: Rows  # (m, L) 0 is padding
    candidates: Rows  # (m, 1 + k)


@dataclass(frozen=True)
class Examples:
    """The training file by user and time (random among equal times), with a hold-out of its own."""

    users: Rows  # (n,)
    items: Rows  # (n,)
    start: Rows  # (n,) place of the user's first positive
    training: Rows  # (t,) places to learn from
    held_out: Rows  # (v,) places of each user's last positive, to validate on
    n_items: int
    n_users: int

    def history(self, places: Rows, length: int) -> Rows:
        """(b,) places → (b, length) the user's latest items before each; the item there is not among them."""
        before = places[:, None] - np.arange(1, length + 1)
        return np.where(before >= self.start[places, None], self.items[before], 0)

    def met(self, places: Rows) -> NDArray[np.bool_]:
        """(users, items) whether the positives at these places, or the padding row, hold the pair."""
        found = np.zeros((self.n_users, self.n_items), bool)
        found[self.users[places], self.items[places]] = True
        found[:, 0] = True
        return found


class Deadline:
    """A share of the time that is left; asked after every batch."""

    def __init__(self, seconds: float):
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        return max(0.0, self._end - time.monotonic())

    def share(self, part: float) -> "Deadline":
        return Deadline(self.left * part)


@dataclass(frozen=True)
class Fitted:
    """The model of its best epoch."""

    model: NCF
    epoch: int  # the best, on the hold-out
    epochs: int  # begun
    validation: tuple[float, float]  # HR@10 and NDCG@10 on the hold-out
    seconds: float
    cut: bool  # the time was up before the patience


def as_examples(protocol: Protocol, rng: np.random.Generator) -> Examples:
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


def validation_questions(examples: Examples, history: int, rng: np.random.Generator) -> Questions:
    """Each user's held-out item among items that the user has nowhere in the training file."""
    places = examples.held_out
    met = examples.met(np.arange(len(examples.users)))
    users = examples.users[places]
    negatives = unmet(met, users, VALIDATION_NEGATIVES, rng)
    candidates = np.column_stack([examples.items[places], negatives])
    return Questions(users, examples.history(places, history), candidates)


def asked_about(protocol: Protocol, examples: Examples, history: int) -> Questions:
    """The test: every user's history is the whole training file's, the held-out item included."""
    after = np.searchsorted(examples.users, protocol.test_users, side="right")
    before = after[:, None] - np.arange(1, history + 1)
    first = np.searchsorted(examples.users, protocol.test_users)
    baskets = np.where(before >= first[:, None], examples.items[before], 0)
    return Questions(protocol.test_users, baskets, np.column_stack([protocol.test_items, protocol.negatives]))


def unmet(met: NDArray[np.bool_], users: Rows, count: int, rng: np.random.Generator) -> Rows:
    """(b,) users → (b, count) items drawn uniformly from those that `met` does not mark."""
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
    s: PaperSettings,
    deadline: Deadline,
    name: str,
    learning_rate: float,
) -> Fitted:
    """The model as it was after the epoch with the best NDCG@10 on the hold-out; epoch 0 is how it came."""
    began = time.monotonic()
    rng = np.random.default_rng(s.seed)
    torch.manual_seed(s.seed)
    met = examples.met(examples.training)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True)
    batches = max(1, -(-len(examples.training) // s.batch_size))
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, total_iters=batches * s.epochs)
    history = validation.baskets.shape[1]
    pull = Pull(model, examples, s)
    best, measured, best_epoch, epoch, cut = deepcopy(model), quality(model, validation), 0, 0, False
    with Progress(name, batches * s.epochs) as progress:
        for epoch in range(1, s.epochs + 1):
            model.train()
            for places in np.array_split(rng.permutation(examples.training), batches):
                users = examples.users[places]
                items = np.column_stack([examples.items[places], unmet(met, users, s.negatives, rng)])
                scores = score(model, users, examples.history(places, history), items)
                truth = torch.zeros_like(scores)
                truth[:, 0] = 1
                loss = nn.functional.binary_cross_entropy_with_logits(scores, truth) + pull(model)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                progress.advance(loss=loss.item())
                if cut := deadline.left == 0:
                    break
            now = quality(model, validation)
            log.info("paper", model=name, epoch=epoch, loss=loss.item(), hr=now[0], ndcg=now[1])
            if now[1] > measured[1]:
                best, measured, best_epoch = deepcopy(model), now, epoch
            if cut or epoch - best_epoch >= s.patience:
                break
    return Fitted(best.eval(), best_epoch, epoch, measured, time.monotonic() - began, cut)


class Pull:
    """L2 penalty on vectors in proportion to how often they are used, as in Rendle et al. 2020."""

    def __init__(self, model: NCF, examples: Examples, s: PaperSettings):
        users = np.bincount(examples.users[examples.training], minlength=model.shape.n_users)
        items = np.bincount(examples.items[examples.training], minlength=model.shape.n_items)
        total = len(examples.training)
        self.users = torch.from_numpy(users / total).float() * s.l2
        drawn = items + s.negatives * total / len(items)
        self.items = torch.from_numpy(drawn / drawn.sum()).float() * s.l2

    def __call__(self, model: NCF) -> torch.Tensor:
        loss = torch.zeros(())
        for table in (model.user_gmf, model.user_mlp):
            loss = loss + self.users @ table.weight.square().sum(1)
        for table in (model.item_gmf, model.item_mlp):
            loss = loss + self.items @ table.weight.square().sum(1)
        return loss


def score(model: NCF, users: Rows, baskets: Rows, candidates: Rows) -> torch.Tensor:
    """(b,), (b, L), (b, c) → (b, c); the paper has no features."""
    return model(
        torch.from_numpy(users),
        torch.from_numpy(baskets),
        torch.from_numpy(candidates),
        torch.zeros(*candidates.shape, 0),
    )


@torch.no_grad()
def ranks(model: NCF, questions: Questions) -> Ranks:
    """(m,) rank of the truth among its negatives."""
    model.eval()
    found = []
    for at in range(0, len(questions.users), QUESTIONS_AT_ONCE):
        part = slice(at, at + QUESTIONS_AT_ONCE)
        scores = score(model, questions.users[part], questions.baskets[part], questions.candidates[part])
        found.append(rank_of_first(scores.numpy()))
    return np.concatenate(found)


def rank_of_first(scores: NDArray[np.float32]) -> Ranks:
    """(m, 1 + k) → (m,) how many negatives the first column does not beat; ties count half."""
    truth, others = scores[:, :1], scores[:, 1:]
    return others.shape[1] - (others < truth).sum(1) - (others == truth).sum(1) / 2


def quality(model: NCF, questions: Questions) -> tuple[float, float]:
    """HR@10 and NDCG@10."""
    hr, ndcg, _ = gains(ranks(model, questions)).mean(0)
    return float(hr), float(ndcg)
