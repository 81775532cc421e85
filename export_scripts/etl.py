"""The first stage: a shop's tables in, interactions and catalog out."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
import structlog
from rich.console import Console

from export_scripts import complete_journey
from export_scripts.receipts.assembly import ShopData, assemble, check_no_products_needed
from export_scripts.receipts.catalog import read_products
from export_scripts.receipts.hints import hints
from export_scripts.receipts.problems import Problems
from export_scripts.receipts.tables import read_table
from export_scripts.receipts.transactions import read_lines
from export_scripts.settings import Settings
from operations.gateway.items import FILE as ITEMS
from operations.records.atomic import staged_folder

FOLDER = "data"  # below the run's folder
MARKER = "meta.json"


def etl(settings: Settings, out_dir: Path) -> Path:
    """Read the shop that `settings` name and write `out_dir`/data; returns that folder.

    interactions.parquet  user_row int32 (0 unknown), basket int32, item_row int32 (1 and up), time int64,
                          quantity float32; one row per basket and item, sorted by both; time is seconds
                          since 1970 UTC, or the basket's ordinal where the shop gives no time
    baskets.parquet       row = basket, in the order of time and then of the file: basket_id str,
                          user_row int32, time int64 (of its earliest line), size int32 (distinct items)
    catalog.parquet       row = item_row, row 0 unknown: item_id, name, category columns, broad to fine; str
    users.parquet         row = user_row, row 0 unknown: user_id str
    items.json            item_id → name and category columns, for whoever shows names
    meta.json             fingerprint, time range, counts, dropped lines by reason, what the shop has

    The same input writes the same bytes. Raises BadInput with every problem found, and WontOverwrite when
    `out_dir`/data is somebody else's; either way nothing is left behind.
    """
    target = Path(out_dir) / FOLDER
    with Console(stderr=True).status("reading the shop's tables") as status:
        shop = read_shop(settings)
        status.update("writing")
        with staged_folder(target, marker=MARKER) as folder:
            write_shop(shop, folder)
    log = structlog.get_logger()
    for hint in hints(shop, settings.sampler.largest_basket):
        log.warning(hint)
    log.info("etl", folder=str(target), **shop.meta)
    return target


def read_shop(settings: Settings) -> ShopData:
    """Everything of the stage but the writing. Raises BadInput with the problems of both tables."""
    data, problems = settings.data, Problems()
    if data.transactions:
        sources = [path for path in (data.transactions, data.products) if path]
    else:
        sources = list(complete_journey.tables())
    tables = [read_table(path, problems) for path in sources]
    lines = read_lines(tables[0], data, settings.etl, problems) if tables[0] else pd.DataFrame()
    products = pd.DataFrame({"item_id": [], "name": []}, dtype="str")
    if len(sources) == 1:
        check_no_products_needed(settings, sources[0].name, problems)
    elif tables[1]:
        products = read_products(tables[1], data, settings.etl.drop, problems)
    problems.raise_if_any()
    return assemble(lines, products, settings, [path.name for path in sources])


def write_shop(shop: ShopData, folder: Path) -> None:
    """Write the four tables, items.json and meta.json; pandas' own metadata would name versions."""
    names = ("interactions", "baskets", "catalog", "users")
    tables = {name: pa.Table.from_pandas(getattr(shop, name), preserve_index=False) for name in names}
    for name, table in tables.items():
        plain = table.replace_schema_metadata(None)
        pa.parquet.write_table(plain, folder / f"{name}.parquet", compression="zstd")
    write_items(shop.catalog, shop.meta["category_columns"], folder / ITEMS)
    meta = {"fingerprint": fingerprint(tables), **shop.meta}
    (folder / MARKER).write_text(json.dumps(meta, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_items(catalog: pd.DataFrame, categories: list[str], path: Path) -> None:
    """Names and categories of all items but the unknown one, as the gateway gives them out."""
    items = catalog.iloc[1:].set_index("item_id")[["name", *categories]].astype(str).to_dict("index")
    path.write_text(json.dumps({"items": items}, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")


def fingerprint(tables: Mapping[str, pa.Table]) -> str:
    """SHA-256 over names, types and values, so that parquet versions and compression do not matter."""
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
