"""Receipts that arrive week by week: those of the demo, a file for each week; each call adds the next one.

python -m loadtests.shops.weeks artifacts/flows

The first call writes products, settings and all weeks but the last HELD_BACK.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import duckdb

from export_scripts.complete_journey import OVERLAY, tables
from loadtests.shops.tables import SETTINGS
from operations.records.atomic import write_file

HELD_BACK: Final = 4
RECEIPTS: Final = "receipts"


def add_week(folder: Path) -> Path | None:
    """Write the shop if there is none, else the next week; the newest file, or None if no week is left."""
    transactions, products = tables()
    receipts = folder / RECEIPTS
    with duckdb.connect() as database:
        source = f"read_parquet('{transactions}')"
        weeks = [
            week for (week,) in database.sql(f"SELECT DISTINCT week FROM {source} ORDER BY 1").fetchall()
        ]
        missing = [week for week in weeks if not _file(receipts, week).exists()]
        chosen = weeks[:-HELD_BACK] if len(missing) == len(weeks) else missing[:1]
        receipts.mkdir(parents=True, exist_ok=True)
        for week in chosen:
            # Under a hidden name until it is whole: etl passes hidden files over.
            part = receipts / f".{week}"
            query = (
                f"COPY (SELECT * FROM {source} WHERE week = {week} ORDER BY ALL) TO '{part}' (FORMAT parquet)"
            )
            database.execute(query)
            part.rename(_file(receipts, week))
    settings = folder / SETTINGS
    if not settings.exists():  # a reader may have added his own
        write_file(settings, _settings(receipts, products).encode())
    return _file(receipts, chosen[-1]) if chosen else None


def _file(receipts: Path, week: int) -> Path:
    return receipts / f"week-{week:02d}.parquet"


def _settings(receipts: Path, products: Path) -> str:
    """The demo's settings as a toml, for receipts in a folder."""
    data = {"transactions": str(receipts.resolve()), "products": str(products), **OVERLAY["data"]}
    return "\n".join(_table(name, values) for name, values in (("data", data), ("etl", OVERLAY["etl"])))


def _table(name: str, values: Mapping[str, Any]) -> str:
    """A table of a toml and the tables below. A string or a list of strings is written as in JSON."""
    below = {key: value for key, value in values.items() if isinstance(value, Mapping)}
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items() if key not in below]
    tables_below = [_table(f"{name}.{key}", value) for key, value in below.items()]
    return "\n".join([f"[{name}]", *lines, "", *tables_below])


def main(arguments: Sequence[str] | None = None) -> int:
    """Add a week, and print its file; 1 if none is left."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.shops.weeks",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(arguments).folder
    newest = add_week(folder)
    print(newest or f"no week is left; delete {folder} to begin again")
    return 0 if newest else 1


if __name__ == "__main__":
    sys.exit(main())
