"""The first stage: a shop's receipts and products in, interactions and catalog out."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import structlog
from rich.console import Console

from export_scripts import complete_journey
from export_scripts.durations import stage
from export_scripts.receipts import meta
from export_scripts.receipts.assembly import ShopData, assemble, check_no_products_needed
from export_scripts.receipts.catalog import read_products
from export_scripts.receipts.files import write_shop
from export_scripts.receipts.hints import find_hints
from export_scripts.receipts.problems import Problem, Problems, printable
from export_scripts.receipts.reading import read_table
from export_scripts.receipts.transactions import read_lines
from export_scripts.settings import Settings
from operations.outputs import Outputs
from operations.records.atomic import staged_folder


@stage("etl")
def etl(settings: Settings, out_dir: Path) -> Path:
    """Read the shop that `settings` name, write it to `out_dir`/data and return that folder.

    interactions.parquet  user_row int32 (0 unknown), basket int32, item_row int32 (1 and up), time int64,
                          quantity float32; one row per basket and item, sorted by both; time is seconds
                          since 1970 UTC, or the basket's ordinal if the shop gives no time
    baskets.parquet       row = basket, in the order of time and then of the file: basket_id str,
                          user_row int32, time int64 (of its earliest line), size int32 (distinct items)
    catalog.parquet       row = item_row, row 0 unknown: item_id, name, category columns, broad to fine; str
    users.parquet         row = user_row, row 0 unknown: user_id str
    items.json            item_id → name and category columns, for the gateway and `cesta ask`
    meta.json             fingerprint, time range, counts, dropped lines by reason, columns present

    The same input writes the same bytes. Raises BadInput with all problems of both tables, and WontOverwrite
    if `out_dir`/data was not written by cesta. Neither leaves anything behind.
    """
    target = Outputs(out_dir).data
    with Console(stderr=True).status("reading the shop's tables") as status:
        shop = read_shop(settings)
        status.update("writing")
        with staged_folder(target, marker=meta.FILE) as folder:
            write_shop(shop, folder)
    log = structlog.get_logger()
    for hint in (*shop.warnings, *find_hints(shop, settings.sampler.largest_basket)):
        log.warning(printable(hint))
    log.info("etl", folder=str(target), **shop.meta)
    return target


def read_shop(settings: Settings) -> ShopData:
    """Read and check both tables and assemble the shop. Raises BadInput with the problems of both."""
    data, problems = settings.data, Problems()
    if data.transactions:
        sources = [path for path in (data.transactions, data.products) if path]
    else:
        sources = list(complete_journey.tables())
    tables = [read_table(path, problems) for path in sources]
    try:
        lines = read_lines(tables[0], data, settings.etl, problems) if tables[0] else pd.DataFrame()
        products = pd.DataFrame({"item_id": [], "name": []}, dtype="str")
        if len(sources) == 1:
            check_no_products_needed(settings, sources[0].name, problems)
        elif tables[1]:
            products = read_products(tables[1], data, settings.etl.drop, problems)
    except MemoryError as error:
        what = f"its columns do not fit into the memory of this machine: {error}"
        problems.add(Problem(sources[0].name, what, "are values of a column very long? Leave them out"))
    problems.raise_if_any()
    shop = assemble(lines, products, settings, [path.name for path in sources])
    return replace(shop, warnings=tuple(problems.warnings))
