"""The first stage: a shop's receipts and products in, interactions and catalog out."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pandas as pd
import structlog

from export_scripts import complete_journey
from export_scripts.durations import stage
from export_scripts.receipts import meta
from export_scripts.receipts.assembly import ShopData, assemble, check_no_products_needed
from export_scripts.receipts.catalog import read_products
from export_scripts.receipts.database import Database, open_database
from export_scripts.receipts.files import NAMES
from export_scripts.receipts.hints import find_hints
from export_scripts.receipts.kept.folder import Parts, open_parts
from export_scripts.receipts.problems import Problem, Problems
from export_scripts.receipts.reading.opening import open_source
from export_scripts.receipts.reading.source import Source
from export_scripts.receipts.room import check_room, needs_of, told_in_one_sentence
from export_scripts.receipts.steps import Steps
from export_scripts.receipts.stores import read_stores
from export_scripts.receipts.transactions import read_lines
from export_scripts.settings import DataSettings, Settings
from operations.outputs import Outputs
from operations.records.atomic import scratch_folder, staged_folder
from operations.terminal import printable

SPILL = ".etl-spill-"  # prefix of the folder of a run


@stage("etl")
def etl(settings: Settings, out_dir: Path) -> Path:
    """Read the shop that `settings` name, write it to `out_dir`/data and return that folder.

    interactions.parquet  user_row int32 (0 unknown), basket int32, item_row int32 (1 and up), time int64,
                          quantity float32; one row per basket and item, sorted by both; time is seconds
                          since 1970 UTC, or the basket's ordinal if the shop gives no time
    baskets.parquet       row = basket, in the order of time and then of the file: basket_id str,
                          user_row int32, time int64 (of its earliest line), size int32 (distinct items);
                          store_row int32 (0 unknown) if the receipts name stores
    stores.parquet        row = store_row, row 0 unknown: store_id, region str; only with stores
    catalog.parquet       row = item_row, row 0 unknown: item_id, name, category columns, broad to fine; str
    users.parquet         row = user_row, row 0 unknown: user_id str
    items.json            item_id → name and category columns, for the gateway and `cesta ask`
    meta.json             fingerprint, time range, counts, dropped lines by reason, columns present

    The same input writes the same bytes. Raises BadInput with all problems of the tables, and WontOverwrite
    if `out_dir`/data, or a file in it, was not written by cesta. Neither leaves anything behind.
    """
    target = Outputs(out_dir).data
    with (
        _left_as_it_was(target.parent),
        open_parts(target.parent, settings.etl.parts, settings.engine) as parts,
        staged_folder(target, marker=meta.FILE, names=NAMES) as folder,
    ):
        shop = write_shop(settings, target.parent, folder, parts)
    log = structlog.get_logger()
    for hint in (*shop.warnings, *find_hints(shop, settings.sampler.largest_basket)):
        log.warning(printable(hint))
    log.info("etl", folder=str(target), **shop.meta)
    return target


@contextmanager
def _left_as_it_was(folder: Path) -> Iterator[None]:
    """Remove `folder` and those above it if they are new and the block raises."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    except BaseException:
        with suppress(OSError):  # something else is in it
            for path in new:
                path.rmdir()
        raise


def write_shop(settings: Settings, out_dir: Path, folder: Path, parts: Parts | None = None) -> ShopData:
    """Read and check all tables and write the shop into `folder`. Raises BadInput with the problems of all.

    Files that are not read in their place are read from their `parts`. What does not fit into memory is
    written below `out_dir` meanwhile, or where [etl] spill says.
    """
    problems = Problems()
    opened = {table: open_source(path, problems) for table, path in _paths(settings.data).items()}
    found, memory = [source for source in opened.values() if source], settings.etl.memory
    spill_dir = settings.etl.spill or out_dir
    steps = Steps(copies=any(source.kind == "csv" for source in found))
    with steps.shown(), scratch_folder(spill_dir, SPILL) as spill:
        check_room(needs_of(found, memory, parts), spill_dir, out_dir)
        with (
            told_in_one_sentence(found, memory, spill_dir, out_dir),
            open_database(memory, spill, steps, parts) as database,
        ):
            shop = _assemble(opened, settings, database, folder, problems)
    return replace(shop, warnings=tuple(problems.warnings))


def _paths(data: DataSettings) -> dict[str, Path | str]:
    """Return the tables that there are, by the name of their setting."""
    transactions, products = (
        (data.transactions, data.products) if data.transactions else complete_journey.tables()
    )
    paths = {"transactions": transactions, "products": products, "stores": data.stores}
    return {table: path for table, path in paths.items() if path}


def _assemble(
    opened: Mapping[str, Source | None],
    settings: Settings,
    database: Database,
    folder: Path,
    problems: Problems,
) -> ShopData:
    """Read the tables into the database and write the shop. Raises BadInput with what is wrong with them."""
    data, transactions = settings.data, opened["transactions"]
    lines = read_lines(transactions, data, settings.etl, database, problems) if transactions else None
    products, stores = pd.DataFrame({"item_id": [], "name": []}, dtype="str"), None
    if source := opened.get("products"):
        products = read_products(source, data, settings.etl.drop, database, problems)
    elif "products" not in opened and transactions:
        check_no_products_needed(settings, transactions.name, problems)
    if source := opened.get("stores"):
        stores = read_stores(source, data, database, problems)
        if lines and not lines.store:
            what = "a table of stores is given, but the transactions have no column of stores"
            problems.add(Problem(lines.table.name, what, 'name it with [data.columns] store_id = "…"'))
    problems.raise_if_any()
    assert lines is not None  # else there is a problem
    labels = [source.label for source in opened.values() if source]
    shop = assemble(lines, products, settings, labels, folder, stores)
    return replace(shop, has_products="products" in opened)
