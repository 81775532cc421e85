"""Trains the retrieval tower on the baskets before a moment, and goes on with it to a later moment.

The loss is a sampled softmax over the batch's own targets and uniform negatives, with logQ correction (Yi et
al. 2019, "Sampling-bias-corrected neural modeling for large corpus item recommendations", eq. 4).
"""

import sys
from copy import deepcopy
from dataclasses import replace
from itertools import islice
from typing import Final, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from export_scripts.durations import step
from export_scripts.engines.interface import WorkerLost
from export_scripts.progress import Progress
from export_scripts.receipts.shop import Shop
from export_scripts.settings import Settings
from export_scripts.snapshots import counts
from export_scripts.snapshots.retrieval.examples import Batch, Examples
from export_scripts.snapshots.retrieval.row_optimizer import RowOptimizer
from export_scripts.snapshots.retrieval.sampled_softmax import SampledSoftmax
from export_scripts.snapshots.retrieval.tower import Tower, TrainedTower
from export_scripts.snapshots.sample import mark_sampled
from export_scripts.thread_count import ThreadCount
from operations.errors import CestaError

SCALE_SAMPLE = 1_000  # queries and items whose inner products give the scale
LEAST_CONTINUED: Final = 160_000  # queries of a tower that goes on; a new one then takes at most 25 CPU s


def train_tower(shop: Shop, end: int, of_item: NDArray[np.int32], settings: Settings) -> TrainedTower:
    """Train a new tower on the baskets before ``end``; ``of_item`` (items, columns) are categories."""
    return continue_tower(new_tower(shop, of_item, settings), shop, end, settings)


def new_tower(shop: Shop, of_item: NDArray[np.int32], settings: Settings) -> TrainedTower:
    """Return an untrained tower for the users and items of ``shop``."""
    generator = torch.Generator().manual_seed(settings.train.seed)
    return TrainedTower.of(Tower.untrained(shop.n_users, of_item, settings.retrieval.dimensions, generator))


class Ranks(NamedTuple):
    """This process among those that train one tower together; by default it is the only one."""

    rank: int = 0
    size: int = 1

    def share(self, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
        """This rank's part of a batch."""
        return chosen[self.rank :: self.size]

    def average(self, network: Tower) -> None:
        """Replace all gradients by the mean over the ranks. Raises WorkerLost if one is gone, or silent."""
        if self.size > 1:
            for table in network.parameters():
                assert table.grad is not None
                total = table.grad.coalesce()
                try:
                    dist.all_reduce(total)
                except (dist.DistError, RuntimeError) as error:
                    reason = str(error).partition("\n")[0]
                    raise WorkerLost(f"{self.size} ranks lost one another: {reason}") from None
                table.grad = total.coalesce() / self.size


ALONE: Final = Ranks()


class Stretch(NamedTuple):
    """The steps ``first`` … ``end`` - 1 of a training, which may have fewer; by default all of it."""

    first: int = 0
    end: int = sys.maxsize


WHOLE: Final = Stretch()


@step("tower")
def continue_tower(
    tower: TrainedTower,
    shop: Shop,
    end: int,
    settings: Settings,
    ranks: Ranks = ALONE,
    stretch: Stretch = WHOLE,
) -> TrainedTower:
    """Train a copy of ``tower`` on the baskets before ``end``, those that it has seen included.

    A trained tower gets the share ``retrieval.continued`` of the steps of a new one. If these are few, as in
    a small shop, a new tower is trained instead (LEAST_CONTINUED). A user that a trained tower has not met
    starts from the unknown user's vector, an item from those of its categories. ``shop`` numbers users and
    items as the shop of the earlier training. The result depends on nothing but the arguments. Raises
    CestaError if the tower has seen baskets from ``end`` on.

    A ``stretch`` before the last one returns a tower that has not reached ``end``, for the next stretch.
    """
    if tower.end == end:
        return tower
    if tower.end > end:
        raise CestaError(
            f"leak: the retrieval tower has seen {tower.end:,} baskets, and {end:,} may be known; this is an "
            "error of cesta, and its metrics would be too good"
        )
    recommendable = counts.support(shop, end) >= settings.sampler.min_support
    sampled = mark_sampled(shop, settings.train.users)
    examples = Examples(shop, end, recommendable, sampled, settings.retrieval)
    if not len(examples):
        return replace(tower, end=end)
    continued = round(settings.retrieval.continued * examples.steps)
    if tower.steps and continued * examples.size < LEAST_CONTINUED:
        tower = new_tower(shop, counts.categories(shop, end)[0].of_item, settings)
    tower = deepcopy(tower)
    seeds = [settings.train.seed, tower.steps]
    network, rng = tower.network, np.random.default_rng(seeds)
    if not stretch.first:
        network.admit(recommendable, tower.known_users)
    steps = continued if tower.steps else examples.steps
    alone = (ranks, stretch) == (ALONE, WHOLE)
    own = rng if alone else np.random.default_rng([*seeds, stretch.first, ranks.rank])
    threads_each = max(1, torch.get_num_threads() // ranks.size)
    with Progress("retrieval", steps, ranks.rank == 0) as progress, ThreadCount(threads_each) as threads:
        progress.advance(stretch.first)
        for done, chosen in islice(enumerate(examples.draw(steps, rng)), stretch.first, stretch.end):
            rate = settings.retrieval.learning_rate * (1 - done / steps)
            batch = examples.batch(ranks.share(chosen), own)
            loss = train_step(network, tower.optimizer, batch, rate, ranks)
            threads.step()
            progress.advance(loss=loss)
    if stretch.end < steps:
        return tower
    return replace(tower, end=end, steps=tower.steps + steps, scale=_scale(network, examples, rng))


def train_step(
    network: Tower, optimizer: RowOptimizer, batch: Batch, rate: float, ranks: Ranks = ALONE
) -> float:
    """Move the vectors of one batch's users and items at the learning ``rate``; return the loss before."""
    loss = loss_of(network, batch)
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    ranks.average(network)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    return loss.item()


def loss_of(network: Tower, batch: Batch) -> torch.Tensor:
    """Return the mean loss of the batch's queries."""
    queries = network.query(batch.users, batch.basket, batch.sizes)
    pool = network.item(batch.pool)
    loss: torch.Tensor = SampledSoftmax.apply(queries, pool, batch.log_q, batch.excluded)  # type: ignore[no-untyped-call]  # torch declares no types for it
    return loss


@torch.no_grad()
def _scale(network: Tower, examples: Examples, rng: np.random.Generator) -> float:
    """Return the deviation of the inner products of whole baskets' queries and recommendable items."""
    chosen, items = examples.sample(SCALE_SAMPLE, rng)
    owner, rows = examples.lines(chosen)
    sizes = np.bincount(owner, minlength=len(chosen))
    users = torch.from_numpy(examples.users(chosen))
    queries = network.query(users, torch.from_numpy(rows), torch.from_numpy(sizes))
    products = queries @ network.item(torch.from_numpy(items)).T
    return max(float(products.std(correction=0)), 1e-6)
