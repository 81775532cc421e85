"""What the retrieval tower learns from: baskets, in batches of queries with a target and other items."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from export_scripts.receipts.shop import Shop
from export_scripts.settings import RetrievalSettings

COUNTED_AT_ONCE = 100_000  # baskets; all lines of a large shop would take gigabytes
LEAST_BATCHES, LEAST_BATCH = 40, 128  # per epoch; a small shop gets smaller batches, not too few steps


class Batch(NamedTuple):
    """Queries of n baskets: one item of each is the target, and the others ask."""

    users: torch.Tensor  # (n,)
    basket: torch.Tensor  # (lines,) item rows of all queries, one after another
    sizes: torch.Tensor  # (n,) lines of each query
    pool: torch.Tensor  # (n + m,) item rows: the targets, then m drawn uniformly
    log_q: torch.Tensor  # (n + m,) log of how often the pool is expected to hold the item
    excluded: torch.Tensor  # (2, pairs) queries and places of the pool that are no wrong answers


class Examples:
    """The marked baskets before ``end`` with at least two items that ``recommendable`` (items,) marks."""

    def __init__(
        self,
        shop: Shop,
        end: int,
        recommendable: NDArray[np.bool_],
        sampled: NDArray[np.bool_],  # (baskets,)
        settings: RetrievalSettings,
    ):
        self._shop, self._recommendable, self._settings = shop, recommendable, settings
        counted = recommendable[shop.items[: shop.offsets[end]]]
        sizes = np.add.reduceat(counted, shop.offsets[:end], dtype=np.int32)
        self._numbers = np.flatnonzero((sizes >= 2) & sampled[:end])
        self._users = shop.users[self._numbers]
        self._pool = np.flatnonzero(recommendable)
        self.size = min(settings.batch_size, max(len(self) // LEAST_BATCHES, LEAST_BATCH))  # of a batch
        self._batches = max(1, len(self) // self.size)  # per epoch
        self.steps = min(settings.epochs * self._batches, settings.most_steps)  # of a whole training
        capped = self.steps < settings.epochs * self._batches
        damped = capped and settings.heavy_users < 1
        self._weights = _user_weights(self._users, settings.heavy_users) if damped else None
        self._log_share = self._log_shares()

    def __len__(self) -> int:
        return len(self._numbers)

    def draw(self, steps: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
        """Yield (n,) examples for each of ``steps``: all in a random order, and then all again.

        With weights, each step draws its examples in proportion to them.
        """
        bounds = None if self._weights is None else np.cumsum(self._weights)
        for step in range(steps):
            place = step % self._batches
            if bounds is not None:
                yield np.searchsorted(bounds[:-1], rng.random(self.size) * bounds[-1], "right")
                continue
            if place == 0:
                order = rng.permutation(len(self))
            yield order[place * self.size : (place + 1) * self.size]

    def batch(self, chosen: NDArray[np.integer], rng: np.random.Generator) -> Batch:
        """Return the queries of the examples ``chosen`` (n,), each with a target of its own."""
        n, drawn = len(chosen), self._settings.uniform_negatives
        owner, items = self.lines(chosen)
        sizes = np.bincount(owner, minlength=n)
        targets = np.cumsum(sizes) - sizes + (rng.random(n) * sizes).astype(np.int64)
        asked = np.ones(len(items), bool)
        asked[targets] = False
        users = self.users(chosen) * (rng.random(n) >= self._settings.user_dropout)
        pool = np.concatenate([items[targets], rng.choice(self._pool, drawn)])
        # A target is drawn in proportion to its sales, any other negative uniformly.
        log_q = np.logaddexp(self._log_share[pool] + np.log(n), np.log(drawn / len(self._pool)))
        return Batch(
            torch.from_numpy(users),
            torch.from_numpy(items[asked]),
            torch.from_numpy(sizes - 1),
            torch.from_numpy(pool),
            torch.from_numpy(log_q.astype(np.float32)),
            torch.from_numpy(_excluded(owner, items, pool)),
        )

    def sample(self, n: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Draw (n,) examples and (n,) recommendable items."""
        return rng.integers(len(self), size=n), rng.choice(self._pool, n)

    def users(self, chosen: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return (n,) the users of the examples ``chosen``."""
        users: NDArray[np.int64] = self._users[chosen].astype(np.int64)
        return users

    def lines(self, chosen: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return (lines,) places in ``chosen`` and (lines,) recommendable items of its baskets, in order."""
        starts, ends = (self._shop.offsets[self._numbers[chosen] + k] for k in (0, 1))
        sizes = ends - starts
        owner = np.repeat(np.arange(len(chosen)), sizes)
        places = np.arange(len(owner)) + np.repeat(starts - np.cumsum(sizes) + sizes, sizes)
        items = self._shop.items[places].astype(np.int64)
        kept = self._recommendable[items]
        return owner[kept], items[kept]

    def _log_shares(self) -> NDArray[np.float64]:
        """Return (items,) log of each item's share of the lines of all examples, by their weights."""
        sales = np.zeros(len(self._recommendable))
        for start in range(0, len(self), COUNTED_AT_ONCE):
            chosen = np.arange(start, min(start + COUNTED_AT_ONCE, len(self)))
            owner, items = self.lines(chosen)
            weights = None if self._weights is None else self._weights[chosen][owner]
            sales += np.bincount(items, weights, len(sales))
        shares: NDArray[np.float64] = np.log((sales + 1) / (sales.sum() + 1))
        return shares


def _user_weights(users: NDArray[np.integer], exponent: float) -> NDArray[np.float64]:
    """Return (n,) weights by which a user of m among the n baskets counts as m to the ``exponent``.

    Baskets of unknown users count as a known user's do on average.
    """
    weights: NDArray[np.float64] = np.bincount(users)[users] ** (exponent - 1.0)
    known = users > 0
    weights[~known] = weights[known].mean() if known.any() else 1.0
    return weights


def _excluded(
    owner: NDArray[np.int64], items: NDArray[np.int64], pool: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return (2, pairs) the queries and the places of the pool that hold an item of the query's basket.

    Items of the basket are never recommended, so they are no wrong answers. A target that the pool holds a
    second time is none either; its own place, (i, i), is not excluded.
    """
    order = np.argsort(pool, kind="stable")
    first, last = (np.searchsorted(pool[order], items, side) for side in ("left", "right"))
    times = last - first  # how often the pool holds the item
    places = np.arange(times.sum()) + np.repeat(first - np.cumsum(times) + times, times)
    pairs = np.stack([np.repeat(owner, times), order[places]])
    return pairs[:, pairs[0] != pairs[1]]
