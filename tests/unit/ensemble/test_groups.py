"""The groups of a release's items, worked out by hand."""

import numpy as np

from ensemble.candidate_sampler.arrays import Categories, Popularity
from ensemble.candidate_sampler.groups import MOST_CATEGORIES, NONE, OTHER, TENTHS, Groups, groups_of
from ensemble.candidate_sampler.ids import Ids
from tests.building.tiny_arrays import tiny_arrays


def groups(of_item: list[list[int]], names: list[bytes], sales: list[float]) -> Groups:
    """Groups of items whose sales are in row order, row 0 included. Other arrays do not matter."""
    score = np.log1p(np.array(sales)).astype(np.float32)
    categories = Categories(
        np.array(of_item, np.int32).reshape(len(sales), -1),
        np.zeros(len(names) + 1, np.int64),
        np.zeros(0, np.int32),
    )
    arrays = tiny_arrays()._replace(
        popularity=Popularity(np.arange(1, len(sales), dtype=np.int32), score, score),
        categories=categories,
        category_names=Ids.pack(names),
    )
    return groups_of(arrays)


def labels(found: Groups) -> list[str]:
    return [found.categories[place] for place in found.category_of]


def test_an_item_counts_for_its_category_and_its_tenth_of_the_sales() -> None:
    """The first item has 6.5 of 10 sales: it begins in the first tenth, the next one in the 7th."""
    found = groups([[0], [1], [2], [2], [0]], [b"", b"tea", b"milk"], [0, 6.5, 3, 0.5, 0])
    assert found.categories == ("tea", "milk", OTHER, NONE)
    assert labels(found) == [NONE, "tea", "milk", "milk", NONE]
    assert [TENTHS[place] for place in found.tenth_of] == ["unsold", "1", "7", "10", "unsold"]


def test_the_column_that_tells_most_about_a_sale_is_counted() -> None:
    """All items are of one department; a column in which each item has a category of its own wins."""
    found = groups([[0, 0], [1, 2], [1, 3], [1, 4]], [b"", b"food", b"a", b"b", b"c"], [0, 2, 2, 1])
    assert found.categories == ("a", "b", "c", OTHER, NONE)


def test_the_number_of_categories_is_bounded() -> None:
    """Categories that sell least are counted together, and so are categories without any sale."""
    n = MOST_CATEGORIES + 3
    sales = [0.0, *(float(2 * n - item) for item in range(n))]
    found = groups([[i] for i in range(n + 1)], [b"", *(b"c%d" % i for i in range(n))], sales)
    assert len(found.categories) == MOST_CATEGORIES + 2
    assert labels(found)[1:3] == ["c0", "c1"]
    assert labels(found)[-3:] == [OTHER] * 3


def test_labels_are_printable_and_distinct() -> None:
    found = groups([[0], [1], [2]], [b"", b'"a\nb\\"', b" a b  "], [0, 2, 1])
    assert found.categories[:2] == (" a b  ", " a b   (1)")


def test_a_shop_without_categories_has_tenths_only() -> None:
    found = groups_of(tiny_arrays())
    assert found.categories == (OTHER, NONE)
    assert labels(found) == [NONE] * 5
