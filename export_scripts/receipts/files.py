"""Writes the shop's tables, items.json and meta.json."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from export_scripts.receipts import meta
from export_scripts.receipts.assembly import ShopData
from operations.outputs import ITEMS


def write_shop(shop: ShopData, folder: Path) -> None:
    """Write all files of the shop into `folder`; the same shop gives the same bytes."""
    frames = {
        "interactions": shop.interactions,
        "baskets": shop.baskets,
        "catalog": shop.catalog,
        "users": shop.users,
    }
    tables = {name: pa.Table.from_pandas(frame, preserve_index=False) for name, frame in frames.items()}
    for name, table in tables.items():
        plain = table.replace_schema_metadata(None)  # pandas' metadata would name versions
        pa.parquet.write_table(plain, folder / f"{name}.parquet", compression="zstd")
    write_items(shop.catalog, shop.meta["category_columns"], folder / ITEMS)
    facts: meta.StoredMeta = {"fingerprint": fingerprint(tables), **shop.meta}
    text = json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
    (folder / meta.FILE).write_text(text, encoding="utf-8")


def write_items(catalog: pd.DataFrame, category_columns: Sequence[str], path: Path) -> None:
    """Write {"items": {item_id: {"name": …, column: category, …}}}, in the order of the catalog.

    Includes all items except the unknown one.
    """
    items = catalog.iloc[1:].set_index("item_id")[["name", *category_columns]].to_dict("index")
    path.write_text(json.dumps({"items": items}, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")


def fingerprint(tables: Mapping[str, pa.Table]) -> str:
    """Return a SHA-256 of names, types and values, which no version of parquet or compression changes."""
    digest = hashlib.sha256()
    for name, table in tables.items():
        for column in table.column_names:
            values = table.column(column).combine_chunks()
            is_text = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
            digest.update(f"{name}.{column}:{'text' if is_text else values.type}:{len(values)}\n".encode())
            if is_text:
                digest.update(np.asarray(pc.binary_length(values)).astype("<i8").tobytes())
                digest.update("".join(values.to_pylist()).encode())
            else:
                digest.update(np.ascontiguousarray(values.to_numpy()).tobytes())
    return digest.hexdigest()
