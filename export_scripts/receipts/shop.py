"""Loads the tables that etl wrote; every later stage starts from them."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from export_scripts.durations import step
from export_scripts.receipts import meta
from operations.errors import CestaError

DAY_S = 86_400
DAYS_A_YEAR = 364  # weeks stay whole


@dataclass(frozen=True)
class BasketStores:
    """The store of each basket; row 0 is the unknown one."""

    rows: NDArray[np.int32]  # (baskets,)
    ids: list[str]  # by row
    regions: NDArray[np.int32]  # (stores,) number of each row's region; 0: none

    def only(self, baskets: slice | NDArray[np.bool_]) -> "BasketStores":
        """Return the stores of these baskets; their rows stay as they are."""
        return replace(self, rows=self.rows[baskets])


@dataclass(frozen=True)
class Shop:
    """A shop's receipts as arrays; baskets are numbered in time order."""

    offsets: NDArray[np.int64]  # (baskets + 1,) into items
    items: NDArray[np.int32]  # distinct item rows, basket by basket
    users: NDArray[np.int32]  # (baskets,) user rows
    times: NDArray[np.int64]  # (baskets,) seconds since 1970, or ordinals without time stamps
    catalog: pd.DataFrame
    user_ids: list[str]
    category_columns: list[str]
    day: float  # length of a day in the unit of times: 86,400, or a 364th of the ordinals' range
    fingerprint: str
    first: str  # time range in words: ISO dates, or basket ordinals
    last: str
    etl_settings: meta.Settings = field(default_factory=dict)
    stores: BasketStores | None = None  # None if the receipts name no stores

    @property
    def n_items(self) -> int:
        """Rows of the catalog, including the unknown item in row 0."""
        return len(self.catalog)

    @property
    def n_users(self) -> int:
        """Rows of the user table, including the unknown user in row 0."""
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


@step("loading")
def load_shop(folder: Path) -> Shop:
    """Read etl's tables from ``folder``. Raises CestaError if there are none."""
    if not (folder / meta.FILE).exists():
        raise CestaError(f'no prepared data in {folder}; run "cesta etl" first')
    facts: meta.StoredMeta = json.loads((folder / meta.FILE).read_text())
    columns = ["user_row", "time", "size", *(["store_row"] if "stores" in facts["counts"] else [])]
    baskets = pq.read_table(folder / "baskets.parquet", columns=columns)
    times = baskets["time"].to_numpy()
    offsets = np.zeros(len(baskets) + 1, np.int64)
    np.cumsum(baskets["size"].to_numpy(), out=offsets[1:])
    first, last = facts["time_range"] or (str(times[0]), str(times[-1]))
    span = max(int(times[-1] - times[0]), 1)
    return Shop(
        offsets=offsets,
        items=_item_rows(folder / "interactions.parquet"),
        users=baskets["user_row"].to_numpy(),
        times=times,
        catalog=pd.read_parquet(folder / "catalog.parquet"),
        user_ids=pd.read_parquet(folder / "users.parquet")["user_id"].tolist(),
        category_columns=facts["category_columns"],
        day=float(DAY_S) if facts["has_time"] else span / DAYS_A_YEAR,
        fingerprint=facts["fingerprint"],
        etl_settings=facts["settings"],
        first=first,
        last=last,
        stores=_read_stores(folder, baskets["store_row"].to_numpy()) if len(columns) > 3 else None,
    )


def _read_stores(folder: Path, rows: NDArray[np.int32]) -> BasketStores:
    table = pd.read_parquet(folder / "stores.parquet")
    names = sorted(set(table["region"]) - {""})
    number = {name: i + 1 for i, name in enumerate(names)} | {"": 0}
    return BasketStores(rows, table["store_id"].tolist(), table["region"].map(number).to_numpy(np.int32))


def _item_rows(path: Path) -> NDArray[np.int32]:
    """Read one column of a large file into one array, a row group at a time."""
    with pq.ParquetFile(path) as file:
        rows, end = np.empty(file.metadata.num_rows, np.int32), 0
        for group in range(file.num_row_groups):
            part = file.read_row_group(group, columns=["item_row"])["item_row"].to_numpy()
            rows[end : end + len(part)] = part
            end += len(part)
    return rows
