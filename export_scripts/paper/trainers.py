"""Train cesta's network for one epoch, as the paper on neural collaborative filtering (NCF) does.

The loss is binary cross-entropy with sampled negatives, plus an L2 term for every use of a vector:

loss = - log σ(score(u, i)) - Σ_j log(1 - σ(score(u, j)))    eq. 7; j uniform over the items u never chose

GMF (generalised matrix factorisation) takes a step of stochastic gradient descent for each positive and each
negative, as in Rendle et al. 2020. A compiled loop does that, and an epoch takes an eighth of the time that
batches take. Networks with layers take steps of Adam on batches. Both use the same meaning of L2: a use of
a vector v adds l2 / 2 · |v|² to the loss of its example.
"""

import time
from copy import deepcopy
from dataclasses import dataclass
from threading import Event
from typing import Any, Protocol

import numba
import numpy as np
import torch
from torch import nn

from export_scripts.paper.examples import Examples, draw_negatives, score
from export_scripts.scorer.ncf import NCF

POSITIVES_AT_ONCE = 50_000  # of the compiled loop, between two looks at the clock; about 0.1 s


@dataclass(frozen=True)
class Choice:
    """A candidate's settings, which the hold-out chooses; the number of epochs is no part of them."""

    rate: float  # of the first epoch
    negatives: int  # per positive
    gmf: int = 0  # width of the vectors; 0: no such branch
    gmf_l2: float = 0.0
    mlp: int = 0
    mlp_l2: float = 0.0
    alpha: float | None = None  # of eq. 13: the weight of GMF in the start; None: starts from noise

    @property
    def hidden(self) -> tuple[int, ...]:
        """Each layer is half as wide as the one before, like the paper's."""
        return (2 * self.mlp, self.mlp, self.mlp // 2) if self.mlp else ()


class Deadline:
    """The end of the time that training may take; it is checked after every batch."""

    def __init__(self, seconds: float, stopped: Event | None = None):
        self._end = time.monotonic() + seconds
        self._stopped = stopped or Event()

    @property
    def seconds_left(self) -> float:
        return 0.0 if self._stopped.is_set() else max(0.0, self._end - time.monotonic())

    def share(self, part: float) -> "Deadline":
        """A deadline after a ``part`` of the time left, 0 … 1."""
        return Deadline(self.seconds_left * part, self._stopped)

    def stop(self) -> None:
        """End this deadline and all its shares now."""
        self._stopped.set()


class Trainer(Protocol):
    """A model and the state of its optimizer."""

    model: NCF

    def train_epoch(self, rate: float, rng: np.random.Generator, deadline: Deadline) -> bool:
        """Go through all examples once. False: the deadline came first, and the epoch is not whole."""

    def state(self) -> Any:
        """A copy of all that training changes."""

    def restore(self, state: Any) -> None:
        """Go back to a ``state``."""


def make_trainer(model: NCF, examples: Examples, choice: Choice, batch_size: int, history: int) -> Trainer:
    """Choose the compiled loop for GMF, and batches for what has layers or a basket."""
    if choice.mlp or history:
        return BatchTrainer(model, examples, choice, batch_size, history)
    return FactorTrainer(model, examples, choice)


class FactorTrainer:
    """Stochastic gradient descent on GMF. The weights h stay 1: the vectors' lengths do their work."""

    def __init__(self, model: NCF, examples: Examples, choice: Choice):
        self.model = model
        self._examples, self._choice = examples, choice

    def train_epoch(self, rate: float, rng: np.random.Generator, deadline: Deadline) -> bool:
        tables = (self.model.user_gmf, self.model.item_gmf, self.model.item_bias)
        users, items, bias = (table.weight.detach().numpy() for table in tables)
        order = rng.permutation(self._examples.training)
        for at in range(0, len(order), POSITIVES_AT_ONCE):
            if deadline.seconds_left == 0:
                return False
            places = order[at : at + POSITIVES_AT_ONCE]
            _descend(
                self._examples.users[places],
                self._examples.items[places],
                self._examples.trained,
                users,
                items,
                bias[:, 0],
                self._choice.negatives,
                np.float32(rate),
                np.float32(self._choice.gmf_l2),
                rng,
            )
        return True

    def state(self) -> Any:
        return deepcopy(self.model.state_dict())

    def restore(self, state: Any) -> None:
        self.model.load_state_dict(state)


@numba.njit(cache=True, nogil=True, fastmath=True)
def _descend(users, items, met, user_vectors, item_vectors, bias, negatives, rate, l2, rng):  # type: ignore[no-untyped-def]  # numba infers the types
    """Take a step for each positive and for each of its drawn negatives. Changes vectors and bias."""
    one = np.float32(1)
    for i in range(users.shape[0]):
        of_user = user_vectors[users[i]]
        for j in range(negatives + 1):
            item = items[i]
            if j > 0:
                item = rng.integers(1, met.shape[1])
                while met[users[i], item]:
                    item = rng.integers(1, met.shape[1])
            of_item = item_vectors[item]
            score = bias[item]
            for k in range(of_user.shape[0]):
                score += of_user[k] * of_item[k]
            slope = -one / (one + np.exp(-score))
            if j == 0:
                slope += one
            bias[item] += rate * slope
            for k in range(of_user.shape[0]):
                before = of_user[k]
                of_user[k] += rate * (slope * of_item[k] - l2 * before)
                of_item[k] += rate * (slope * before - l2 * of_item[k])


class BatchTrainer:
    """Adam on batches, for networks with layers or with a basket."""

    def __init__(self, model: NCF, examples: Examples, choice: Choice, batch_size: int, history: int):
        self.model = model
        self._examples, self._choice = examples, choice
        self._batch_size, self._history = batch_size, history
        self._optimizer = torch.optim.Adam(model.parameters(), lr=choice.rate, fused=True)
        self._penalty = L2Penalty(model, examples, choice)

    def train_epoch(self, rate: float, rng: np.random.Generator, deadline: Deadline) -> bool:
        self.model.train()
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        batches = -(-len(self._examples.training) // self._batch_size)
        for places in np.array_split(rng.permutation(self._examples.training), batches):
            if deadline.seconds_left == 0:
                return False
            users = self._examples.users[places]
            negatives = draw_negatives(self._examples.trained, users, self._choice.negatives, rng)
            items = np.column_stack([self._examples.items[places], negatives])
            scores = score(self.model, users, self._examples.history(places, self._history), items)
            truth = torch.zeros_like(scores)
            truth[:, 0] = 1
            loss = nn.functional.binary_cross_entropy_with_logits(scores, truth)
            self._optimizer.zero_grad()
            torch.autograd.backward(loss + self._penalty(self.model))
            self._optimizer.step()
        return True

    def state(self) -> Any:
        return deepcopy((self.model.state_dict(), self._optimizer.state_dict()))

    def restore(self, state: Any) -> None:
        weights, moments = deepcopy(state)  # Adam would go on in the copy
        self.model.load_state_dict(weights)
        self._optimizer.load_state_dict(moments)


class L2Penalty:
    """The L2 term of a mean example: a vector's part is the share of examples that use it."""

    def __init__(self, model: NCF, examples: Examples, choice: Choice):
        users = np.bincount(examples.users[examples.training], minlength=model.shape.n_users)
        items = np.bincount(examples.items[examples.training], minlength=model.shape.n_items)
        total = len(examples.training)
        self._users = torch.from_numpy(users / total).float() / 2
        drawn = items + choice.negatives * total / len(items)
        self._items = torch.from_numpy(drawn / drawn.sum()).float() / 2
        self._gmf, self._mlp = choice.gmf_l2, choice.mlp_l2

    def __call__(self, model: NCF) -> torch.Tensor:
        loss = torch.zeros(())
        for users, items, l2 in (
            (model.user_gmf, model.item_gmf, self._gmf),
            (model.user_mlp, model.item_mlp, self._mlp),
        ):
            if l2 and users.embedding_dim:
                loss = loss + l2 * (self._users @ users.weight.square().sum(1))
                loss = loss + l2 * (self._items @ items.weight.square().sum(1))
        return loss
