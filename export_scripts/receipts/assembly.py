"""Assembles lines and products into one shop: drops what is not a purchase and numbers the rest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from export_scripts.receipts.catalog import build_catalog, guess_categories, not_merchandise, unused_rules
from export_scripts.receipts.meta import Meta
from export_scripts.receipts.problems import SHOWN_ROWS, BadInput, Problem, Problems
from export_scripts.receipts.transactions import spread_users
from export_scripts.settings import Settings


@dataclass(frozen=True)
class ShopData:
    """The four tables that etl writes (`export_scripts.etl.etl` describes them), and facts about the shop."""

    interactions: pd.DataFrame
    baskets: pd.DataFrame
    catalog: pd.DataFrame
    users: pd.DataFrame
    meta: Meta
    unlisted: pd.Index[str]  # ids of sold items that the products table lacks
    warnings: tuple[str, ...] = ()  # of the reading of the tables


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


def assemble(lines: pd.DataFrame, products: pd.DataFrame, settings: Settings, sources: list[str]) -> ShopData:
    """Drop what is not a purchase of merchandise and number the rest. Raises BadInput if no pair is left."""
    drop, data = settings.etl.drop, settings.data
    reason = not_merchandise(products, drop)
    why = why_dropped(lines, products["item_id"], reason, settings)
    purchases = lines.assign(user_id=spread_users(lines))[why == ""]
    check_any_pair(purchases, sources[0], why)
    categories = list(data.category_columns) or guess_categories(products, data.name_columns)
    sold = unique_ids(purchases["item_id"])
    catalog = build_catalog(products[reason == ""], sold, categories)
    users = pd.DataFrame({"user_id": ["", *unique_ids(purchases["user_id"])]}, dtype="str")
    baskets, interactions = number_lines(purchases, catalog, users)
    meta: Meta = {
        "sources": sources,
        "has_users": len(users) > 1,
        "has_time": "time" in lines,
        "time_range": time_range(baskets["time"]) if "time" in lines else None,
        "category_columns": categories,
        "unused_drop_rules": unused_rules(products, drop),
        "counts": {
            "lines_read": len(lines),
            "lines_kept": len(purchases),
            "dropped": {str(cause): n for cause, n in count_causes(why).sort_index().items()},
            "interactions": len(interactions),
            "baskets": len(baskets),
            "users": len(users) - 1,
            "items": len(catalog) - 1,
            "items_sold": int(interactions["item_row"].nunique()),
            "items_dropped": int((reason != "").sum()),
        },
        "settings": {
            # Without the paths of this machine; the file names are in sources.
            "data": data.model_dump(mode="json", exclude={"transactions", "products"}),
            "etl": settings.etl.model_dump(mode="json"),
        },
    }
    unlisted = sold.difference(pd.Index(products["item_id"]))
    return ShopData(interactions, baskets, catalog, users, meta, unlisted)


def unique_ids(ids: pd.Series[pd.CategoricalDtype[str]]) -> pd.Index[str]:
    """Return the ids that occur in a category column, sorted by their bytes, without missing values."""
    occurring: pd.Index[str] = ids.cat.remove_unused_categories().cat.categories.astype("str")
    return occurring.sort_values()


def why_dropped(
    lines: pd.DataFrame, listed: pd.Series[str], reason: pd.Series[str], settings: Settings
) -> pd.Series[str]:
    """Return (lines,) str: "" for a purchase, else the first cause to drop the line.

    `reason` (products,) says which of the `listed` items are not merchandise, "" for merchandise.
    """
    items = lines["item_id"].cat.categories
    by_item = pd.Series(reason.to_numpy(), index=listed).reindex(items)
    unlisted = "not in the products table" if settings.etl.unlisted == "drop" and len(listed) else ""
    why = lines["item_id"].map(by_item.fillna(unlisted)).astype("str")
    why = why.mask((why == "") & (lines["quantity"] < 0), "returned (quantity below 0)")
    return why.mask((why == "") & (lines["quantity"] == 0), "quantity 0")


def count_causes(why: pd.Series[str]) -> pd.Series[int]:
    """Return cause → dropped lines, most frequent first."""
    return why[why != ""].value_counts()


def check_any_pair(lines: pd.DataFrame, source: str, why: pd.Series[str]) -> None:
    """Raise BadInput if no basket has two distinct items: there is nothing to learn from."""
    distinct_items = lines.groupby("basket_id", observed=True)["item_id"].nunique()
    if (distinct_items < 2).all():
        remaining = f"{len(lines):,} of {len(why):,} lines are left after dropping"
        dropped = [f"{n:,}: {cause}" for cause, n in count_causes(why).items()]
        remaining += f" ({'; '.join(dropped[:SHOWN_ROWS])})" if dropped else ""
        way_out = (
            "check that basket_id names the receipt and not the line, "
            "and what [etl.drop], unlisted and returns remove"
        )
        raise BadInput([Problem(source, f"no basket holds two distinct items; {remaining}", way_out)])


def number_lines(
    lines: pd.DataFrame, catalog: pd.DataFrame, users: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Turn lines into (baskets, interactions): ids become rows, duplicates merge, quantities add up."""
    item_row = pd.Index(catalog["item_id"]).get_indexer(lines["item_id"].cat.categories)
    user_row = pd.Index(users["user_id"]).get_indexer(lines["user_id"].cat.categories)
    appearance, basket_id = pd.factorize(lines["basket_id"])  # baskets numbered by first appearance
    work = pd.DataFrame(
        {
            "appearance": appearance,
            "item_row": item_row[lines["item_id"].cat.codes].astype(np.int32),
            "user_row": np.append(user_row, 0)[lines["user_id"].cat.codes].astype(np.int32),  # code -1 → 0
            "time": (lines["time"] if "time" in lines else pd.Series(appearance)).to_numpy(np.int64),
            "quantity": lines["quantity"].to_numpy(),
        }
    )
    baskets = work.groupby("appearance").agg(
        user_row=("user_row", "first"), time=("time", "min"), size=("item_row", "nunique")
    )
    baskets.insert(0, "basket_id", basket_id.astype("str"))
    baskets = baskets.astype({"size": np.int32}).sort_values("time", kind="stable")
    ordinal = np.empty(len(baskets), dtype=np.int32)
    ordinal[baskets.index] = np.arange(len(baskets), dtype=np.int32)
    work["basket"] = ordinal[appearance]
    merged = work.groupby(["basket", "item_row"], as_index=False)["quantity"].sum()
    of_basket = baskets.iloc[merged["basket"]]
    interactions = merged.assign(
        user_row=of_basket["user_row"].to_numpy(),
        time=of_basket["time"].to_numpy(),
        quantity=merged["quantity"].astype(np.float32),
    )[["user_row", "basket", "item_row", "time", "quantity"]]
    return baskets.reset_index(drop=True), interactions


def time_range(seconds: pd.Series[int]) -> list[str]:
    """Return the first and the last time in ISO 8601, UTC."""
    return [pd.Timestamp(time, unit="s").isoformat() + "Z" for time in (seconds.min(), seconds.max())]
