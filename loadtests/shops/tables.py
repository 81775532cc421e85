"""Writes a generated shop as etl reads it: its two tables and the settings that name them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from loadtests.shops.days import Kind, split_by_day

SETTINGS: Final = "shop.toml"
FIRST_ITEM: Final = 10_000_000  # ids of eight digits, as shops print them
ROW_GROUP: Final = 1_000_000  # lines
UNKNOWN: Final = -1  # a user's number in Lines


class Lines(NamedTuple):
    """Receipt lines as arrays (lines,), with numbers from 0."""

    baskets: NDArray[np.int64]
    users: NDArray[np.int64]
    items: NDArray[np.int64]
    times: NDArray[np.int64]  # seconds since 1970
    quantities: NDArray[np.int64]


class Products(NamedTuple):
    """The numbers of the listed items (items,), and of their categories in each level, broad to fine."""

    items: NDArray[np.int64]
    levels: dict[str, NDArray[np.int64]]


class Written(NamedTuple):
    """The size of a written shop."""

    lines: int
    baskets: int


def write_shop(folder: Path, lines: Iterable[Lines], products: Products, days: Kind | None = None) -> Written:
    """Write transactions.parquet, products.parquet and shop.toml into ``folder``.

    With ``days``, the transactions are a folder with a file of this kind for each day.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_products(folder / "products.parquet", products)
    transactions = folder / "transactions.parquet"
    written = _write_lines(transactions, lines)
    if days:
        split_by_day(transactions, folder / "transactions", days)
        transactions.unlink()
        transactions = folder / "transactions"
    categories = ", ".join(f'"{level}"' for level in products.levels)
    (folder / SETTINGS).write_text(
        f'[data]\ntransactions = "{transactions.name}"\nproducts = "products.parquet"\n'
        f"category_columns = [{categories}]\n",
        encoding="utf-8",
    )
    return written


def _write_lines(path: Path, pieces: Iterable[Lines]) -> Written:
    kinds = {"basket_id": pa.int64(), "user_id": pa.int64(), "item_id": pa.int64()}
    schema = pa.schema({**kinds, "timestamp": pa.timestamp("s"), "quantity": pa.float32()})
    lines = baskets = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for piece in pieces:
            users = pa.array(piece.users + 1, mask=piece.users == UNKNOWN)
            columns = [piece.baskets + 1, users, piece.items + FIRST_ITEM]
            columns += [piece.times.astype("datetime64[s]"), piece.quantities.astype(np.float32)]
            writer.write_table(pa.table(columns, schema=schema), row_group_size=ROW_GROUP)
            lines += len(piece.items)
            baskets = int(piece.baskets[-1]) + 1
    return Written(lines, baskets)


def _write_products(path: Path, products: Products) -> None:
    names = {"item_id": products.items + FIRST_ITEM, "name": [f"Item {n}" for n in products.items]}
    levels = {
        level: [f"{level.replace('_', ' ')} {n}" for n in numbers]
        for level, numbers in products.levels.items()
    }
    pq.write_table(pa.table(names | levels), path)
