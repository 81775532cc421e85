"""Finds what is allowed in a shop's tables but may be a mistake, in the data or in the settings."""

import re
import unicodedata

import numpy as np
import pandas as pd

from export_scripts.receipts.assembly import ShopData, time_range
from export_scripts.receipts.problems import show
from export_scripts.receipts.times.calendar import now_at_the_latest

# No shop that cesta was tried on comes near these limits.
MANY_UNLISTED = 0.1  # of the sold items
LONG_GAP_DAYS = 56
MANY_BASKETS = 0.05  # of all baskets, for one user
MANY_TIMES = 5  # times as many baskets as the average user
DAY_S = 86_400


def find_hints(shop: ShopData, largest_basket: int) -> list[str]:
    """Return one sentence for each possible mistake."""
    meta, hints = shop.meta, []
    if not meta["has_time"]:
        hints.append("no timestamp column ([data.columns] timestamp): baskets keep the order of the file")
    if not meta["has_users"]:
        hints.append("no known user ([data.columns] user_id): recommendations will use the basket only")
    if shop.unused_store:
        looks = f"no store is read, but column {show(shop.unused_store)} looks like that of a receipt"
        hints.append(f'{looks}: if it is, set [data.columns] store_id = "{shop.unused_store}"')
    if meta["unused_drop_rules"]:
        hints.append(f"[etl.drop] matches no product: {', '.join(meta['unused_drop_rules'])}")
    if shop.has_products:
        hints += _about_products(shop)
    return (
        hints
        + _about_future(shop)
        + _about_time(shop)
        + _about_users(shop)
        + _about_stores(shop)
        + _about_items(shop, largest_basket)
    )


def _about_products(shop: ShopData) -> list[str]:
    hints, sold = [], shop.meta["counts"]["items_sold"]
    spelling = _other_spelling(shop)
    if len(shop.unlisted) > MANY_UNLISTED * sold or spelling:
        missing = f"{len(shop.unlisted):,} of {sold:,} sold items are not in the products table"
        hints.append(f"{missing}, e.g. {spelling or show(shop.unlisted[0])}: do both tables write ids alike?")
    if not shop.meta["category_columns"]:
        hints.append("no column of the products looks like categories: name them in [data] category_columns")
    return hints


def _other_spelling(shop: ShopData) -> str:
    """Return a sold item that is listed in another spelling: a program read one of the tables as numbers."""
    listed = pd.Index(shop.catalog["item_id"].iloc[1:]).difference(shop.unlisted)
    by_number = {_number(item): item for item in listed} if len(shop.unlisted) else {}
    for item in shop.unlisted:
        if other := by_number.get(_number(item)):
            return f"{show(item)}, which is listed as {show(other)}"
    return ""


def _number(item: str) -> str:
    """Return what remains of an id that was read as a number, without capitals and in one Unicode form."""
    return unicodedata.normalize("NFC", re.sub(r"\.0+$", "", item).lstrip("0")).casefold()


def _about_future(shop: ShopData) -> list[str]:
    """Baskets in the future: a till's clock or the order of the digits is wrong."""
    if not shop.meta["has_time"]:
        return []
    ahead = int((shop.times > now_at_the_latest()).sum())
    if not ahead:
        return []
    count = f"{ahead:,} of {len(shop.times):,} baskets are in the future"
    when = time_range(shop.times[-1:])[0]
    return [f"{count}, the last receipt is {show(shop.last_basket)} of {when}: are the dates right?"]


def _about_time(shop: ShopData) -> list[str]:
    """A long gap before the last baskets: their dates are often wrong."""
    times = shop.times
    days = np.diff(times) / DAY_S
    if not shop.meta["has_time"] or not len(days) or days.max() <= LONG_GAP_DAYS:
        return []
    after = int(days.argmax()) + 1
    first, last = time_range(times[after - 1 : after + 1])
    return [
        f"no basket between {first} and {last}: are the dates of the later {len(times) - after:,} baskets "
        "right? [splits] counts back from the last one"
    ]


def _about_users(shop: ShopData) -> list[str]:
    """One user with most of the baskets: often a placeholder for unknown users."""
    baskets = len(shop.user_rows)
    counts = np.bincount(shop.user_rows, minlength=2)[1:]
    most = int(counts.max())
    if most <= MANY_BASKETS * baskets:
        return []
    if len(counts) > 1 and most <= MANY_TIMES * counts.mean():
        return []
    name = show(shop.users[int(counts.argmax()) + 1].as_py())
    share = f"user {name} has {most:,} of {baskets:,} baskets"
    return [f"{share}: if it stands for unknown customers, add it to [data] missing"]


def _about_stores(shop: ShopData) -> list[str]:
    """Stores without a region, where the table of stores gives regions to others."""
    if shop.stores is None:
        return []
    regions = shop.stores["region"].iloc[1:]
    without = shop.stores["store_id"].iloc[1:][regions == ""]
    if not len(without) or len(without) == len(regions):
        return []
    count = f"{len(without):,} of {len(regions):,} stores have no region, e.g. {show(without.iloc[0])}"
    return [f"{count}: is the table of stores complete, and do both tables write ids alike?"]


def _about_items(shop: ShopData, largest_basket: int) -> list[str]:
    """One item in most baskets is often a bag; one very large basket is often not one receipt."""
    hints, baskets = [], len(shop.sizes)
    item = int(shop.baskets_of_item.argmax())
    most = int(shop.baskets_of_item[item])
    if most > baskets / 2:
        share = f"item {show(shop.catalog['item_id'].iloc[item])} is in {most:,} of {baskets:,} baskets"
        hints.append(f"{share}: if it is a bag or a deposit, remove its lines or name it in [etl.drop]")
    if shop.sizes.max() > largest_basket:
        size = f"basket {show(shop.largest_basket)} holds {shop.sizes.max():,} items"
        hints.append(f"{size}: is it one receipt? Its pairs are not counted (sampler.largest_basket)")
    return hints
