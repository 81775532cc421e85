"""The scorer: NeuMF (He et al. 2017, "Neural collaborative filtering") over a basket, with a wide term.

score(q, j) = h · (query_gmf ⊙ item_gmf[j])                                GMF branch, eq. 9
            + MLP(user_mlp, basket_mlp, item_mlp[j], features[q, j])       MLP branch, eq. 10
            + w · features[q, j] + bias[j]                                 wide term (Cheng et al. 2016)

where a query is the user's vector plus the basket's, pooled as in FISM (Kabbur et al. 2013): sum over
sqrt(size). An item's vector is its id vector plus those of its categories. Rows outside the tables are row 0,
the unknown.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn


@dataclass(frozen=True)
class NCFShape:
    """The sizes that fix the network; kept in the checkpoint."""

    n_users: int
    n_items: int
    n_ids: int  # id vectors; 0 is shared by all items below the support bar
    n_categories: int
    n_features: int
    gmf: int
    mlp: int
    hidden: tuple[int, ...]


class ItemVectors(nn.Module):
    """One vector per item row: id vector + category vectors; row 0 is zero. (rows,) → (rows, d)."""

    def __init__(self, shape: NCFShape, d: int):
        super().__init__()
        self.ids = nn.Embedding(shape.n_ids, d)
        self.content = nn.Embedding(shape.n_categories, d, padding_idx=0)
        nn.init.normal_(self.ids.weight, std=0.05)
        nn.init.normal_(self.content.weight, std=0.05)
        with torch.no_grad():
            self.content.weight[0] = 0

    def forward(self, rows: torch.Tensor, ids: torch.Tensor, content: torch.Tensor) -> torch.Tensor:
        """`ids` (...,) id rows and `content` (..., columns) category numbers of the item `rows` (...,)."""
        return (self.ids(ids) + self.content(content).sum(-2)) * (rows > 0).unsqueeze(-1)


class NCF(nn.Module):
    """NeuMF with pooled basket and wide term; see the module's docstring for the equations."""

    def __init__(self, shape: NCFShape, id_rows: torch.Tensor, content: torch.Tensor):
        """`id_rows` (items,) and `content` (items, columns): which vectors make up an item."""
        super().__init__()
        self.shape = shape
        self.register_buffer("id_rows", id_rows)
        self.register_buffer("content", content)
        self.register_buffer("feature_mean", torch.zeros(shape.n_features))
        self.register_buffer("feature_std", torch.ones(shape.n_features))
        self.user_gmf = nn.Embedding(shape.n_users, shape.gmf)
        self.user_mlp = nn.Embedding(shape.n_users, shape.mlp)
        for table in (self.user_gmf, self.user_mlp):
            nn.init.normal_(table.weight, std=0.05)
        self.basket_gmf, self.basket_mlp = ItemVectors(shape, shape.gmf), ItemVectors(shape, shape.mlp)
        self.item_gmf, self.item_mlp = ItemVectors(shape, shape.gmf), ItemVectors(shape, shape.mlp)
        self.item_bias = nn.Embedding(shape.n_ids, 1)
        nn.init.zeros_(self.item_bias.weight)
        self.gmf_weights = nn.Parameter(torch.ones(shape.gmf))  # h
        widths = shape.hidden or (0,)  # without hidden layers it is GMF alone (cesta paper)
        first = widths[0]
        # The first layer, cut by what it reads: users, baskets and items can be folded into their tables.
        self.from_user = nn.Linear(shape.mlp, first)
        self.from_basket = nn.Linear(shape.mlp, first, bias=False)
        self.from_item = nn.Linear(shape.mlp, first, bias=False)
        self.from_features = nn.Linear(shape.n_features, first, bias=False)
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.out = nn.Linear(widths[-1], 1, bias=False)
        nn.init.zeros_(self.out.weight)  # training starts at the wide term alone
        self.wide = nn.Linear(shape.n_features, 1, bias=False)

    def forward(
        self,
        users: torch.Tensor,
        baskets: torch.Tensor,
        candidates: torch.Tensor,
        features: torch.Tensor,
        hide_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(B,), (B, L), (B, C), (B, C, F) → (B, C) scores; higher is better.

        `hide_ids` (items,) bool: items to be seen by their categories alone (dropout in training).
        """
        users = _known(users, self.shape.n_users)
        baskets = _known(baskets, self.shape.n_items)
        candidates = _known(candidates, self.shape.n_items)
        features = (features - self.feature_mean) / self.feature_std
        ids = self.id_rows if hide_ids is None else self.id_rows.masked_fill(hide_ids, 0)
        basket = baskets, ids[baskets], self.content[baskets]
        item = candidates, ids[candidates], self.content[candidates]
        size = (baskets > 0).sum(1, keepdim=True).clamp(min=1).sqrt()  # (B, 1)

        gmf_query = self.user_gmf(users) + self.basket_gmf(*basket).sum(1) / size  # (B, d)
        gmf = ((gmf_query * self.gmf_weights).unsqueeze(1) * self.item_gmf(*item)).sum(-1)  # (B, C)

        pooled = self.basket_mlp(*basket).sum(1) / size
        query = self.from_user(self.user_mlp(users)) + self.from_basket(pooled)  # (B, h)
        x = query.unsqueeze(1) + self.from_item(self.item_mlp(*item)) + self.from_features(features)
        x = torch.relu(x)  # (B, C, h)
        for layer in self.hidden:
            x = torch.relu(layer(x))
        wide = self.wide(features).squeeze(-1) + self.item_bias(item[1]).squeeze(-1)
        return gmf + self.out(x).squeeze(-1) + wide


def _known(rows: torch.Tensor, n: int) -> torch.Tensor:
    return torch.where((rows >= 0) & (rows < n), rows, 0).long()
