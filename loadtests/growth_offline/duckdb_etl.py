"""The bar for etl: the same checks and tables of a generated shop, written as plain SQL for DuckDB.

python -m loadtests.growth_offline.duckdb_etl SHOP OUT

It knows the columns of a generated shop, and none of etl's sentences about bad rows. So it shows what the
work itself costs on this machine.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import duckdb

READ: Final = """
create temp view lines as
select basket_id::varchar as basket_id, user_id::varchar as user_id, item_id::varchar as item_id,
       epoch(timestamp)::bigint as time, quantity::double as quantity, file_row_number::bigint as place
from read_parquet(getvariable('shop') || '/transactions.parquet', file_row_number = true)
"""
RECEIPTS: Final = """
create table receipts as
select basket_id, min(user_id) as user_id, max(user_id) as last_user, min(time) as time,
       max(time) as last_time, min(place) as place, count(*) filter (quantity < 0) as returns,
       count(*) filter (item_id is null) as without_item, max(length(item_id)) as longest_id
from lines group by basket_id
"""
CHECK: Final = """
select count(*) filter (user_id <> last_user), count(*) filter (last_time - time > 86400),
       sum(returns), sum(without_item), max(longest_id)
from receipts
"""
USERS: Final = """
create table users as
select user_id, row_number() over (order by user_id)::int as user_row
from (select distinct user_id from receipts where user_id is not null)
"""
CATALOG: Final = """
create table catalog as
select item_id, row_number() over (order by item_id)::int as item_row
from (select item_id::varchar as item_id from read_parquet(getvariable('shop') || '/products.parquet')
      union select item_id from lines)
"""
BASKETS: Final = """
create table baskets as
select basket_id, coalesce(user_row, 0) as user_row, time,
       (row_number() over (order by time, place) - 1)::int as basket
from receipts left join users using (user_id)
"""
INTERACTIONS: Final = """
select any_value(user_row) as user_row, basket, item_row, any_value(baskets.time) as time,
       sum(quantity)::float as quantity
from lines join baskets using (basket_id) join catalog using (item_id)
where quantity <> 0
group by basket, item_row order by basket, item_row
"""
TABLES: Final = {
    "interactions": INTERACTIONS,
    "baskets": "select basket_id, user_row, time from baskets order by basket",
    "users": "select user_id from users order by user_row",
}


def write_tables(shop: Path, out: Path) -> int:
    """Write the tables of ``shop`` into ``out`` and return the number of interactions."""
    out.mkdir(parents=True, exist_ok=True)
    with duckdb.connect() as database:
        database.execute("set preserve_insertion_order = false")
        database.execute(f"set temp_directory = '{out / 'spill'}'")
        database.execute("set variable shop = $folder", {"folder": str(shop)})
        for statement in (READ, RECEIPTS, CHECK, USERS, CATALOG, BASKETS):
            database.execute(statement)
        for name, query in TABLES.items():
            target = out / f"{name}.parquet"
            database.execute(f"copy ({query}) to '{target}' (format parquet, compression zstd)")
        rows = database.execute(
            f"select count(*) from read_parquet('{out / 'interactions.parquet'}')"
        ).fetchone()
    return int(rows[0]) if rows else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the tables of a generated shop."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.growth_offline.duckdb_etl", description=__doc__
    )
    parser.add_argument("shop", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args(arguments)
    print(f"{write_tables(given.shop, given.out):,} interactions")
    return 0


if __name__ == "__main__":
    sys.exit(main())
