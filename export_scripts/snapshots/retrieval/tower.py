"""The retrieval tower: vectors of users, basket items and candidates, for features and the `similar` source.

query = user + sum of basket vectors / sqrt(size). The inner product of query and candidate says how well the
item fits. `training` fits the vectors to baskets.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ensemble.candidate_sampler.arrays import Retrieval
from export_scripts.snapshots.retrieval.row_optimizer import RowOptimizer

NUMBERS: Final = ("end", "steps", "scale")  # of a trained tower
SPREAD: Final = 0.3  # expected length of an initial vector


class Tower(nn.Module):
    """Embeddings of users, of items as parts of a basket, and of items as candidates.

    The vector of an item is its id vector (zero below the minimum support) plus those of its categories.
    Users and the ids of basket items start at zero. The ids of candidates start at random: without categories
    they alone tell items apart.
    """

    codes: torch.Tensor  # (items, 1 + columns) rows of the two tables of items: id (0 for none), categories

    def __init__(self, n_users: int, codes: torch.Tensor, n_codes: int, d: int):
        super().__init__()
        self.register_buffer("codes", codes)
        self.users = nn.Embedding(n_users, d, sparse=True)
        self.basket, self.items = (
            nn.EmbeddingBag(n_codes, d, mode="sum", sparse=True, padding_idx=0) for _ in range(2)
        )
        for table in (self.users, self.basket, self.items):
            nn.init.zeros_(table.weight)

    @classmethod
    def untrained(
        cls, n_users: int, of_item: NDArray[np.int32], d: int, generator: torch.Generator
    ) -> "Tower":
        """Return a tower without id vectors, for items with the categories ``of_item`` (items, columns)."""
        n_items, n_categories = len(of_item), int(of_item.max(initial=0)) + 1
        codes = nn.functional.pad(torch.from_numpy(n_items + of_item.astype(np.int64)), (1, 0))
        tower = cls(n_users, codes, n_items + n_categories, d)
        with torch.no_grad():
            for vectors in (tower.basket.weight[n_items:], tower.items.weight[1:]):
                vectors.normal_(std=d**-0.5 * SPREAD, generator=generator)
        return tower

    @torch.no_grad()
    def admit(self, recommendable: NDArray[np.bool_], known_users: NDArray[np.bool_]) -> None:
        """Let the items that ``recommendable`` (items,) marks have id vectors.

        If the tower knows users, (users,), newcomers start where cold start puts them: the id vectors of new
        items at zero, new users at the unknown user's vector.
        """
        with_id = self.codes[:, 0].numpy() > 0
        self.codes[:, 0] = torch.from_numpy(np.where(recommendable, np.arange(len(recommendable)), 0))
        if known_users.any():
            self.users.weight[~known_users] = self.users.weight[0].clone()
            for table in (self.basket, self.items):
                table.weight[np.flatnonzero(recommendable & ~with_id)] = 0

    def item(self, rows: torch.Tensor) -> torch.Tensor:
        """(n,) item rows → (n, d) candidate vectors."""
        vectors: torch.Tensor = self.items(self.codes[rows])
        return vectors

    def query(self, users: torch.Tensor, rows: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
        """(batch,) users, flat basket rows and (batch,) sizes of the baskets → (batch, d) query vectors."""
        distinct, places = torch.unique(rows, return_inverse=True)
        offsets = sizes.cumsum(0) - sizes
        sums = nn.functional.embedding_bag(places, self.basket(self.codes[distinct]), offsets, mode="sum")
        vectors: torch.Tensor = self.users(users)
        return vectors + sums / sizes.clamp(min=1).sqrt()[:, None]


@dataclass(frozen=True)
class TrainedTower:
    """A tower with all that it needs to be trained further."""

    network: Tower
    optimizer: RowOptimizer
    end: int = 0  # the number of the first basket that it has not seen
    steps: int = 0  # of its training so far
    scale: float = 1.0  # deviation of the inner products of queries and items

    @classmethod
    def of(cls, network: Tower) -> "TrainedTower":
        """Return an untrained one."""
        return cls(network, RowOptimizer(network.parameters()))

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> "TrainedTower":
        """Return the tower that ``state`` describes."""
        tables = state["network"]
        n_users, d = tables["users.weight"].shape
        tower = cls.of(Tower(n_users, tables["codes"], len(tables["items.weight"]), d))
        tower.network.load_state_dict(tables)
        tower.optimizer.load_state_dict(state["optimizer"])
        return replace(tower, **{name: state[name] for name in NUMBERS})

    @property
    def state(self) -> dict[str, Any]:
        """Everything as tensors and plain numbers, for a file."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        } | {name: getattr(self, name) for name in NUMBERS}

    @property
    def known_users(self) -> NDArray[np.bool_]:
        """Mark the users (users,) with a vector of their own."""
        return self.optimizer.moved(self.network.users.weight).numpy()

    @torch.no_grad()
    def vectors(self) -> Retrieval:
        """Return the vectors, divided so that inner products of queries and items have deviation 1.

        Without any training they are zeros: no item is similar to another. The products grow with each step
        of training, hence with the number of receipts. They are features of the scorer, so they must have
        the same scale in the snapshot of its training and in the release.
        """
        network = self.network
        if not self.steps:
            tables = (network.users.weight, network.codes, network.codes)
            return Retrieval(*(np.zeros((len(t), network.users.embedding_dim), np.float32) for t in tables))
        users = network.users.weight / self.scale
        users[~self.known_users] = users[0].clone()
        basket, items = network.basket(network.codes), network.items(network.codes)
        basket[0], items[0] = 0, 0
        return Retrieval(*(part.numpy() for part in (users, basket / self.scale, items)))
