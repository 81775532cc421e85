"""Assembles lines and products into one shop: drops what is not a purchase and numbers the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple, NotRequired, TypedDict

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from export_scripts.receipts.catalog import build_catalog, guess_categories, not_merchandise, unused_rules
from export_scripts.receipts.database import Database
from export_scripts.receipts.files import write_baskets, write_interactions, write_shop, write_stores
from export_scripts.receipts.meta import Meta
from export_scripts.receipts.meta import Settings as MetaSettings
from export_scripts.receipts.problems import SHOWN_ROWS, BadInput, Problem, Problems
from export_scripts.receipts.stores import NumberedStores, number_stores
from export_scripts.receipts.tables import Cells
from export_scripts.receipts.transactions import Lines
from export_scripts.settings import Settings

RETURNED, NOTHING = "returned (quantity below 0)", "quantity 0"


Merged = Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]  # see `merged_lines`


@dataclass(frozen=True)
class ShopData:
    """The shop whose tables were written; a basket is its number."""

    catalog: pd.DataFrame
    users: pa.Array  # (users + 1,) ids, row 0 unknown
    user_rows: NDArray[np.int32]  # (baskets,)
    times: NDArray[np.int64]  # (baskets,)
    sizes: NDArray[np.int32]  # (baskets,) distinct items
    baskets_of_item: NDArray[np.int64]  # (items + 1,)
    meta: Meta
    unlisted: pd.Index[str]  # ids of sold items that the products table lacks
    last_basket: str
    largest_basket: str  # the first one of this size
    warnings: tuple[str, ...] = ()  # of the reading of the tables
    has_products: bool = False  # a products table was given
    unused_store: str = ""  # a column that looks like the receipts' store, and is not named as such
    stores: pd.DataFrame | None = None  # store_id and region by row


def check_no_products_needed(settings: Settings, source: str, problems: Problems) -> None:
    """Report settings that name columns of the products table if there is no such table."""
    columns_of = {
        "[etl.drop]": settings.etl.drop,
        "[data] name_columns": settings.data.name_columns,
        "[data] category_columns": settings.data.category_columns,
    }
    for setting in (setting for setting, columns in columns_of.items() if columns):
        what = f"{setting} names columns of the products table, but there is no products table"
        problems.add(Problem(source, what, f"give products, or leave {setting} out"))


class Written(NamedTuple):
    """The numbered baskets, as a relation and by number, and what the interactions say of them."""

    baskets: str
    users: pa.Array  # (users + 1,) ids, row 0 unknown
    user_rows: NDArray[np.int32]  # (baskets,)
    times: NDArray[np.int64]  # (baskets,)
    sizes: NDArray[np.int32]  # (baskets,) distinct items
    baskets_of_item: NDArray[np.int64]  # (items + 1,)
    store_rows: NDArray[np.int32] | None  # (baskets,); None if the receipts name no stores


def assemble(
    lines: Lines,
    products: pd.DataFrame,
    settings: Settings,
    sources: list[str],
    folder: Path,
    listed_stores: pd.DataFrame | None = None,
) -> ShopData:
    """Drop what is not a purchase of merchandise, number the rest and write the tables into `folder`.

    Raises BadInput if no pair is left.
    """
    drop, data, database = settings.etl.drop, settings.data, lines.table.database
    reason = not_merchandise(products, drop)
    items = sold_items(lines)
    why = why_dropped(items["item_id"], products["item_id"], reason, settings)
    dropped = count_causes(items, why)
    kept = ((why == "") & (items["kept"] > 0)).to_numpy()
    sold = pd.Index(items["item_id"][kept], dtype="str").sort_values()
    categories = list(data.category_columns) or guess_categories(products, data.name_columns)
    catalog = build_catalog(products[reason == ""], sold, categories)
    item_rows = pd.Index(catalog["item_id"]).get_indexer(items["item_id"][kept]).astype(np.int32)
    keys = database.add(pa.table({"item": items["item"].array[kept], "item_row": item_rows}))
    purchases = Purchases(lines, database.create("table", "items", f"select * from {keys}"), bool(dropped))
    stores = number_stores(database, lines.receipts, listed_stores) if lines.store else None
    written = write_lines(purchases, stores, len(catalog), folder)
    baskets, users, user_rows, times, sizes, baskets_of_item, store_rows = written
    lines_kept = int(items["kept"][kept].sum())
    check_any_pair(sizes, sources[0], lines_kept, lines.table.rows, dropped)
    write_baskets(
        database.batches(f"select key::varchar from {baskets} order by basket"),
        user_rows,
        times,
        sizes,
        folder,
        store_rows,
    )
    meta: Meta = {
        "sources": sources,
        "has_users": len(users) > 1,
        "has_time": lines.time is not None,
        "time_range": time_range(times) if lines.time else None,
        "category_columns": categories,
        "unused_drop_rules": unused_rules(products, drop),
        "counts": {
            "lines_read": lines.table.rows,
            "lines_kept": lines_kept,
            "dropped": dict(sorted(dropped.items())),
            **_rows(sizes, users, baskets_of_item, stores),
            "items_dropped": int((reason != "").sum()),
        },
        "settings": _noted(settings),
    }
    if stores:
        write_stores(stores.table, folder)
    write_shop(catalog, users, meta, folder)
    unlisted = sold.difference(pd.Index(products["item_id"]))
    last, largest = (basket_id(database, baskets, n) for n in (len(sizes) - 1, int(sizes.argmax())))
    shop = ShopData(catalog, users, user_rows, times, sizes, baskets_of_item, meta, unlisted, last, largest)
    return replace(shop, unused_store=lines.unused_store, stores=stores.table if stores else None)


class _Rows(TypedDict):
    interactions: int
    baskets: int
    users: int
    items: int
    items_sold: int
    stores: NotRequired[int]


def _rows(
    sizes: NDArray[np.int32],
    users: pa.Array,
    baskets_of_item: NDArray[np.int64],
    stores: NumberedStores | None,
) -> _Rows:
    """Count the rows of the tables, without the unknown ones."""
    rows: _Rows = {
        "interactions": int(sizes.sum()),
        "baskets": len(sizes),
        "users": len(users) - 1,
        "items": len(baskets_of_item) - 1,
        "items_sold": int(np.count_nonzero(baskets_of_item)),
    }
    if stores:
        rows["stores"] = stores.seen
    return rows


def _noted(settings: Settings) -> MetaSettings:
    """Without the paths of this machine, whose file names are in sources, its memory and its parts."""
    return {
        "data": settings.data.model_dump(mode="json", exclude={"transactions", "products", "stores"}),
        "etl": settings.etl.model_dump(mode="json", exclude={"memory", "spill", "parts"}),
    }


@dataclass(frozen=True)
class Purchases:
    """The lines of the sold items whose quantity is above 0."""

    lines: Lines
    items: str  # table: item, item_row
    any_dropped: bool  # else all lines are purchases

    def select(self, **cells: Cells) -> str:
        """Return SQL of these cells and of item_row, one row per purchase, with its position."""
        lines = self.lines
        asked = {**cells, "item": lines.item}
        positive = lines.quantity.positive
        if not positive:
            asked["amount"] = lines.quantity.cells
        sql = f"select * from ({lines.table.select(**asked)}) join {self.items} using (item)"
        return sql if positive else f"{sql} where amount > 0"


def sold_items(lines: Lines) -> pd.DataFrame:
    """Return item (as in the lines), item_id (str), and its lines: all, kept, returned, of nothing."""
    quantity = lines.quantity
    cells = {"item": lines.item} if quantity.positive else {"item": lines.item, "quantity": quantity.cells}
    below, zero = (
        ("0::bigint",) * 2
        if quantity.positive
        else (f"count(*) filter (quantity {test})" for test in ("< 0", "= 0"))
    )
    counts = f"count(*) as all_lines, {below} as returned, {zero} as nothing"
    sql = f"select item, {counts} from ({lines.table.select(**cells)}) group by item"
    table = lines.table.database.arrow(f"select *, item::varchar as item_id from ({sql})")
    found: pd.DataFrame = table.to_pandas()
    return found.assign(kept=found["all_lines"] - found["returned"] - found["nothing"])


def why_dropped(
    items: pd.Series[str], listed: pd.Series[str], reason: pd.Series[str], settings: Settings
) -> pd.Series[str]:
    """Return (items,) str: "" for merchandise, else the first cause to drop all lines of the item.

    `reason` (products,) says which of the `listed` items are not merchandise, "" for merchandise.
    """
    unlisted = "not in the products table" if settings.etl.unlisted == "drop" and len(listed) else ""
    by_item = pd.Series(reason.to_numpy(), index=listed, dtype="str").reindex(items)
    return by_item.fillna(unlisted).reset_index(drop=True)


def count_causes(items: pd.DataFrame, why: pd.Series[str]) -> dict[str, int]:
    """Return cause → dropped lines."""
    counts = items["all_lines"].groupby(why).sum().drop("", errors="ignore").to_dict()
    merchandise = items[why == ""]
    counts |= {RETURNED: merchandise["returned"].sum(), NOTHING: merchandise["nothing"].sum()}
    return {str(cause): int(count) for cause, count in counts.items() if count}


def check_any_pair(
    sizes: NDArray[np.int32], source: str, kept: int, read: int, dropped: Mapping[str, int]
) -> None:
    """Raise BadInput if no basket has two distinct items: there is nothing to learn from."""
    if (sizes < 2).all():
        remaining = f"{kept:,} of {read:,} lines are left after dropping"
        causes = sorted(dropped.items(), key=lambda cause: -cause[1])[:SHOWN_ROWS]
        remaining += f" ({'; '.join(f'{n:,}: {cause}' for cause, n in causes)})" if causes else ""
        way_out = (
            "check that basket_id names the receipt and not the line, "
            "and what [etl.drop], unlisted and returns remove"
        )
        raise BadInput([Problem(source, f"no basket holds two distinct items; {remaining}", way_out)])


def write_lines(purchases: Purchases, stores: NumberedStores | None, n_items: int, folder: Path) -> Written:
    """Number users and baskets, and write the merged lines of `n_items` items into `folder`."""
    database = purchases.lines.table.database
    with database.steps.step("numbering", database.done):
        users, baskets = number_baskets(purchases, stores)
    names = ["user_row", "time", *(["store_row"] if stores else [])]
    found = database.arrow(f"select {', '.join(names)} from {baskets} order by basket")
    user_rows, times, *store_rows = (found[name].to_numpy() for name in names)
    with database.steps.step("sorting", database.done):
        merged = merged_lines(purchases, baskets)
        merged = chain(list(islice(merged, 1)), merged)
    with database.steps.step("writing") as report:
        merged = _reported(merged, len(times), report)
        sizes, baskets_of_item = write_interactions(merged, user_rows, times, n_items, folder)
    return Written(baskets, users, user_rows, times, sizes, baskets_of_item, next(iter(store_rows), None))


def number_baskets(purchases: Purchases, stores: NumberedStores | None) -> tuple[pa.Array, str]:
    """Return the ids of the users, row 0 unknown, and a table of baskets: basket, key, user_row, time.

    Baskets are numbered in the order of their earliest purchase, then of the file. Without times, their
    number is their time. With `stores`, the table has the column store_row, too.
    """
    lines, database = purchases.lines, purchases.lines.table.database
    user = "first_user" if lines.user else "null::varchar"
    user += " as customer" + (", first_store::varchar as store" if stores else "")
    time = "first" if lines.time else "null::bigint"
    kept = f"(select basket as key, {user}, {time} as time, seen from {lines.receipts})"
    if purchases.any_dropped:
        cells = {"key": lines.basket} | ({"time": lines.time} if lines.time else {})
        time = "min(time)" if lines.time else "null::bigint"
        of_purchases = f"select key, {time} as time, min(position) as seen"
        of_purchases += f" from ({purchases.select(**cells)}) group by key"
        of_lines = f"(select basket as key, {user} from {lines.receipts})"
        kept = f"(select * from ({of_purchases}) join {of_lines} using (key))"
    users = database.create(
        "table",
        "users",
        "select customer, row_number() over (order by customer::varchar)::int as user_row"
        f" from (select distinct customer from {kept} where customer is not null)",
    )
    number = "row_number() over (order by time, seen) - 1"
    store_row = ", coalesce(store_row, 0)::int as store_row" if stores else ""
    join = f"left join {stores.rows} using (store)" if stores else ""
    baskets = database.create(
        "table",
        "baskets",
        f"select key, coalesce(user_row, 0)::int as user_row, {'time' if lines.time else number} as time,"
        f" {number} as basket{store_row} from {kept} left join {users} using (customer) {join}",
    )
    database.run(f"drop table {lines.receipts}")
    ids = database.arrow(f"select customer::varchar as user_id from {users} order by user_row")["user_id"]
    return pa.concat_arrays([pa.array([""], ids.type), *ids.chunks]), baskets


def merged_lines(purchases: Purchases, baskets: str) -> Merged:
    """Yield (pairs, quantities): basket << 32 | item row, ascending and distinct, and the sum of its lines.

    Sums of whole numbers are exact in any order; fractions are added in the order of the file.
    """
    lines, database = purchases.lines, purchases.lines.table.database
    quantity = lines.quantity
    asked = {"key": lines.basket, "quantity": quantity.cells}
    sql = f"select basket << 32 | item_row as pair, quantity from ({purchases.select(**asked)})"
    order = "pair" if quantity.whole else "pair, position"
    left: tuple[NDArray[np.int64], NDArray[np.float64]] = np.zeros(0, np.int64), np.zeros(0)
    for batch in database.batches(f"{sql} join {baskets} using (key) order by {order}"):
        pairs = np.concatenate([left[0], np.asarray(batch["pair"])])
        quantities = np.concatenate([left[1], np.asarray(batch["quantity"])], dtype=np.float64)
        starts = np.flatnonzero(np.append(True, pairs[1:] != pairs[:-1]))
        last = starts[-1]  # the next batch may go on with this pair
        if last:
            yield pairs[starts[:-1]], np.add.reduceat(quantities[:last], starts[:-1])
        left = pairs[last:], quantities[last:]
    if len(left[0]):
        yield left[0][:1], left[1].sum(keepdims=True)


def _reported(merged: Merged, baskets: int, report: Callable[[float], None]) -> Merged:
    for pairs, quantities in merged:
        report(float(pairs[0] >> 32) / baskets)
        yield pairs, quantities


def basket_id(database: Database, baskets: str, number: int) -> str:
    found = database.arrow(f"select key::varchar as id from {baskets} where basket = {number}")
    return str(found["id"][0].as_py())


def time_range(seconds: NDArray[np.int64]) -> list[str]:
    """Return the first and the last time in ISO 8601, UTC."""
    return [pd.Timestamp(time, unit="s").isoformat() + "Z" for time in (seconds.min(), seconds.max())]
