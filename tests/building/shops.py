"""A small invented shop as csv files, for every test that needs one; the same rng gives the same bytes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

DEPARTMENTS = ("bakery", "dairy", "fruit", "drinks", "household")
BRANDS = ("Alba", "Brisa", "Cima")
OPENING = pd.Timestamp("2024-01-01T08:00:00")


@dataclass(frozen=True)
class Shop:
    """The paths of the two tables; their columns are named as cesta expects them."""

    transactions: Path
    products: Path

    def overrides(self) -> dict[str, object]:
        """The paths as `load_settings(overrides=…)` takes them."""
        return {"data.transactions": self.transactions, "data.products": self.products}


def make_shop(
    folder: Path,
    rng: np.random.Generator,
    *,
    users: int = 30,
    items: int = 60,
    baskets: int = 400,
    days: int = 120,
) -> Shop:
    """Write transactions.csv and products.csv into `folder`.

    There is something to learn: users come back to six favourites each, and item 2i often goes with 2i + 1.
    One basket in ten has no user. Item ids have leading zeros: reading them as numbers would show.
    """
    folder.mkdir(parents=True, exist_ok=True)
    products = make_products(items)
    lines = make_lines(rng, users=users, items=items, baskets=baskets, days=days)
    products.to_csv(folder / "products.csv", index=False)
    lines.to_csv(folder / "transactions.csv", index=False)
    return Shop(folder / "transactions.csv", folder / "products.csv")


def make_products(items: int) -> pd.DataFrame:
    """item_id, name, department (few values), brand: (items,) rows."""
    number = np.arange(items)
    department = np.array(DEPARTMENTS)[number // 2 % len(DEPARTMENTS)]
    return pd.DataFrame(
        {
            "item_id": [f"{n:04d}" for n in number],
            "name": [f"{d} {n}" for n, d in zip(number, department, strict=True)],
            "department": department,
            "brand": np.array(BRANDS)[number % len(BRANDS)],
        }
    )


def make_lines(rng: np.random.Generator, *, users: int, items: int, baskets: int, days: int) -> pd.DataFrame:
    """Receipt lines in the order of time; a basket has 2 to 7 items."""
    favourites = np.array([rng.choice(items, size=6, replace=False) for _ in range(users)])
    user = rng.integers(users, size=baskets)
    minute = np.sort(rng.choice(days * 24 * 60, size=baskets, replace=False))
    rows = []
    for basket in range(baskets):
        chosen = rng.choice(favourites[user[basket]], size=rng.integers(1, 4), replace=False)
        partners = chosen[rng.random(len(chosen)) < 0.7] ^ 1  # 2i and 2i+1 go together
        other = rng.integers(items, size=1)
        bought = np.unique(np.concatenate([chosen, partners % items, other]))
        bought = bought if len(bought) > 1 else np.array([bought[0], (bought[0] + 1) % items])
        rows.append(
            pd.DataFrame(
                {
                    "user_id": f"u{user[basket]:03d}" if rng.random() < 0.9 else "",
                    "basket_id": f"b{basket:05d}",
                    "item_id": [f"{n:04d}" for n in bought],
                    "timestamp": (OPENING + pd.Timedelta(minutes=int(minute[basket]))).isoformat(),
                    "quantity": rng.integers(1, 4, size=len(bought)),
                }
            )
        )
    return pd.concat(rows, ignore_index=True)
