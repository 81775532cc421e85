"""The scorer's network: neural collaborative filtering (NCF) over a basket, with a wide term.

NCF predicts from user and item vectors what a user chooses (He et al. 2017, "Neural collaborative
filtering"). The network is the paper's NeuMF, neural matrix factorisation. It adds up two branches:
generalised matrix factorisation (GMF) and a multi-layer perceptron (MLP). The wide term is linear in the
features.

score(q, j) = h · (query_gmf ⊙ item_gmf[j])                                GMF branch, eq. 9
            + MLP(user_mlp, basket_mlp, item_mlp[j], features[q, j])       MLP branch, eq. 10
            + w · features[q, j] + bias[j]                                 wide term (Cheng et al. 2016)

A query's vector is the user's vector plus the basket's vector. The basket's vector is the sum of its items'
vectors divided by the square root of their number, as in FISM (Kabbur et al. 2013). Row numbers outside the
tables count as row 0, the unknown user or item.

``cesta paper`` trains the whole network. The served scorer takes its vectors from the retrieval tower,
pre-trained as in section 3.4.1 of the paper, and does not change them. It has no GMF branch: the features
retrieval_user and retrieval_basket are that branch with h = 1.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn


@dataclass(frozen=True)
class NCFShape:
    """The sizes of the network, stored in the checkpoint. A branch of width 0 does not exist."""

    n_users: int
    n_items: int
    n_features: int
    gmf: int
    mlp: int
    hidden: tuple[int, ...]


class NCF(nn.Module):
    """NeuMF with pooled basket and wide term; see the module's docstring for the equations."""

    feature_mean: torch.Tensor  # (F,)
    feature_std: torch.Tensor  # (F,)

    def __init__(self, shape: NCFShape):
        super().__init__()
        self.shape = shape
        self.register_buffer("feature_mean", torch.zeros(shape.n_features))
        self.register_buffer("feature_std", torch.ones(shape.n_features))
        self.user_gmf, self.user_mlp = _table(shape.n_users, shape.gmf), _table(shape.n_users, shape.mlp)
        self.basket_gmf, self.basket_mlp = _table(shape.n_items, shape.gmf), _table(shape.n_items, shape.mlp)
        self.item_gmf, self.item_mlp = _table(shape.n_items, shape.gmf), _table(shape.n_items, shape.mlp)
        self.item_bias = nn.Embedding(shape.n_items, 1)
        nn.init.zeros_(self.item_bias.weight)
        self.gmf_weights = nn.Parameter(torch.ones(shape.gmf))  # h
        widths = shape.hidden or (0,)  # no hidden layers: GMF alone, which cesta paper trains
        first = widths[0]
        # The first layer is split by its inputs: the parts for users, baskets and items fold into tables.
        self.from_user = nn.Linear(shape.mlp, first)
        self.from_basket = nn.Linear(shape.mlp, first, bias=False)
        self.from_item = nn.Linear(shape.mlp, first, bias=False)
        self.from_features = nn.Linear(shape.n_features, first, bias=False)
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.out = nn.Linear(widths[-1], 1, bias=False)
        nn.init.zeros_(self.out.weight)  # training starts at the wide term alone
        self.wide = nn.Linear(shape.n_features, 1, bias=False)

    def forward(
        self, users: torch.Tensor, baskets: torch.Tensor, candidates: torch.Tensor, features: torch.Tensor
    ) -> torch.Tensor:
        """(B,), (B, L), (B, C), (B, C, F) → (B, C) scores; higher is better."""
        users = _zero_unknown(users, self.shape.n_users)
        baskets = _zero_unknown(baskets, self.shape.n_items)
        candidates = _zero_unknown(candidates, self.shape.n_items)
        features = (features - self.feature_mean) / self.feature_std
        score: torch.Tensor = self.wide(features).squeeze(-1) + self.item_bias(candidates).squeeze(-1)
        if self.shape.gmf:
            query = self.user_gmf(users) + _pooled(self.basket_gmf, baskets)  # (B, d)
            score = score + (self.item_gmf(candidates) @ (query * self.gmf_weights).unsqueeze(-1)).squeeze(-1)
        if self.shape.hidden:
            query = self.from_user(self.user_mlp(users)) + self.from_basket(_pooled(self.basket_mlp, baskets))
            x = query.unsqueeze(1) + self.from_item(self.item_mlp(candidates)) + self.from_features(features)
            x = torch.relu(x)  # (B, C, h)
            for layer in self.hidden:
                x = torch.relu(layer(x))
            score = score + self.out(x).squeeze(-1)
        return score


def _table(rows: int, width: int) -> nn.Embedding:
    table = nn.Embedding(rows, width)
    nn.init.normal_(table.weight, std=0.05)
    return table


def _pooled(table: nn.Embedding, baskets: torch.Tensor) -> torch.Tensor:
    """(B, L) rows, 0 padding → (B, d): the sum of their vectors over the square root of their number."""
    real = baskets > 0
    total: torch.Tensor = (table(baskets) * real.unsqueeze(-1)).sum(1)
    return total / real.sum(1, keepdim=True).clamp(min=1).sqrt()


def _zero_unknown(rows: torch.Tensor, n: int) -> torch.Tensor:
    """Replace rows outside 0 … n - 1 by row 0, the unknown."""
    return torch.where((rows >= 0) & (rows < n), rows, 0).long()
