"""A release as it would be with more items: its own ones, and copies of those that sell.

Nothing is trained. A copy has the vectors of its source with noise, in the network too, some of its sales,
its categories, and its partners, each of them or a copy of it. The release's own items stay what they are and
keep their rows: the test month's questions fit every catalog and ask each for as much work.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ensemble.candidate_sampler.arrays import Categories, Ids, Neighbours, Popularity, SamplerArrays
from export_scripts.scorer.ncf import NCF

NOISE: Final = 0.5  # of a copy's vector, in standard deviations of all vectors; heaps stay heaps
FEWEST_PARTNERS: Final = 40  # of a copy; who sells less is known to go with less
CHUNK: Final = 50_000  # rows whose partners are picked at once
ITEM_TABLES: Final = ("basket_gmf", "basket_mlp", "item_gmf", "item_mlp", "item_bias")  # of the network

Int = NDArray[np.int32]
Float = NDArray[np.float32]


@dataclass(frozen=True)
class Family:
    """Who is whose copy: number k ≥ 2 of the countable item at place p is row first + (k - 2) n + p."""

    countable: int  # n: items that the release counts, which alone are copied
    source: Int  # (rows,) the release's row that each is, or is a copy of
    share: NDArray[np.float64]  # (rows,) of its source's sales: in proportion to 1/k
    size: Int  # (items of the release,) how many rows each has
    place: Int  # (items of the release,) its place among the n countable ones

    @classmethod
    def of(cls, arrays: SamplerArrays, items: int) -> "Family":
        """The catalog with ``items`` countable items; at least as many as the release has."""
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
        """Row of the first copy."""
        return len(self.size)

    def pick(self, sources: Int, rng: np.random.Generator) -> Int:
        """One row of each source's family; its number k among them comes about 1/k as often as the first."""
        size = self.size[sources].astype(np.float64)
        number = np.minimum((size + 1) ** rng.random(len(sources)), size).astype(np.int64)
        copy = self.first + (number - 2) * self.countable + self.place[sources]
        rows = np.where(number == 1, sources, copy)
        return rows.astype(np.int32)


def grown(arrays: SamplerArrays, items: int, rng: np.random.Generator) -> tuple[SamplerArrays, Family]:
    """The release's arrays with ``items`` countable items, and who is whose copy."""
    family = Family.of(arrays, items)
    popularity = _popularity(arrays, family)
    tower = arrays.retrieval
    return arrays._replace(
        item_ids=_ids(arrays.item_ids, family),
        neighbours=_neighbours(arrays.neighbours, family, rng),
        popularity=popularity,
        categories=_categories(arrays.categories, family, popularity),
        retrieval=tower._replace(
            basket=noisy(tower.basket, family, rng), items=noisy(tower.items, family, rng)
        ),
    ), family


def grown_network(network: NCF, family: Family, rng: np.random.Generator) -> NCF:
    """The scorer's network for the grown catalog; what is not of items stays."""
    state = network.state_dict()
    for key in (f"{name}.weight" for name in ITEM_TABLES):
        state[key] = state[key].new_tensor(noisy(state[key].numpy(), family, rng))
    grown = NCF(replace(network.shape, n_items=len(family.source)))
    grown.load_state_dict(state)
    return grown.eval()


def noisy(table: Float, family: Family, rng: np.random.Generator) -> Float:
    """(rows, d) the sources' rows, those of copies with noise."""
    found: Float = table[family.source]
    copies = found[family.first :]
    copies += rng.standard_normal(copies.shape, np.float32) * (NOISE * table.std(0))
    return found


def _ids(ids: Ids, family: Family) -> Ids:
    """A copy's id is its source's with its row."""
    own = ids.unpack()
    copies = enumerate(family.source[family.first :].tolist(), family.first)
    return Ids.pack([*own, *(b"%s-%d" % (own[source], row) for row, source in copies)])


def _popularity(arrays: SamplerArrays, family: Family) -> Popularity:
    def shared(score: Float) -> Float:
        return np.log1p(np.expm1(score[family.source]) * family.share).astype(np.float32)

    score = shared(arrays.popularity.score)
    rows = np.concatenate([arrays.popularity.order, np.arange(family.first, len(family.source))])
    order = rows[np.argsort(-score[rows], kind="stable")].astype(np.int32)
    return Popularity(order, score, shared(arrays.popularity.recent))


def _categories(categories: Categories, family: Family, popularity: Popularity) -> Categories:
    of_item = categories.of_item[family.source]
    names = len(categories.members_offsets) - 1
    row = np.repeat(np.arange(len(of_item)), of_item.shape[1])
    pair = np.unique(of_item.ravel().astype(np.int64) * len(of_item) + row)  # a name in two columns: once
    category, member = pair // len(of_item), pair % len(of_item)
    category, member = category[category > 0], member[category > 0]
    best_first = np.lexsort((-popularity.score[member], category))
    offsets = np.zeros(names + 1, np.int64)
    np.cumsum(np.bincount(category, minlength=names), out=offsets[1:])
    return Categories(of_item, offsets, member[best_first].astype(np.int32))


def _neighbours(own: Neighbours, family: Family, rng: np.random.Generator) -> Neighbours:
    """A list for every row; a copy's is shorter by what it sells less, its strongest partners stay."""
    length = np.diff(own.offsets)[family.source]
    part = np.minimum(family.share * family.size[family.source] / 2, 1)
    kept = np.minimum(length, np.maximum((length * part).astype(np.int64), FEWEST_PARTNERS))
    kept[: family.first] = length[: family.first]
    offsets = np.concatenate([[0], np.cumsum(kept)])
    items = np.empty(offsets[-1], np.int32)
    cosine, probability = np.empty(offsets[-1], np.float32), np.empty(offsets[-1], np.float32)
    for start in range(0, len(kept), CHUNK):
        rows = slice(start, start + CHUNK)
        here = slice(offsets[start], offsets[min(start + CHUNK, len(kept))])
        shift = own.offsets[family.source[rows]] - offsets[:-1][rows]
        entry = np.arange(here.start, here.stop) + np.repeat(shift, kept[rows])
        items[here] = family.pick(own.items[entry], rng)
        cosine[here], probability[here] = own.cosine[entry], own.probability[entry]
    return Neighbours(offsets, items, cosine, probability)
