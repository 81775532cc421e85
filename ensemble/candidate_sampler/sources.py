"""Where a candidate came from: one bit per source, shown to callers as ``reasons``.

The bits are compiled into the kernels: after a change here edit ``kernels.py`` too, or numba's cache keeps
the old ones.
"""

from typing import Final

USUAL: Final = 1  # bought by this user before
TOGETHER: Final = 2  # often in one basket with an item of this one
SIMILAR: Final = 4  # near the query in the retrieval tower's space; by default of items that hardly sold
POPULAR: Final = 8  # among the best sellers of the whole shop, as far down as it takes to fill the list
CATEGORY: Final = 16  # among the best sellers of a category in the basket, or of one asked for

SOURCES: Final = {
    "usual": USUAL,
    "together": TOGETHER,
    "similar": SIMILAR,
    "popular": POPULAR,
    "category": CATEGORY,
}
