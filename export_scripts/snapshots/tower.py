"""The retrieval tower: vectors of users, basket items and candidates, for the sampler's `similar` source.

query = user + sum of basket vectors / sqrt(size). The inner product of query and candidate says how well the
item fits. The loss is a sampled softmax over the batch's own targets and uniform negatives, with logQ
correction (Yi et al. 2019, "Sampling-bias-corrected neural modeling for large corpus item recommendations",
eq. 4).
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ensemble.candidate_sampler.arrays import Retrieval
from export_scripts.durations import step
from export_scripts.progress import Progress
from export_scripts.receipts.shop import Shop
from export_scripts.settings import RetrievalSettings
from export_scripts.thread_count import ThreadCount

LEAST_BATCHES, LEAST_BATCH = 40, 128  # per epoch; a small shop gets smaller batches, not too few steps
SCALE_SAMPLE = 1_000  # queries and items whose inner products give the scale


class Tower(nn.Module):
    """Embeddings of users, of items as parts of a basket, and of items as candidates.

    The vector of an item is its id vector (zero below the minimum support) plus those of its categories.
    """

    id_rows: torch.Tensor  # (items,) row of the id vector, 0 below the minimum support
    content: torch.Tensor  # (items, columns) category numbers

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
            nn.init.zeros_(table.weight[0])  # never trained: these items differ by categories only

    def item(self, rows: torch.Tensor) -> torch.Tensor:
        """(n,) item rows → (n, d) candidate vectors."""
        ids: torch.Tensor = self.item_ids(self.id_rows[rows])
        content: torch.Tensor = self.item_content(self.content[rows])
        return ids + content.sum(1)

    def basket_item(self, rows: torch.Tensor) -> torch.Tensor:
        """(n,) item rows → (n, d) basket vectors."""
        ids: torch.Tensor = self.basket_ids(self.id_rows[rows])
        content: torch.Tensor = self.basket_content(self.content[rows])
        return ids + content.sum(1)

    def query(self, users: torch.Tensor, rows: torch.Tensor, owner: torch.Tensor) -> torch.Tensor:
        """(batch,) users, flat basket rows and the query of each → (batch, d) query vectors."""
        sums = torch.zeros(len(users), self.users.embedding_dim).index_add(0, owner, self.basket_item(rows))
        sizes = torch.bincount(owner, minlength=len(users)).clamp(min=1)
        vectors: torch.Tensor = self.users(users)
        return vectors + sums / sizes.sqrt()[:, None]


@dataclass(frozen=True)
class _Examples:
    """Baskets with at least two recommendable items, flat. Each step draws one item of a basket as target."""

    offsets: NDArray[np.int64]
    items: NDArray[np.int64]
    users: NDArray[np.int64]


@step("tower")
def train_tower(
    shop: Shop,
    end: int,
    recommendable: NDArray[np.bool_],
    of_item: NDArray[np.int32],
    settings: RetrievalSettings,
    seed: int,
    sampled: NDArray[np.bool_],
) -> Retrieval:
    """Train on the baskets before ``end`` that are ``sampled`` (baskets,) and return the vectors.

    ``recommendable`` (items,) marks the items that get an id vector; ``of_item`` (items, columns) holds
    category numbers.
    """
    examples = _make_examples(shop, end, recommendable, sampled)
    if not len(examples.users):
        return _zeros(shop, settings.dimensions)
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    id_rows = torch.from_numpy(np.where(recommendable, np.cumsum(recommendable), 0))
    content = torch.from_numpy(of_item.astype(np.int64))
    tower = Tower(
        shop.n_users, id_rows, content, int(of_item.max(initial=0)) + 1, settings.dimensions, generator
    )
    optimizer = torch.optim.Adam(tower.parameters(), lr=settings.learning_rate)
    rows = np.flatnonzero(recommendable)
    counts = np.bincount(examples.items, minlength=shop.n_items)
    log_q = torch.from_numpy(np.log((counts + 1) / (counts.sum() + 1))).float()
    size = min(settings.batch_size, max(len(examples.users) // LEAST_BATCHES, LEAST_BATCH))
    batches = max(1, len(examples.users) // size)
    total = settings.epochs * batches
    with Progress("retrieval", total) as progress, ThreadCount(torch.get_num_threads()) as threads:
        for step in range(total):
            if step % batches == 0:
                order = rng.permutation(len(examples.users))
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * (1 - step / total)
            batch = order[(step % batches) * size :][:size]
            loss = _loss(tower, examples, batch, rows, log_q, settings, rng)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch declares no types for it
            optimizer.step()
            threads.step()
            progress.advance(loss=loss.item())
    return _scale(_read_vectors(tower, shop, examples), examples, rows, rng)


def _make_examples(
    shop: Shop, end: int, recommendable: NDArray[np.bool_], sampled: NDArray[np.bool_]
) -> _Examples:
    items = shop.items[: shop.offsets[end]].astype(np.int64)
    owner = np.repeat(np.arange(end), np.diff(shop.offsets[: end + 1]))
    owner, items = owner[recommendable[items]], items[recommendable[items]]
    sizes = np.bincount(owner, minlength=end)
    large = (sizes >= 2) & sampled[:end]
    offsets = np.concatenate([[0], np.cumsum(sizes[large])])
    return _Examples(offsets, items[large[owner]], shop.users[:end][large].astype(np.int64))


def _loss(
    tower: Tower,
    examples: _Examples,
    batch: NDArray[np.int64],
    rows: NDArray[np.int64],
    log_q: torch.Tensor,
    settings: RetrievalSettings,
    rng: np.random.Generator,
) -> torch.Tensor:
    """Return the loss of the examples ``batch``; negatives come from the items ``rows``."""
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
    negatives = rng.choice(rows, settings.uniform_negatives)
    pool = torch.from_numpy(np.concatenate([targets, negatives]))
    # logQ: a target is drawn in proportion to its sales, any other negative uniformly.
    n, m = len(batch), settings.uniform_negatives
    correction = torch.logaddexp(log_q[pool] + np.log(n), torch.tensor(np.log(m / len(rows))))
    logits = query @ tower.item(pool).T
    logits -= correction
    # Items of the basket are never recommended, so they are no negatives; neither is the target drawn again.
    logits.masked_fill_(torch.from_numpy(_membership(owner, items, pool.numpy(), n)), -1e9)
    return nn.functional.cross_entropy(logits, torch.arange(n))


def _membership(
    owner: NDArray[np.int64], items: NDArray[np.int64], pool: NDArray[np.int64], n: int
) -> NDArray[np.bool_]:
    """Mark (n, pool) where the pool's item is in the basket, except the target's own column (i, i)."""
    order = np.argsort(pool, kind="stable")
    first, last = (np.searchsorted(pool[order], items, side) for side in ("left", "right"))
    inside = np.zeros((n, len(pool)), bool)
    times = last - first  # how often the pool holds the item
    rows = np.repeat(owner, times)
    at = np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times) + np.repeat(first, times)
    inside[rows, order[at]] = True
    inside[np.arange(n), np.arange(n)] = False
    return inside


@torch.no_grad()
def _read_vectors(tower: Tower, shop: Shop, examples: _Examples) -> Retrieval:
    rows = torch.arange(shop.n_items)
    basket, items = tower.basket_item(rows).numpy(), tower.item(rows).numpy()
    basket[0], items[0] = 0, 0
    users = tower.users.weight.numpy().copy()
    trained = np.bincount(examples.users, minlength=shop.n_users) > 0
    users[~trained] = users[0]  # the unknown user's vector instead of random initial values
    return Retrieval(users, basket, items)


def _scale(
    vectors: Retrieval, examples: _Examples, rows: NDArray[np.int64], rng: np.random.Generator
) -> Retrieval:
    """Divide the vectors of queries so that their inner products with the items ``rows`` have deviation 1.

    The products grow with each step of training, hence with the number of receipts. They are features of the
    scorer, so they must have the same scale in the snapshot of its training and in the release.
    """
    n = len(examples.users)
    queries, items = rng.integers(n, size=SCALE_SAMPLE), rng.choice(rows, SCALE_SAMPLE)
    pooled = np.add.reduceat(vectors.basket[examples.items], examples.offsets[:-1])[queries]
    roots = np.sqrt(np.diff(examples.offsets))[queries, None]
    products = (vectors.users[examples.users[queries]] + pooled / roots) @ vectors.items[items].T
    scale = np.float32(max(float(products.std()), 1e-6))
    return Retrieval(vectors.users / scale, vectors.basket / scale, vectors.items)


def _zeros(shop: Shop, d: int) -> Retrieval:
    """Return zeros, for a shop without a basket of two recommendable items: no item is similar to another."""
    return Retrieval(
        *(np.zeros((rows, d), np.float32) for rows in (shop.n_users, shop.n_items, shop.n_items))
    )
