"""A grocery of any size, from one shop to a chain, in the shape of real receipts.

| what | shape |
|---|---|
| sales of items | Zipf–Mandelbrot with exponent 1 |
| baskets of a user, lines of a basket | lognormal |
| half of the lines | the user's repertoire, its first items most often |
| a quarter | the category that the basket is about, one of the user's favourites |
| a quarter | any item |
| times | a year, in opening hours, most of them in the afternoon |

Users are made in pieces, each with random numbers of its own, so that the memory does not grow with the shop.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from loadtests.shops.assortment import Assortment, Numbers
from loadtests.shops.tables import Lines, Products

PIECE: Final = 2_000_000  # lines that are made at a time
ITEMS_PER_CATEGORY: Final = 20
MOST_CATEGORIES: Final = 1_500
SPREAD_OF_ACTIVITY: Final = 0.9  # deviation of the logarithm of a user's baskets
SPREAD_OF_BASKETS: Final = 0.8  # and of a basket's lines
LARGEST_BASKET: Final = 145
FAVOURITES: Final = 8  # categories of a user
REPERTOIRE: Final = 60  # items that a user buys again
HABIT: Final = 1.7  # a line asks for place REPERTOIRE × u^1.7, so for the first places most often
DISTINCT: Final = 0.86  # lines of a basket after second lines of an item are left out, by those drawn
REPEATED: Final = 0.1  # share of second lines of an item that stay in a basket
BEGIN: Final = 1_704_067_200  # 2024-01-01, in seconds since 1970
DAYS: Final = 366
OPENS_S: Final = 7 * 3600  # after midnight
OPEN_S: Final = 15 * 3600  # length of an opening day


@dataclass(frozen=True)
class Size:
    """How large a chain is."""

    lines: int  # wanted; the generated ones differ by a few percent
    users: int
    items: int
    lines_per_basket: float = 9.0  # before second lines of an item are left out


SIZES: Final = {
    "S1": Size(1_500_000, 2_500, 30_000),
    "S2": Size(10_000_000, 50_000, 50_000),
    "S3": Size(33_000_000, 206_000, 50_000),  # users and lines of the public Instacart data
    "S4": Size(100_000_000, 1_000_000, 100_000),
}


class Chain:
    """The tables of a chain of a ``size``; the same seed gives the same bytes."""

    def __init__(self, size: Size, seed: int):
        self._size, self._seed = size, seed
        rng = np.random.default_rng(seed)
        groups = max(1, min(MOST_CATEGORIES, size.items // ITEMS_PER_CATEGORY))
        self._assortment = Assortment(size.items, groups, rng)
        self._numbers: Numbers = rng.permutation(size.items)  # of the ranks, in the products table

    def products(self) -> Products:
        """All items, in the order of their numbers."""
        category = self._assortment.group[np.argsort(self._numbers)]
        levels = {"department": category % 23, "category": category % 150, "sub_category": category}
        return Products(np.arange(self._size.items), levels)

    def lines(self) -> Iterator[Lines]:
        """The receipt lines, user by user."""
        size = self._size
        step = max(1, min(size.users, round(PIECE * size.users / size.lines)))
        baskets = 0
        for piece, first in enumerate(range(0, size.users, step)):
            rng = np.random.default_rng([self._seed, piece])
            lines = self._lines_of(min(step, size.users - first), rng)
            yield Lines(
                lines.baskets + baskets, lines.users + first, lines.items, lines.times, lines.quantities
            )
            baskets += int(lines.baskets[-1]) + 1

    def _lines_of(self, users: int, rng: np.random.Generator) -> Lines:
        """The lines of so many users, with users and baskets numbered from 0."""
        favourites = self._assortment.draw_groups(users * FAVOURITES, rng).reshape(users, FAVOURITES)
        repertoire = self._draw_repertoires(favourites, rng)
        user = np.repeat(np.arange(users), self._draw_activity(users, rng))  # of each basket
        n = len(user)
        theme = favourites[user, rng.integers(FAVOURITES, size=n)]
        day = rng.integers(DAYS, size=n) * 86_400
        time = BEGIN + day + OPENS_S + (rng.beta(4, 3, n) * OPEN_S).astype(np.int64)
        sizes = _lognormal(self._size.lines_per_basket, SPREAD_OF_BASKETS, n, rng)
        basket = np.repeat(np.arange(n), np.minimum(sizes, LARGEST_BASKET))  # of each line
        item = self._draw_items(repertoire, user[basket], theme[basket], rng)
        kept = _is_first(basket, item, self._size.items) | (rng.random(len(item)) < REPEATED)
        basket, item = basket[kept], item[kept]
        quantity = np.where(rng.random(len(item)) < 0.9, 1, 2)
        return Lines(basket, user[basket], self._numbers[item], time[basket], quantity)

    def _draw_activity(self, users: int, rng: np.random.Generator) -> Numbers:
        """(users,) baskets of each user."""
        baskets = self._size.lines / (self._size.lines_per_basket * DISTINCT)
        return _lognormal(baskets / self._size.users, SPREAD_OF_ACTIVITY, users, rng)

    def _draw_repertoires(self, favourites: Numbers, rng: np.random.Generator) -> Numbers:
        """(users, favourites) categories → (users, REPERTOIRE) items: half of them favourites, half any."""
        users = len(favourites)
        chosen = favourites[np.arange(users)[:, None], rng.integers(FAVOURITES, size=(users, REPERTOIRE))]
        own = self._assortment.draw_within(chosen.ravel(), rng)
        any_item = self._assortment.draw(users * REPERTOIRE, rng)
        return np.where(rng.random(users * REPERTOIRE) < 0.5, any_item, own).reshape(users, REPERTOIRE)

    def _draw_items(
        self, repertoire: Numbers, user: Numbers, theme: Numbers, rng: np.random.Generator
    ) -> Numbers:
        """Return (lines,) ranks for the users and themes (lines,) of the lines' baskets."""
        kind = rng.random(len(user))
        usual, of_theme, other = kind < 0.5, (kind >= 0.5) & (kind < 0.75), kind >= 0.75
        item = np.empty(len(user), np.int64)
        place = (rng.random(usual.sum()) ** HABIT * REPERTOIRE).astype(np.int64)
        item[usual] = repertoire[user[usual], place]
        item[of_theme] = self._assortment.draw_within(theme[of_theme], rng)
        item[other] = self._assortment.draw(int(other.sum()), rng)
        return item


def _lognormal(mean: float, spread: float, n: int, rng: np.random.Generator) -> Numbers:
    """(n,) whole numbers from 1 with the ``mean``."""
    drawn: Numbers = np.round(rng.lognormal(np.log(mean) - spread**2 / 2, spread, n)).astype(np.int64)
    return np.maximum(drawn, 1)


def _is_first(basket: Numbers, item: Numbers, items: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Mark (lines,) the first line of each item of a basket."""
    first = np.zeros(len(item), bool)
    first[np.unique(basket * items + item, return_index=True)[1]] = True
    return first
