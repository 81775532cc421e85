"""The first stage: a shop's tables in, interactions and catalog out.

python -m export_scripts.etl --out artifacts [--transactions sales.csv --products items.csv …]
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
import structlog
from rich.console import Console

from export_scripts import complete_journey
from export_scripts.atomic import staged_folder
from export_scripts.catalog import (
    build_catalog,
    guess_categories,
    not_merchandise,
    read_products,
    unused_rules,
)
from export_scripts.errors import BadInput, Problem, Problems
from export_scripts.settings import Settings
from export_scripts.tables import SHOWN_ROWS, read_table, show
from export_scripts.transactions import known_users, read_lines

FOLDER = "data"  # below the run's folder
MARKER = "meta.json"

# Hints: shares and lengths that no real shop at hand comes near.
MANY_UNLISTED = 0.1  # of the sold items
LONG_GAP_DAYS = 56
MANY_BASKETS, MANY_TIMES = 0.05, 5  # of all baskets, and of what a user has on average


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


def etl(settings: Settings, out_dir: Path) -> Path:
    """Read the shop that `settings` name and write `out_dir`/data; returns that folder.

    interactions.parquet  user_row int32 (0 unknown), basket int32, item_row int32 (1 and up), time int64,
                          quantity float32; one row per basket and item, sorted by both; time is seconds
                          since 1970 UTC, or the basket's ordinal where the shop gives no time
    baskets.parquet       row = basket, in the order of time and then of the file: basket_id str,
                          user_row int32, time int64 (of its earliest line), size int32 (distinct items)
    catalog.parquet       row = item_row, row 0 unknown: item_id, name, category columns, broad to fine; str
    users.parquet         row = user_row, row 0 unknown: user_id str
    meta.json             fingerprint, time range, counts, dropped lines by reason, what the shop has

    The same input writes the same bytes. Raises BadInput with every problem found, and WontOverwrite when
    `out_dir`/data is somebody else's; either way nothing is left behind.
    """
    target = Path(out_dir) / FOLDER
    with Console(stderr=True).status("reading the shop's tables") as status:
        shop = read_shop(settings)
        status.update("writing")
        with staged_folder(target, marker=MARKER) as folder:
            write_shop(shop, folder)
    log = structlog.get_logger()
    for hint in hints(shop, settings.sampler.largest_basket):
        log.warning(hint)
    log.info("etl", folder=str(target), **shop.meta)
    return target


def read_shop(settings: Settings) -> ShopData:
    """Everything of the stage but the writing. Raises BadInput with the problems of both tables."""
    data, problems = settings.data, Problems()
    if data.transactions:
        sources = [path for path in (data.transactions, data.products) if path]
    else:
        sources = list(complete_journey.tables())
    tables = [read_table(path, problems) for path in sources]
    lines = read_lines(tables[0], data, settings.etl, problems) if tables[0] else pd.DataFrame()
    products = pd.DataFrame({"item_id": [], "name": []}, dtype="str")
    if len(sources) == 1:
        check_no_products_needed(settings, sources[0].name, problems)
    elif tables[1]:
        products = read_products(tables[1], data, settings.etl.drop, problems)
    problems.raise_if_any()
    return assemble(lines, products, settings, [path.name for path in sources])


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


def hints(shop: ShopData, largest_basket: int) -> list[str]:
    """What is legal and may still be a slip, of the data or of the settings."""
    meta, found = shop.meta, []
    if not meta["has_time"]:
        found.append("no timestamp column ([data.columns] timestamp): baskets keep the order of the file")
    if not meta["has_users"]:
        found.append("no known user ([data.columns] user_id): recommendations will see the basket only")
    if meta["unused_drop_rules"]:
        found.append(f"[etl.drop] matches no product: {', '.join(meta['unused_drop_rules'])}")
    if len(meta["sources"]) > 1:
        found += _about_products(shop)
    return found + _about_baskets(shop, largest_basket)


def _about_products(shop: ShopData) -> list[str]:
    found, sold = [], shop.meta["counts"]["items_sold"]
    if len(shop.unlisted) > MANY_UNLISTED * sold:
        missing = f"{len(shop.unlisted):,} of {sold:,} sold items are not in the products table"
        found.append(f"{missing}, e.g. {show(shop.unlisted[0])}: do both tables write ids alike?")
    if not shop.meta["category_columns"]:
        found.append("no column of the products looks like categories: name them in [data] category_columns")
    return found


def _about_baskets(shop: ShopData, largest_basket: int) -> list[str]:
    """One date, one user, one item or one basket that stands apart: often a placeholder."""
    found, baskets, n = [], shop.baskets, len(shop.baskets)
    days = baskets["time"].diff() / 86_400
    if shop.meta["has_time"] and days.max() > LONG_GAP_DAYS:
        after = int(days.argmax())
        first, last = time_range(baskets["time"].iloc[after - 1 : after + 1])
        found.append(
            f"no basket between {first} and {last}: are the dates of the {n - after:,} from then on right? "
            "[splits] counts back from the last"
        )
    users = baskets.loc[baskets["user_row"] > 0, "user_row"].value_counts()
    if (
        len(users)
        and users.iloc[0] > MANY_BASKETS * n
        and (len(users) == 1 or users.iloc[0] > MANY_TIMES * users.mean())
    ):
        name = show(shop.users["user_id"].iloc[users.index[0]])
        found.append(
            f"user {name} has {users.iloc[0]:,} of {n:,} baskets: if that is nobody, add it to [data] missing"
        )
    items = shop.interactions["item_row"].value_counts()
    if items.iloc[0] > n / 2:
        name = show(shop.catalog["item_id"].iloc[items.index[0]])
        share = f"item {name} is in {items.iloc[0]:,} of {n:,} baskets"
        found.append(f"{share}: if it is a bag or a deposit, remove its lines or name it in [etl.drop]")
    if baskets["size"].max() > largest_basket:
        name = show(baskets["basket_id"].iloc[baskets["size"].argmax()])
        size = f"basket {name} holds {baskets['size'].max():,} items"
        found.append(f"{size}: is it one receipt? Its pairs are not counted (sampler.largest_basket)")
    return found


def write_shop(shop: ShopData, folder: Path) -> None:
    """Write the four tables and meta.json; pandas' own metadata is left out, it would name versions."""
    names = ("interactions", "baskets", "catalog", "users")
    tables = {name: pa.Table.from_pandas(getattr(shop, name), preserve_index=False) for name in names}
    for name, table in tables.items():
        plain = table.replace_schema_metadata(None)
        pa.parquet.write_table(plain, folder / f"{name}.parquet", compression="zstd")
    meta = {"fingerprint": fingerprint(tables), **shop.meta}
    (folder / MARKER).write_text(json.dumps(meta, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def fingerprint(tables: Mapping[str, pa.Table]) -> str:
    """SHA-256 over names, types and values, so that parquet versions and compression do not matter."""
    digest = hashlib.sha256()
    for name, table in tables.items():
        for column in table.column_names:
            values = table.column(column).combine_chunks()
            is_text = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
            digest.update(f"{name}.{column}:{'text' if is_text else values.type}:{len(values)}\n".encode())
            if is_text:
                digest.update(np.asarray(pc.binary_length(values)).astype("<i8").tobytes())
                digest.update("".join(values.to_pylist()).encode())
            else:
                digest.update(np.ascontiguousarray(values.to_numpy()).tobytes())
    return digest.hexdigest()


if __name__ == "__main__":
    from export_scripts.cli import main

    main("etl")
