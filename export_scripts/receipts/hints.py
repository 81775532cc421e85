"""What is legal in a shop's tables and may still be a slip, of the data or of the settings."""

from export_scripts.receipts.assembly import ShopData, time_range
from export_scripts.receipts.tables import show

# Shares and lengths that no real shop at hand comes near.
MANY_UNLISTED = 0.1  # of the sold items
LONG_GAP_DAYS = 56
MANY_BASKETS, MANY_TIMES = 0.05, 5  # of all baskets, and of what a user has on average


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
