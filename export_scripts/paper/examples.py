"""The training file as examples with a hold-out, and lists of candidates to rank.

The hold-out is each user's last training item. It chooses all settings and epochs. No function that trains
reads the test file: ``Questions`` made from it are given to ``ranks`` only.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numba
import numpy as np
import torch
from numpy.typing import NDArray

from export_scripts.paper.files import Protocol, Rows
from export_scripts.quality.metrics import Ranks, gains
from export_scripts.scorer.ncf import NCF

VALIDATION_NEGATIVES = 99  # as many as the paper's test has
QUESTIONS_AT_ONCE = 512  # 51,200 scores; the MLP (multi-layer perceptron) needs about 50 MB for them

Marks = NDArray[np.bool_]


@dataclass(frozen=True)
class Questions:
    """Lists of candidates to rank; the first column is the true item."""

    users: Rows  # (m,)
    baskets: Rows  # (m, L) 0 is padding
    candidates: Rows  # (m, 1 + k) 0 is not ranked


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

    def met(self, places: Rows) -> Marks:
        """(users, items) marks the pairs that are positives at these places, and the padding row."""
        met = np.zeros((self.n_users, self.n_items), bool)
        met[self.users[places], self.items[places]] = True
        met[:, 0] = True
        return met

    @cached_property
    def trained(self) -> Marks:
        """(users, items) marks what is no negative in training: 22 MB on ML-1M, shared by all trainings."""
        return self.met(self.training)

    def whole(self) -> "Examples":
        """The same file with its hold-out among the examples to learn from."""
        return replace(self, training=np.arange(len(self.users)), held_out=self.held_out[:0])


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


def draw_negatives(met: Marks, users: Rows, count: int, rng: np.random.Generator) -> Rows:
    """(b,) users → (b, count) items drawn uniformly from those that ``met`` does not mark."""
    drawn = np.empty((len(users), count), np.int64)
    _draw(met, users, drawn, rng)
    return drawn


@numba.njit(cache=True, nogil=True)
def _draw(met, users, drawn, rng):  # type: ignore[no-untyped-def]  # numba infers the types
    for i in range(drawn.shape[0]):
        for j in range(drawn.shape[1]):
            item = rng.integers(1, met.shape[1])
            while met[users[i], item]:
                item = rng.integers(1, met.shape[1])
            drawn[i, j] = item


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
        candidates = questions.candidates[part]
        scores = score(model, questions.users[part], questions.baskets[part], candidates).numpy()
        parts.append(rank_of_first(np.where(candidates == 0, -np.inf, scores)))
    return np.concatenate(parts)


def rank_of_first(scores: NDArray[np.float32] | NDArray[np.float64] | NDArray[np.intp]) -> Ranks:
    """(m, 1 + k) → (m,) the number of negatives that the first column does not exceed; ties count half."""
    truth, others = scores[:, :1], scores[:, 1:]
    ranks: Ranks = others.shape[1] - (others < truth).sum(1) - (others == truth).sum(1) / 2
    return ranks


def measure_quality(model: NCF, questions: Questions) -> tuple[float, float]:
    """HR@10 and NDCG@10; ``quality/metrics.py`` defines both."""
    hr, ndcg, _ = gains(ranks(model, questions)).mean(0)
    return float(hr), float(ndcg)
