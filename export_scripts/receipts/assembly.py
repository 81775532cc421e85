"""Lines and products become one shop: what is no purchase is dropped, what is left is numbered."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from export_scripts.receipts.catalog import build_catalog, guess_categories, not_merchandise, unused_rules
from export_scripts.receipts.problems import BadInput, Problem, Problems
from export_scripts.receipts.tables import SHOWN_ROWS
from export_scripts.receipts.transactions import known_users
from export_scripts.settings import Settings


@dataclass(frozen=True)
class ShopData:
    """The four tables of the stage; the module's `etl` describes them. `meta` is meta.json.

    `unlisted` are the ids of sold items that the products table lacks.
    """

    interactions: pd.DataFrame
    baskets: pd.DataFrame
    catalog: pd.DataFrame
    users: pd.DataFrame
    meta: dict[str, Any]
    unlisted: pd.Index


def check_no_products_needed(settings: Settings, source: str, problems: Problems) -> None:
    """Report settings that name columns of a products table when there is none."""
    named = {
        "[etl.drop]": settings.etl.drop,
        "[data] name_columns": settings.data.name_columns,
        "[data] category_columns": settings.data.category_columns,
    }
    for setting in (setting for setting, columns in named.items() if columns):
        what = f"{setting} names columns of the products table, and there is none"
        problems.add(Problem(source, what, f"give products, or leave {setting} out"))


def assemble(lines: pd.DataFrame, products: pd.DataFrame, settings: Settings, sources: list[str]) -> ShopData:
    """Drop what is no purchase of merchandise and number what is left. Raises BadInput when nothing is."""
    drop, data = settings.etl.drop, settings.data
    reason = not_merchandise(products, drop)
    why = why_dropped(lines, products["item_id"], reason, settings)
    kept = lines.assign(user_id=known_users(lines))[why == ""]
    check_any_pair(kept, sources[0], why)
    categories = list(data.category_columns) or guess_categories(products, data.name_columns)
    sold = unique_ids(kept["item_id"])
    catalog = build_catalog(products[reason == ""], sold, categories)
    users = pd.DataFrame({"user_id": ["", *unique_ids(kept["user_id"])]}, dtype="str")
    baskets, interactions = number_lines(kept, catalog, users)
    meta = {
        "sources": sources,
        "has_users": len(users) > 1,
        "has_time": "time" in lines,
        "time_range": time_range(baskets["time"]) if "time" in lines else None,
        "category_columns": categories,
        "unused_drop_rules": unused_rules(products, drop),
        "counts": {
            "lines_read": len(lines),
            "lines_kept": len(kept),
            "dropped": {str(k): int(n) for k, n in why[why != ""].value_counts().sort_index().items()},
            "interactions": len(interactions),
            "baskets": len(baskets),
            "users": len(users) - 1,
            "items": len(catalog) - 1,
            "items_sold": int(interactions["item_row"].nunique()),
            "items_dropped": int((reason != "").sum()),
        },
        "settings": {
            # Paths of the machine are nobody's business, the file names are in sources.
            "data": data.model_dump(mode="json", exclude={"transactions", "products"}),
            "etl": settings.etl.model_dump(mode="json"),
        },
    }
    return ShopData(interactions, baskets, catalog, users, meta, sold.difference(products["item_id"]))


def unique_ids(ids: pd.Series) -> pd.Index:
    """The ids that occur in a category column, without the missing one, in the order of their bytes."""
    return pd.Index(ids.cat.remove_unused_categories().cat.categories.astype("str")).sort_values()


def why_dropped(lines: pd.DataFrame, listed: pd.Series, reason: pd.Series, settings: Settings) -> pd.Series:
    """(lines,) str: "" for a line that is kept, else why not; a line counts for its first reason only."""
    items = lines["item_id"].cat.categories
    by_item = pd.Series(reason.to_numpy(), index=listed).reindex(items)
    unlisted = "not in the products table" if settings.etl.unlisted == "drop" and len(listed) else ""
    why = lines["item_id"].map(by_item.fillna(unlisted)).astype("str")
    why = why.mask((why == "") & (lines["quantity"] < 0), "returned (quantity below 0)")
    return why.mask((why == "") & (lines["quantity"] == 0), "quantity 0")


def check_any_pair(lines: pd.DataFrame, source: str, why: pd.Series) -> None:
    """Raise BadInput when no basket is left with two distinct items: there is nothing to learn from."""
    pairs = lines.groupby("basket_id", observed=True)["item_id"].nunique()
    if (pairs < 2).all():
        left = f"{len(lines):,} of {len(why):,} lines are left after dropping"
        dropped = [f"{n:,}: {cause}" for cause, n in why[why != ""].value_counts().items()]
        left += f" ({'; '.join(dropped[:SHOWN_ROWS])})" if dropped else ""
        way_out = (
            "is basket_id the receipt, and not the line? what do [etl.drop], unlisted and returns leave?"
        )
        raise BadInput([Problem(source, f"no basket holds two distinct items; {left}", way_out)])


def number_lines(
    lines: pd.DataFrame, catalog: pd.DataFrame, users: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Lines → (baskets, interactions): ids become rows, duplicates merge, quantities add up."""
    item_row = pd.Index(catalog["item_id"]).get_indexer(lines["item_id"].cat.categories)
    user_row = pd.Index(users["user_id"]).get_indexer(lines["user_id"].cat.categories)
    seen, basket_id = pd.factorize(lines["basket_id"])  # numbered by first appearance
    work = pd.DataFrame(
        {
            "seen": seen,
            "item_row": item_row[lines["item_id"].cat.codes].astype(np.int32),
            "user_row": np.append(user_row, 0)[lines["user_id"].cat.codes].astype(np.int32),  # code -1 → 0
            "time": (lines["time"] if "time" in lines else pd.Series(seen)).to_numpy(np.int64),
            "quantity": lines["quantity"].to_numpy(),
        }
    )
    baskets = work.groupby("seen").agg(
        user_row=("user_row", "first"), time=("time", "min"), size=("item_row", "nunique")
    )
    baskets.insert(0, "basket_id", basket_id.astype("str"))
    baskets = baskets.astype({"size": np.int32}).sort_values("time", kind="stable")
    ordinal = np.empty(len(baskets), dtype=np.int32)
    ordinal[baskets.index] = np.arange(len(baskets), dtype=np.int32)
    work["basket"] = ordinal[seen]
    merged = work.groupby(["basket", "item_row"], as_index=False)["quantity"].sum()
    of_basket = baskets.iloc[merged["basket"]]
    interactions = merged.assign(
        user_row=of_basket["user_row"].to_numpy(),
        time=of_basket["time"].to_numpy(),
        quantity=merged["quantity"].astype(np.float32),
    )[["user_row", "basket", "item_row", "time", "quantity"]]
    return baskets.reset_index(drop=True), interactions


def time_range(seconds: pd.Series) -> list[str]:
    """First and last time as ISO 8601 in UTC."""
    return [pd.Timestamp(t, unit="s").isoformat() + "Z" for t in (seconds.min(), seconds.max())]
