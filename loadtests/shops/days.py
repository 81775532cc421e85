"""Splits the receipts of a generated shop into a file for each day, as tills send them."""

from pathlib import Path
from typing import Final, Literal

import duckdb

Kind = Literal["csv", "parquet"]
KINDS: Final[tuple[Kind, ...]] = ("csv", "parquet")
MEMORY: Final = "1GB"
COLUMNS: Final[dict[Kind, str]] = {
    "parquet": "* exclude (day)",
    "csv": "basket_id, user_id, item_id, strftime(timestamp, '%Y-%m-%d %H:%M:%S') as timestamp,"
    " quantity::int as quantity",
}
WRITTEN: Final[dict[Kind, str]] = {"parquet": "format parquet, compression zstd", "csv": "format csv, header"}


def split_by_day(table: Path, folder: Path, kind: Kind) -> int:
    """Write the lines of ``table`` to ``folder``/2024-01-01.csv and so on, and return how many files.

    The lines of a day are in the order of their times, then of the table.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(config={"memory_limit": MEMORY, "temp_directory": str(folder / ".sorting")}) as db:
        db.execute("set enable_progress_bar = false")
        db.execute("set variable receipts = $path", {"path": str(table)})
        db.execute(
            "create table lines as select timestamp::date as day, *"
            " from read_parquet(getvariable('receipts')) order by timestamp, basket_id, file_row_number"
        )
        days = [str(day) for (day,) in db.execute("select distinct day from lines order by day").fetchall()]
        for day in days:
            chosen = f"select {COLUMNS[kind]} from lines where day = '{day}'"
            db.execute(f"copy ({chosen}) to '{folder / day}.{kind}' ({WRITTEN[kind]})")
    return len(days)
