"""Writes the shop's tables, items.json and meta.json."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from export_scripts.receipts import meta
from operations.outputs import ITEMS

TABLES = ("interactions", "baskets", "catalog", "users")  # in the order of the fingerprint
STORES = "stores"  # the table after these, if the receipts name stores
NAMES = (*(f"{table}.parquet" for table in (*TABLES, STORES)), ITEMS, meta.FILE)  # of all files
GROUP_ROWS = 1 << 17  # of each table, whatever the batches are: the same shop gives the same bytes
INTERACTIONS = pa.schema(
    [
        ("user_row", pa.int32()),
        ("basket", pa.int32()),
        ("item_row", pa.int32()),
        ("time", pa.int64()),
        ("quantity", pa.float32()),
    ]
)
BASKETS = pa.schema(
    [("basket_id", pa.large_string()), ("user_row", pa.int32()), ("time", pa.int64()), ("size", pa.int32())]
)


def write_interactions(
    merged: Iterable[tuple[NDArray[np.int64], NDArray[np.float64]]],
    user_rows: NDArray[np.int32],
    times: NDArray[np.int64],
    items: int,
    folder: Path,
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Write (basket << 32 | item row, quantity) pairs.

    Returns how many items each basket has, and in how many baskets each item is.
    """
    sizes, baskets_of_item = np.zeros(len(times), np.int32), np.zeros(items, np.int64)

    def tables() -> Iterator[pa.Table]:
        for pairs, quantities in merged:
            baskets, rows = (pairs >> 32).astype(np.int32), (pairs & 0xFFFFFFFF).astype(np.int32)
            first = baskets[0]
            counts = np.bincount(baskets - first)
            sizes[first : first + len(counts)] += counts.astype(np.int32)
            np.add(baskets_of_item, np.bincount(rows, minlength=items), out=baskets_of_item)
            columns = (user_rows[baskets], baskets, rows, times[baskets], quantities.astype(np.float32))
            yield pa.Table.from_arrays(list(map(pa.array, columns)), schema=INTERACTIONS)

    # Dictionaries of rows and times made the file 1.8 times as large.
    _write(tables(), INTERACTIONS, folder / "interactions.parquet", ["quantity"])
    return sizes, baskets_of_item


def write_baskets(
    ids: Iterable[pa.RecordBatch],
    user_rows: NDArray[np.int32],
    times: NDArray[np.int64],
    sizes: NDArray[np.int32],
    folder: Path,
    store_rows: NDArray[np.int32] | None = None,
) -> None:
    """Write one row per basket; ``store_rows`` (baskets,) is the last column, None leaves it out."""
    numbers: list[NDArray[Any]] = [user_rows, times, sizes]
    schema = BASKETS
    if store_rows is not None:
        numbers.append(store_rows)
        schema = schema.append(pa.field("store_row", pa.int32()))

    def tables() -> Iterator[pa.Table]:
        start = 0
        for batch in ids:
            rows = slice(start, start + len(batch))
            columns = [batch.column(0).cast(pa.large_string()), *(column[rows] for column in numbers)]
            yield pa.Table.from_arrays(list(map(pa.array, columns)), schema=schema)
            start += len(batch)

    few = [name for name in ("size", "store_row") if name in schema.names]
    _write(tables(), schema, folder / "baskets.parquet", few)


def write_stores(stores: pd.DataFrame, folder: Path) -> None:
    """Write the store_id and the region of each store_row."""
    table = pa.table({name: pa.array(stores[name], pa.large_string()) for name in ("store_id", "region")})
    _write([table], table.schema, folder / f"{STORES}.parquet")


def write_shop(catalog: pd.DataFrame, users: pa.Array, facts: meta.Meta, folder: Path) -> None:
    """Write the other files; the same shop gives the same bytes."""
    table = pa.Table.from_pandas(catalog, preserve_index=False)
    plain = table.replace_schema_metadata(None)  # pandas' metadata would name versions
    _write([plain], plain.schema, folder / "catalog.parquet")
    ids = pa.table({"user_id": users.cast(pa.large_string())})
    _write([ids], ids.schema, folder / "users.parquet")
    write_items(catalog, facts["category_columns"], folder / ITEMS)
    stored: meta.StoredMeta = {"fingerprint": fingerprint(folder), **facts}
    text = json.dumps(stored, indent=2, ensure_ascii=False) + "\n"
    (folder / meta.FILE).write_text(text, encoding="utf-8")


def write_items(catalog: pd.DataFrame, category_columns: Sequence[str], path: Path) -> None:
    """Write {"items": {item_id: {"name": …, column: category, …}}}, in the order of the catalog.

    Includes all items except the unknown one.
    """
    shown = ["name", *category_columns]
    columns = (catalog[column].iloc[1:].tolist() for column in ("item_id", *shown))
    items = {item: dict(zip(shown, texts, strict=True)) for item, *texts in zip(*columns, strict=True)}
    path.write_text(json.dumps({"items": items}, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")


def _write(tables: Iterable[pa.Table], schema: pa.Schema, path: Path, few: list[str] | None = None) -> None:
    """Write tables as row groups of `GROUP_ROWS`; only columns of `few` values, if named, as dictionaries."""
    waiting: list[pa.Table] = []
    dictionaries = True if few is None else few
    with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=dictionaries) as writer:
        for table in tables:
            waiting.append(table)
            while sum(map(len, waiting)) >= GROUP_ROWS:
                joined = pa.concat_tables(waiting)
                writer.write_table(joined.slice(0, GROUP_ROWS))
                waiting = [joined.slice(GROUP_ROWS)]
        writer.write_table(pa.concat_tables([schema.empty_table(), *waiting]))


def fingerprint(folder: Path) -> str:
    """Return a SHA-256 of names, types and values, which no version of parquet or compression changes."""
    digest = hashlib.sha256()
    for name in TABLES + ((STORES,) if (folder / f"{STORES}.parquet").exists() else ()):
        with pq.ParquetFile(folder / f"{name}.parquet") as file:
            for field in file.schema_arrow:
                is_text = pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
                kind = "text" if is_text else field.type
                digest.update(f"{name}.{field.name}:{kind}:{file.metadata.num_rows}\n".encode())
                if is_text:
                    for values in _values(file, field.name):
                        digest.update(np.asarray(pc.binary_length(values)).astype("<i8").tobytes())
                    for values in _values(file, field.name):
                        digest.update(_letters(values))
                else:
                    for values in _values(file, field.name):
                        digest.update(np.ascontiguousarray(values.to_numpy()).tobytes())
    return digest.hexdigest()


def _values(file: pq.ParquetFile, column: str) -> Iterator[pa.Array]:
    for batch in file.iter_batches(1 << 16, columns=[column]):
        yield batch.column(0)


def _letters(texts: pa.Array) -> memoryview:
    """Return the bytes of all texts, one behind the other."""
    array = texts.cast(pa.large_string())
    _, offsets, letters = array.buffers()
    ends = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    return memoryview(letters or b"")[ends[0] : ends[-1]]
