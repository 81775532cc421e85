"""The tables that etl leaves behind, loaded: what every later stage starts from."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from operations.errors import CestaError

DAY_S = 86_400
DAYS_A_YEAR = 364  # weeks stay whole


@dataclass(frozen=True)
class Shop:
    """A shop's receipts in rows.

    Baskets are numbered in time order. ``offsets`` (baskets + 1,) int64 and ``items`` int32 hold the distinct
    item rows of each basket; ``users`` int32 and ``times`` int64 are (baskets,). ``day`` is the length of a
    day in the unit of ``times``: 86,400 with time stamps, else the share of the baskets that a year's day is.
    """

    offsets: NDArray[np.int64]
    items: NDArray[np.int32]
    users: NDArray[np.int32]
    times: NDArray[np.int64]
    catalog: pd.DataFrame
    user_ids: list[str]
    category_columns: list[str]
    day: float
    fingerprint: str
    first: str  # time range in words: ISO dates, or basket ordinals
    last: str
    etl_settings: dict[str, Any] = field(default_factory=dict)  # [data] and [etl] as etl ran, without paths

    @property
    def n_items(self) -> int:
        """Rows of the catalog, the unknown item of row 0 included."""
        return len(self.catalog)

    @property
    def n_users(self) -> int:
        """Rows of the user table, the unknown user of row 0 included."""
        return len(self.user_ids)

    @property
    def n_baskets(self) -> int:
        return len(self.users)

    def basket(self, number: int) -> NDArray[np.int32]:
        """Item rows of one basket, ascending."""
        return self.items[self.offsets[number] : self.offsets[number + 1]]

    def first_basket_at(self, time: int) -> int:
        """Number of the first basket at or after ``time``."""
        return int(np.searchsorted(self.times, time))


def load_shop(folder: Path) -> Shop:
    """Read etl's tables from ``folder``. Raises CestaError if there are none."""
    if not (folder / "meta.json").exists():
        raise CestaError(f'no prepared data in {folder}; run "cesta etl" first')
    meta = json.loads((folder / "meta.json").read_text())
    interactions = pd.read_parquet(folder / "interactions.parquet", columns=["basket", "item_row"])
    baskets = pd.read_parquet(folder / "baskets.parquet")
    times = baskets["time"].to_numpy(np.int64)
    offsets = np.zeros(len(baskets) + 1, np.int64)
    np.cumsum(np.bincount(interactions["basket"], minlength=len(baskets)), out=offsets[1:])
    first, last = meta["time_range"] or (str(times[0]), str(times[-1]))
    span = max(int(times[-1] - times[0]), 1)
    return Shop(
        offsets=offsets,
        items=interactions["item_row"].to_numpy(np.int32),
        users=baskets["user_row"].to_numpy(np.int32),
        times=times,
        catalog=pd.read_parquet(folder / "catalog.parquet"),
        user_ids=pd.read_parquet(folder / "users.parquet")["user_id"].tolist(),
        category_columns=meta["category_columns"],
        day=float(DAY_S) if meta["has_time"] else span / DAYS_A_YEAR,
        fingerprint=meta["fingerprint"],
        etl_settings=meta["settings"],
        first=first,
        last=last,
    )
