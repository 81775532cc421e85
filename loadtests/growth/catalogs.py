"""Grows a release: keeps its items and adds copies of the items that sell.

Nothing is trained. A copy gets its source's vectors with noise (in the network, too), a share of the sales,
the categories, and the partners or copies of them. The release's own items keep their values and their rows,
so the test month's questions fit every catalog size and cost the same work.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ensemble.candidate_sampler.arrays import Categories, Partners, Popularity, SamplerArrays
from ensemble.candidate_sampler.ids import Ids
from export_scripts.scorer.ncf import NCF

NOISE: Final = 0.5  # of a copy's vector, in standard deviations of all vectors; clusters survive it
FEWEST_PARTNERS: Final = 40  # of a copy; items with fewer sales have fewer known partners
CHUNK: Final = 50_000  # rows per pass that picks partners
ITEM_TABLES: Final = ("basket_gmf", "basket_mlp", "item_gmf", "item_mlp", "item_bias")  # in the network

Int = NDArray[np.int32]
Float = NDArray[np.float32]


@dataclass(frozen=True)
class Family:
    """Maps each row to its source.

    Copy number k ≥ 2 of the countable item at place p is row first + (k - 2) n + p.
    """

    countable: int  # n: the items that the release counts; only they are copied
    source: Int  # (rows,) the release's row that each row is or copies
    share: NDArray[np.float64]  # (rows,) share of the source's sales, in proportion to 1/k
    size: Int  # (items of the release,) the number of rows of each family
    place: Int  # (items of the release,) the item's place among the n countable items

    @classmethod
    def of(cls, arrays: SamplerArrays, items: int) -> "Family":
        """The families of a catalog with ``items`` countable items, at least as many as the release has."""
        order, rows = np.sort(arrays.popularity.order), len(arrays.popularity.score)
        copies = np.arange(max(items - len(order), 0))
        source = np.concatenate([np.arange(rows, dtype=np.int32), order[copies % len(order)]])
        number = np.concatenate([np.ones(rows), copies // len(order) + 2])
        place = np.zeros(rows, np.int32)
        place[order] = np.arange(len(order))
        share = 1 / number / np.bincount(source, 1 / number)[source]
        return cls(len(order), source, share, np.bincount(source).astype(np.int32), place)

    @property
    def first(self) -> int:
        """The row of the first copy."""
        return len(self.size)

    def pick(self, sources: Int, rng: np.random.Generator) -> Int:
        """Pick one row from each source's family. Number k is picked about 1/k as often as the first."""
        size = self.size[sources].astype(np.float64)
        number = np.minimum((size + 1) ** rng.random(len(sources)), size).astype(np.int64)
        copy = self.first + (number - 2) * self.countable + self.place[sources]
        rows = np.where(number == 1, sources, copy)
        return rows.astype(np.int32)


def grow(arrays: SamplerArrays, items: int, rng: np.random.Generator) -> tuple[SamplerArrays, Family]:
    """The release's arrays with ``items`` countable items, and the families of the copies."""
    family = Family.of(arrays, items)
    popularity = _popularity(arrays, family)
    tower = arrays.retrieval
    return arrays._replace(
        item_ids=_ids(arrays.item_ids, family),
        neighbours=_neighbours(arrays.neighbours, family, rng),
        popularity=popularity,
        categories=_categories(arrays.categories, family, popularity),
        retrieval=tower._replace(
            basket=add_noise(tower.basket, family, rng), items=add_noise(tower.items, family, rng)
        ),
    ), family


def grow_network(network: NCF, family: Family, rng: np.random.Generator) -> NCF:
    """The scorer's network for the grown catalog. Weights that belong to no item stay the same."""
    state = network.state_dict()
    for key in (f"{name}.weight" for name in ITEM_TABLES):
        state[key] = state[key].new_tensor(add_noise(state[key].numpy(), family, rng))
    larger = NCF(replace(network.shape, n_items=len(family.source)))
    larger.load_state_dict(state)
    return larger.eval()


def add_noise(table: Float, family: Family, rng: np.random.Generator) -> Float:
    """(rows, d): each row's source in ``table``. Copies get noise."""
    larger: Float = table[family.source]
    copies = larger[family.first :]
    copies += rng.standard_normal(copies.shape, np.float32) * (NOISE * table.std(0))
    return larger


def _ids(ids: Ids, family: Family) -> Ids:
    """The id of a copy is its source's id with the copy's row."""
    sources = ids.unpack()
    copies = enumerate(family.source[family.first :].tolist(), family.first)
    return Ids.pack([*sources, *(b"%s-%d" % (sources[source], row) for row, source in copies)])


def _popularity(arrays: SamplerArrays, family: Family) -> Popularity:
    def share_sales(score: Float) -> Float:
        return np.log1p(np.expm1(score[family.source]) * family.share).astype(np.float32)

    score = share_sales(arrays.popularity.score)
    rows = np.concatenate([arrays.popularity.order, np.arange(family.first, len(family.source))])
    order = rows[np.argsort(-score[rows], kind="stable")].astype(np.int32)
    return Popularity(order, score, share_sales(arrays.popularity.recent))


def _categories(categories: Categories, family: Family, popularity: Popularity) -> Categories:
    of_item = categories.of_item[family.source]
    names = len(categories.members_offsets) - 1
    row = np.repeat(np.arange(len(of_item)), of_item.shape[1])
    pair = np.unique(
        of_item.ravel().astype(np.int64) * len(of_item) + row
    )  # a name in two columns counts once
    category, member = pair // len(of_item), pair % len(of_item)
    category, member = category[category > 0], member[category > 0]
    best_first = np.lexsort((-popularity.score[member], category))
    offsets = np.zeros(names + 1, np.int64)
    np.cumsum(np.bincount(category, minlength=names), out=offsets[1:])
    return Categories(of_item, offsets, member[best_first].astype(np.int32))


def _neighbours(neighbours: Partners, family: Family, rng: np.random.Generator) -> Partners:
    """A list of partners for every row. A copy keeps the strongest ones, fewer as it sells less."""
    length = np.diff(neighbours.offsets)[family.source]
    sales = np.minimum(family.share * family.size[family.source] / 2, 1)
    shortened = np.minimum(length, np.maximum((length * sales).astype(np.int64), FEWEST_PARTNERS))
    shortened[: family.first] = length[: family.first]
    offsets = np.concatenate([[0], np.cumsum(shortened)])
    items = np.empty(offsets[-1], np.int32)
    values = [np.empty(offsets[-1], np.float32) for _ in neighbours[2:]]
    for start in range(0, len(shortened), CHUNK):
        rows = slice(start, start + CHUNK)
        part = slice(offsets[start], offsets[min(start + CHUNK, len(shortened))])
        shift = neighbours.offsets[family.source[rows]] - offsets[:-1][rows]
        entry = np.arange(part.start, part.stop) + np.repeat(shift, shortened[rows])
        items[part] = family.pick(neighbours.items[entry], rng)
        for value, of_source in zip(values, neighbours[2:], strict=True):
            value[part] = of_source[entry]
    return Partners(offsets, items, *values)
