"""The groups by which the items of baskets are counted: categories, and tenths of the sales.

They are made of a release's arrays alone. So the export, the sampler and ``cesta drift`` count alike, and the
number of counters has a bound.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .arrays import Categories, Popularity, SamplerArrays

MOST_CATEGORIES: Final = 50  # with a counter of their own
OTHER: Final = "(other)"  # the categories that sell less
NONE: Final = "(none)"  # items without a category
TENTHS: Final = (*map(str, range(1, 11)), "unsold")  # 1: the best sellers
LONGEST_LABEL: Final = 60  # letters


class Groups(NamedTuple):
    """Two groups of each item, as places in their labels."""

    categories: tuple[str, ...]  # labels, best-selling first
    category_of: NDArray[np.uint8]  # (items,)
    tenth_of: NDArray[np.uint8]  # (items,) in TENTHS


def groups_of(arrays: SamplerArrays) -> Groups:
    """The groups of a release's items."""
    sales = np.expm1(arrays.popularity.score.astype(np.float64))
    numbers = _best_numbers(arrays.categories, sales)
    names = arrays.category_names.unpack()
    labels = _labels([names[number] for number in numbers])
    place_of = np.full(max(len(arrays.categories.members_offsets) - 1, 1), len(labels), np.uint8)
    place_of[0] = len(labels) + 1
    place_of[numbers] = np.arange(len(labels))
    column = _column(arrays.categories, sales)
    return Groups((*labels, OTHER, NONE), place_of[column], _tenths(arrays.popularity, sales))


def _best_numbers(categories: Categories, sales: NDArray[np.float64]) -> NDArray[np.int64]:
    """The numbers of the categories that sell most, in the column that is counted."""
    return _ranked(_column(categories, sales), sales)[0]


def _column(categories: Categories, sales: NDArray[np.float64]) -> NDArray[np.int32]:
    """(items,) The category numbers in the column that tells most about a sale; zeros without a column.

    A broad column has few categories. In a fine one most sales are of other categories. The entropy of the
    sales by group weighs both.
    """
    columns = categories.of_item.shape[1]
    entropies = [_entropy(_ranked(categories.of_item[:, k], sales)[1]) for k in range(columns)]
    if not columns:
        return np.zeros(len(sales), np.int32)
    return np.asarray(categories.of_item[:, int(np.argmax(entropies))])


def _ranked(
    of_item: NDArray[np.int32], sales: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The numbers of the best-selling categories, and the sales of each of them and of all others."""
    by_number = np.bincount(of_item, sales)
    by_number[0] = 0
    order = np.argsort(-by_number, kind="stable")
    best = order[:MOST_CATEGORIES]
    best = best[by_number[best] > 0]
    return best, np.append(by_number[best], max(by_number.sum() - by_number[best].sum(), 0))


def _entropy(sales: NDArray[np.float64]) -> float:
    shares = sales[sales > 0] / max(sales.sum(), 1e-300)
    return float(-(shares * np.log(shares)).sum())


def _tenths(popularity: Popularity, sales: NDArray[np.float64]) -> NDArray[np.uint8]:
    """(items,) The tenth of the sales that an item belongs to, from the best seller down."""
    order = np.argsort(-sales, kind="stable")
    before = np.cumsum(sales[order]) - sales[order]
    tenths = np.empty(len(sales), np.uint8)
    tenths[order] = np.minimum(10 * before / max(sales.sum(), 1e-300), 9)
    tenths[popularity.score <= 0] = len(TENTHS) - 1
    return tenths


def _labels(names: list[bytes]) -> list[str]:
    """The names as distinct, short, printable labels."""
    labels: list[str] = []
    for name in names:
        short = "".join(c if c.isprintable() and c not in '"\\' else " " for c in _text(name)[:LONGEST_LABEL])
        labels.append(f"{short} ({len(labels)})" if short in labels else short)
    return labels


def _text(name: bytes) -> str:
    return name.decode(errors="replace")
