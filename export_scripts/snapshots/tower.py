"""The retrieval tower: vectors of users, basket items and candidates, for the sampler's `similar` source.

query = user + sum of basket vectors / sqrt(size); an item fits by its inner product with the query. Trained
by sampled softmax over the batch's own targets and uniform negatives, with logQ correction (Yi et al. 2019,
"Sampling-bias-corrected neural modeling for large corpus item recommendations", eq. 4).
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ensemble.candidate_sampler.arrays import Retrieval
from export_scripts.progress import Progress
from export_scripts.receipts.shop import Shop
from export_scripts.settings import RetrievalSettings

LEAST_BATCHES, LEAST_BATCH = 40, 128  # a small shop gets smaller batches before it gets too few steps
SCALE_SAMPLE = 1_000  # queries and items whose inner products tell the scale


class Tower(nn.Module):
    """Embeddings of users, of items as parts of a basket, and of items as candidates.

    An item is its id vector (zero for all items below the support bar) plus the vectors of its categories.
    """

    def __init__(
        self,
        n_users: int,
        id_rows: torch.Tensor,
        content: torch.Tensor,
        n_categories: int,
        d: int,
        generator: torch.Generator,
    ):
        super().__init__()
        n_ids = int(id_rows.max()) + 1
        self.register_buffer("id_rows", id_rows)
        self.register_buffer("content", content)
        self.users = nn.Embedding(n_users, d)
        self.basket_ids, self.item_ids = nn.Embedding(n_ids, d), nn.Embedding(n_ids, d)
        self.basket_content, self.item_content = nn.Embedding(n_categories, d), nn.Embedding(n_categories, d)
        for table in (self.users, self.basket_ids, self.item_ids, self.basket_content, self.item_content):
            nn.init.normal_(table.weight, std=d**-0.5 * 0.3, generator=generator)
        for table in (self.basket_ids, self.item_ids):
            nn.init.zeros_(table.weight[0])  # never trained: below the bar the categories speak alone

    def item(self, rows: torch.Tensor) -> torch.Tensor:
        """(n,) item rows → (n, d) candidate vectors."""
        return self.item_ids(self.id_rows[rows]) + self.item_content(self.content[rows]).sum(1)

    def basket_item(self, rows: torch.Tensor) -> torch.Tensor:
        """(n,) item rows → (n, d) basket vectors."""
        return self.basket_ids(self.id_rows[rows]) + self.basket_content(self.content[rows]).sum(1)

    def query(self, users: torch.Tensor, rows: torch.Tensor, owner: torch.Tensor) -> torch.Tensor:
        """(batch,) users, flat basket rows and the query each belongs to → (batch, d)."""
        sums = torch.zeros(len(users), self.users.embedding_dim).index_add(0, owner, self.basket_item(rows))
        sizes = torch.bincount(owner, minlength=len(users)).clamp(min=1)
        return self.users(users) + sums / sizes.sqrt()[:, None]


@dataclass(frozen=True)
class _Examples:
    """Baskets of at least two known items, flat: one of each is the target when it comes up."""

    offsets: NDArray[np.int64]
    items: NDArray[np.int64]
    users: NDArray[np.int64]


def train_tower(
    shop: Shop,
    end: int,
    known: NDArray[np.bool_],
    of_item: NDArray[np.int32],
    settings: RetrievalSettings,
    seed: int,
) -> Retrieval:
    """Train on the baskets before ``end`` and return the tables.

    ``known`` (items,) marks items with an id vector of their own; ``of_item`` (items, columns) holds category
    numbers.
    """
    examples = _examples(shop, end, known)
    if not len(examples.users):
        return _nothing_learnt(shop, settings.dimensions)
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    id_rows = torch.from_numpy(np.where(known, np.cumsum(known), 0))
    content = torch.from_numpy(of_item.astype(np.int64))
    tower = Tower(
        shop.n_users, id_rows, content, int(of_item.max(initial=0)) + 1, settings.dimensions, generator
    )
    optimizer = torch.optim.Adam(tower.parameters(), lr=settings.learning_rate)
    recommendable = np.flatnonzero(known)
    counts = np.bincount(examples.items, minlength=shop.n_items)
    log_q = torch.from_numpy(np.log((counts + 1) / (counts.sum() + 1))).float()
    size = min(settings.batch_size, max(len(examples.users) // LEAST_BATCHES, LEAST_BATCH))
    batches = max(1, len(examples.users) // size)
    total = settings.epochs * batches
    with Progress("retrieval", total) as progress:
        for step in range(total):
            if step % batches == 0:
                order = rng.permutation(len(examples.users))
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * (1 - step / total)
            batch = order[(step % batches) * size :][:size]
            loss = _loss(tower, examples, batch, recommendable, log_q, settings, rng)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            progress.advance(loss=loss.item())
    return _scaled(_tables(tower, shop, examples), examples, recommendable, rng)


def _examples(shop: Shop, end: int, known: NDArray[np.bool_]) -> _Examples:
    items = shop.items[: shop.offsets[end]].astype(np.int64)
    owner = np.repeat(np.arange(end), np.diff(shop.offsets[: end + 1]))
    owner, items = owner[known[items]], items[known[items]]
    sizes = np.bincount(owner, minlength=end)
    keep = sizes >= 2
    offsets = np.concatenate([[0], np.cumsum(sizes[keep])])
    return _Examples(offsets, items[keep[owner]], shop.users[:end][keep].astype(np.int64))


def _loss(
    tower: Tower,
    examples: _Examples,
    batch: NDArray[np.int64],
    recommendable: NDArray[np.int64],
    log_q: torch.Tensor,
    settings: RetrievalSettings,
    rng: np.random.Generator,
) -> torch.Tensor:
    sizes = examples.offsets[batch + 1] - examples.offsets[batch]
    owner = np.repeat(np.arange(len(batch)), sizes)
    places = (
        np.arange(sizes.sum())
        - np.repeat(np.cumsum(sizes) - sizes, sizes)
        + np.repeat(examples.offsets[batch], sizes)
    )
    items = examples.items[places]
    target_at = np.cumsum(sizes) - sizes + (rng.random(len(batch)) * sizes).astype(np.int64)
    targets = items[target_at]
    rest = np.ones(len(items), bool)
    rest[target_at] = False
    users = examples.users[batch] * (rng.random(len(batch)) >= settings.user_dropout)
    query = tower.query(torch.from_numpy(users), torch.from_numpy(items[rest]), torch.from_numpy(owner[rest]))
    negatives = rng.choice(recommendable, settings.uniform_negatives)
    pool = torch.from_numpy(np.concatenate([targets, negatives]))
    # Targets are negatives of one another in proportion to their sales, the rest uniformly: both corrected.
    n, m = len(batch), settings.uniform_negatives
    correction = torch.logaddexp(log_q[pool] + np.log(n), torch.tensor(np.log(m / len(recommendable))))
    logits = query @ tower.item(pool).T
    logits -= correction
    # Items of the basket can never be recommended and must not be pushed down; nor may the target's twins.
    logits.masked_fill_(torch.from_numpy(_membership(owner, items, pool.numpy(), n)), -1e9)
    return nn.functional.cross_entropy(logits, torch.arange(n))


def _membership(
    owner: NDArray[np.int64], items: NDArray[np.int64], pool: NDArray[np.int64], n: int
) -> NDArray[np.bool_]:
    """(n, pool): is the pool's item in the whole basket? The target's own column, (i, i), stays False."""
    order = np.argsort(pool, kind="stable")
    first, last = (np.searchsorted(pool[order], items, side) for side in ("left", "right"))
    inside = np.zeros((n, len(pool)), bool)
    reps = last - first
    rows = np.repeat(owner, reps)
    at = np.arange(reps.sum()) - np.repeat(np.cumsum(reps) - reps, reps) + np.repeat(first, reps)
    inside[rows, order[at]] = True
    inside[np.arange(n), np.arange(n)] = False
    return inside


@torch.no_grad()
def _tables(tower: Tower, shop: Shop, examples: _Examples) -> Retrieval:
    rows = torch.arange(shop.n_items)
    basket, items = tower.basket_item(rows).numpy(), tower.item(rows).numpy()
    basket[0], items[0] = 0, 0
    users = tower.users.weight.numpy().copy()
    met = np.bincount(examples.users, minlength=shop.n_users) > 0
    users[~met] = users[0]  # as good as unknown, rather than the noise they started from
    return Retrieval(users, basket, items)


def _scaled(
    tables: Retrieval, examples: _Examples, recommendable: NDArray[np.int64], rng: np.random.Generator
) -> Retrieval:
    """The query tables divided so that inner products with items vary by 1.

    Their size grows with every step of training, so with the receipts; the scorer reads them as features and
    must find them alike in the snapshot that it learnt with and in the release.
    """
    n = len(examples.users)
    some, items = rng.integers(n, size=SCALE_SAMPLE), rng.choice(recommendable, SCALE_SAMPLE)
    pooled = np.add.reduceat(tables.basket[examples.items], examples.offsets[:-1])[some]
    roots = np.sqrt(np.diff(examples.offsets))[some, None]
    fits = (tables.users[examples.users[some]] + pooled / roots) @ tables.items[items].T
    scale = np.float32(max(float(fits.std()), 1e-6))
    return Retrieval(tables.users / scale, tables.basket / scale, tables.items)


def _nothing_learnt(shop: Shop, d: int) -> Retrieval:
    """The tables of a shop without a basket of two known items: nothing is similar to anything."""
    return Retrieval(
        *(np.zeros((rows, d), np.float32) for rows in (shop.n_users, shop.n_items, shop.n_items))
    )
