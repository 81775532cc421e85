"""Finds what is allowed in a shop's tables but may be a mistake, in the data or in the settings."""

import re
import unicodedata

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
    if meta["unused_drop_rules"]:
        hints.append(f"[etl.drop] matches no product: {', '.join(meta['unused_drop_rules'])}")
    if len(meta["sources"]) > 1:
        hints += _about_products(shop)
    return (
        hints
        + _about_future(shop)
        + _about_time(shop)
        + _about_users(shop)
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
    ahead = int((shop.baskets["time"] > now_at_the_latest()).sum())
    if not ahead:
        return []
    last = shop.baskets.iloc[-1]
    count = f"{ahead:,} of {len(shop.baskets):,} baskets are in the future"
    when = time_range(shop.baskets["time"].iloc[-1:])[0]
    return [f"{count}, the last receipt is {show(last['basket_id'])} of {when}: are the dates right?"]


def _about_time(shop: ShopData) -> list[str]:
    """A long gap before the last baskets: their dates are often wrong."""
    times = shop.baskets["time"]
    days = times.diff() / DAY_S
    if not shop.meta["has_time"] or not days.max() > LONG_GAP_DAYS:  # the maximum of one basket is NaN
        return []
    after = int(days.argmax())
    first, last = time_range(times.iloc[after - 1 : after + 1])
    return [
        f"no basket between {first} and {last}: are the dates of the later {len(times) - after:,} baskets "
        "right? [splits] counts back from the last one"
    ]


def _about_users(shop: ShopData) -> list[str]:
    """One user with most of the baskets: often a placeholder for unknown users."""
    rows, baskets = shop.baskets["user_row"], len(shop.baskets)
    counts = rows[rows > 0].value_counts()
    if not len(counts) or counts.iloc[0] <= MANY_BASKETS * baskets:
        return []
    if len(counts) > 1 and counts.iloc[0] <= MANY_TIMES * counts.mean():
        return []
    name = show(shop.users["user_id"].iloc[counts.index[0]])
    share = f"user {name} has {counts.iloc[0]:,} of {baskets:,} baskets"
    return [f"{share}: if it stands for unknown customers, add it to [data] missing"]


def _about_items(shop: ShopData, largest_basket: int) -> list[str]:
    """One item in most baskets is often a bag; one very large basket is often not one receipt."""
    hints, baskets = [], shop.baskets
    counts = shop.interactions["item_row"].value_counts()
    if counts.iloc[0] > len(baskets) / 2:
        name = show(shop.catalog["item_id"].iloc[counts.index[0]])
        share = f"item {name} is in {counts.iloc[0]:,} of {len(baskets):,} baskets"
        hints.append(f"{share}: if it is a bag or a deposit, remove its lines or name it in [etl.drop]")
    if baskets["size"].max() > largest_basket:
        name = show(baskets["basket_id"].iloc[baskets["size"].argmax()])
        size = f"basket {name} holds {baskets['size'].max():,} items"
        hints.append(f"{size}: is it one receipt? Its pairs are not counted (sampler.largest_basket)")
    return hints
