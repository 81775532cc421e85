"""A new assortment: a share of the items is sold under new ids, which the products then list, too.

python -m loadtests.shops.new_items artifacts/flows --share 0.1

Rewrites the newest week of `loadtests.shops.weeks`, and writes FOLDER/products.parquet. `loadtests.drifting
new-assortment` asks for the same items under the same new ids.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from zlib import crc32

import duckdb

from export_scripts.complete_journey import tables
from loadtests.shops.weeks import RECEIPTS

PRODUCTS: Final = "products.parquet"
_PREFIX: Final = "99"  # a new id is a number if the old one was, and longer than any other


def is_replaced(item: str, share: float) -> bool:
    """Tell whether the item is one of this share of all; the same ones each time."""
    return crc32(item.encode()) < share * 2**32


def replacement(item: str) -> str:
    """The id of the item that is sold in its place."""
    return f"{_PREFIX}{item:0>8}"


def replace_items(folder: Path, share: float) -> Path:
    """Sell this share of the items under new ids in the newest week; its file."""
    newest, products = max((folder / RECEIPTS).glob("week-*.parquet")), tables()[1]
    with duckdb.connect() as database:
        ids = database.sql(f"SELECT DISTINCT product_id FROM '{products}'").fetchall()
        old = [item for (item,) in ids if is_replaced(str(item), share)]
        new = [int(replacement(str(item))) for item in old]
        database.execute("CREATE TABLE pairs AS SELECT unnest(?) AS product_id, unnest(?) AS new", [old, new])
        renamed = (
            "SELECT sold.* REPLACE (coalesce(new, product_id) AS product_id) "
            "FROM '{}' AS sold {} pairs USING (product_id)"
        )
        _write(database, renamed.format(newest, "LEFT JOIN"), newest)
        listed = f"SELECT * FROM '{products}' UNION ALL {renamed.format(products, 'JOIN')}"
        _write(database, listed, folder / PRODUCTS)
    return newest


def _write(database: duckdb.DuckDBPyConnection, query: str, target: Path) -> None:
    """Replace a file by the result of a query. Its hidden name is passed over by etl until it is whole."""
    part = target.with_name(f".{target.name}")
    database.execute(f"COPY ({query} ORDER BY ALL) TO '{part}' (FORMAT parquet)")
    part.replace(target)


def main(arguments: Sequence[str] | None = None) -> None:
    """Replace items, and print the two files."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.shops.new_items",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--share", type=float, default=0.1, help="of the items")
    given = parser.parse_args(arguments)
    print(replace_items(given.folder, given.share), given.folder / PRODUCTS)


if __name__ == "__main__":
    main()
