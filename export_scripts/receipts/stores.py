"""The stores of a shop: the rows that receipts and the table of stores give them, and their regions."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import pyarrow as pa

from export_scripts.receipts.catalog import check_conflicts
from export_scripts.receipts.database import Database
from export_scripts.receipts.ids import id_column
from export_scripts.receipts.problems import Problem, Problems, listed, show
from export_scripts.receipts.reading.source import Source
from export_scripts.receipts.staging import stage
from export_scripts.receipts.tables import Cells, text_column
from export_scripts.settings import DataSettings

REGION = "region"


def read_stores(
    source: Source, data: DataSettings, database: Database, problems: Problems
) -> pd.DataFrame | None:
    """Return the listed stores: store_id and region, both str, "" for no region.

    Adds what is wrong to `problems`; returns None if nothing can be made of the table.
    """
    present = source.schema.names
    as_in_transactions = data.columns.store_id or "store_id"
    key = as_in_transactions if as_in_transactions in present else "store_id"
    region = data.region_column or REGION
    table = stage(source, [name for name in present if name in (key, region)], (), database, problems)
    wanted = {
        key: "name it as in the transactions, or store_id",
        region: 'name it in [data] region_column = "…"',
    }
    absent = [name for name in wanted if name not in present]
    for name in absent:
        what = f"no column {show(name)}; the columns are: {listed(present)}"
        problems.add(Problem(source.name, what, wanted[name]))
    if table is None or absent:
        return None
    ids = id_column(table, key, data.missing, problems)
    cells = {
        "store_id": Cells(f"({ids.sql})::varchar", ids.joins),
        REGION: text_column(table, region, data.missing, problems),
    }
    found = database.arrow(f"{table.select(**cells)} order by position").to_pandas()
    stores = found[list(cells)].astype("str").where(found[list(cells)].notna(), "")
    check_conflicts(table, key, stores, "store", problems)
    distinct: pd.DataFrame = stores.drop_duplicates("store_id").reset_index(drop=True)
    return distinct


@dataclass(frozen=True)
class NumberedStores:
    """The stores by row, and the relation that tells the row of a store's cell."""

    table: pd.DataFrame  # (stores + 1,) store_id and region; row 0 unknown
    rows: str  # relation: store, as in the receipts as text; store_row

    @property
    def seen(self) -> int:
        """Number of stores, without the unknown one."""
        return len(self.table) - 1


def number_stores(database: Database, receipts: str, known: pd.DataFrame | None) -> NumberedStores:
    """Number the stores of the table `receipts`, column first_store, and the `known` ones, in order of ids.

    A listed store without receipts gets a row, too: a question may name it before its first receipt.
    """
    distinct = f"select distinct first_store::varchar as store from {receipts} where first_store is not null"
    sold = pd.Index(database.arrow(distinct)["store"].to_pandas(), dtype="str")
    regions = pd.Series([], index=pd.Index([], dtype="str"), dtype="str")
    if known is not None:
        regions = known.set_index("store_id")[REGION]
    ids = sold.union(regions.index).sort_values()
    given = pa.table({"store": pa.array(ids, pa.string()), "store_row": pa.array(range(1, len(ids) + 1))})
    table = pd.DataFrame({"store_id": ["", *ids], REGION: ["", *regions.reindex(ids).fillna("")]})
    return NumberedStores(table.astype("str"), database.add(given))
