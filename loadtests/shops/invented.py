"""Small shops of other kinds than a grocery with regular customers, for docs/quality.md.

Each line of a basket is one of four: an item that the user often buys, an item of the same set as the first
of the basket, an item of the month, or any item.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from loadtests.shops.assortment import Assortment, Numbers
from loadtests.shops.tables import UNKNOWN, Lines, Products

SET: Final = 5  # items that go together
OFTEN: Final = 12  # items that a user often buys
MONTH_S: Final = 30 * 86_400
BEGIN: Final = 1_704_067_200  # 2024-01-01, in seconds since 1970
MOST_NUMBERS: Final = 10  # times that an item may get a new number


@dataclass(frozen=True)
class Habits:
    """A small shop, and how its customers choose. The shares of lines leave the rest to any item."""

    baskets: int
    users: int  # 0: nobody is known
    items: int
    categories: int  # 0: the products table names none
    lines_per_basket: float = 5.0
    often: float = 0.0  # share of lines
    together: float = 0.3  # share of lines
    of_month: float = 0.0  # share of lines
    renewed_days: int = 0  # an item gets a new number after so many days; 0: never
    days: int = 365


SHOPS: Final = {
    "gift-shop": Habits(20_000, 6_000, 3_000, 0, together=0.35, of_month=0.4),
    "grocery-few-repeats": Habits(12_000, 1_500, 2_000, 60, often=0.2, together=0.35),
    "grocery-without-users": Habits(9_800, 0, 800, 40, together=0.5),
    "one-category": Habits(3_000, 200, 300, 1, often=0.5, together=0.2),
    "tiny": Habits(200, 15, 40, 5, often=0.5, together=0.2),
    "single-user": Habits(400, 1, 120, 10, often=0.4),
    "new-numbers": Habits(12_000, 400, 600, 30, often=0.4, renewed_days=200),
}


def make_tables(habits: Habits, seed: int) -> tuple[Lines, Products]:
    """Return all lines in the order of time, and the products. The same seed gives the same tables."""
    rng = np.random.default_rng(seed)
    months = Assortment(habits.items, 12, rng)
    sets = Assortment(habits.items, max(1, habits.items // SET), rng)
    n = habits.baskets
    time = BEGIN + np.sort(rng.integers(habits.days * 86_400, size=n))  # of each basket
    user = rng.integers(habits.users, size=n) if habits.users else np.full(n, UNKNOWN)
    size = np.maximum(rng.poisson(habits.lines_per_basket - 1, n) + 1, 2)
    basket = np.repeat(np.arange(n), size)  # of each line
    first = np.repeat(np.cumsum(size) - size, size)  # the line that begins the basket
    kind = rng.choice(4, len(basket), p=_shares(habits))
    item = months.draw(len(basket), rng)
    if habits.users:
        own = months.draw(habits.users * OFTEN, rng).reshape(habits.users, OFTEN)
        item = np.where(kind == 0, own[user[basket], rng.integers(OFTEN, size=len(basket))], item)
    month = (time[basket] - BEGIN) // MONTH_S % 12
    item = np.where(kind == 2, months.draw_within(month, rng), item)
    item = np.where(kind == 1, sets.draw_within(sets.group[item[first]], rng), item)
    kept = np.sort(np.unique(basket * habits.items + item, return_index=True)[1])
    basket, item = basket[kept], item[kept]
    category = rng.integers(max(habits.categories, 1), size=habits.items)
    number = _renew(item, time[basket], habits, rng)
    listed = np.arange(habits.items * (MOST_NUMBERS if habits.renewed_days else 1))
    levels = {"category": category[listed % habits.items]} if habits.categories else {}
    lines = Lines(basket, user[basket], number, time[basket], np.ones(len(basket), np.int64))
    return lines, Products(listed, levels)


def _shares(habits: Habits) -> list[float]:
    chosen = [habits.often, habits.together, habits.of_month]
    return [*chosen, 1 - sum(chosen)]


def _renew(item: Numbers, time: Numbers, habits: Habits, rng: np.random.Generator) -> Numbers:
    """Return the number of each line's item at its time: each item changes on days of its own."""
    if not habits.renewed_days:
        return item
    shift = rng.integers(habits.renewed_days, size=habits.items)
    times_renewed = ((time - BEGIN) // 86_400 + shift[item]) // habits.renewed_days
    return item + habits.items * times_renewed
