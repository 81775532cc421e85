"""Reads the transactions table: a shop's receipt lines, checked and typed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from export_scripts.receipts.baskets import Owners, check_baskets
from export_scripts.receipts.database import Database
from export_scripts.receipts.ids import id_column
from export_scripts.receipts.keys import basket_column, place_columns, store_column
from export_scripts.receipts.problems import Problem, Problems, listed, show
from export_scripts.receipts.reading.source import Source
from export_scripts.receipts.staging import stage
from export_scripts.receipts.tables import Cells, Column, Numbers, Table, number_column
from export_scripts.receipts.times.column import time_column
from export_scripts.settings import Columns, DataSettings, EtlSettings

REQUIRED = ("basket_id", "item_id")
ONE = Numbers(Cells("1.0::double"), negative=False, positive=True, whole=True)


@dataclass(frozen=True)
class Lines:
    """The receipt lines as SQL over their table; ids are integers or text."""

    table: Table
    basket: Cells
    item: Cells
    user: Cells | None  # null where unknown
    store: Cells | None  # likewise
    time: Cells | None  # whole seconds since 1970
    quantity: Numbers
    receipts: str  # the table of their baskets, see baskets.py
    unused_store: str = ""  # a column that looks like the store, where none is named


def read_lines(
    source: Source, data: DataSettings, etl: EtlSettings, database: Database, problems: Problems
) -> Lines | None:
    """Return the receipt lines and add what is wrong to `problems`; None if nothing can be made of them."""
    of_columns = Problems()  # of no interest if there is no row
    names = find_columns(source.name, source.schema.names, data.columns, of_columns)
    places = place_columns(source.schema, (*names["basket_id"], *names["store_id"]))
    wanted = [name for columns in names.values() for name in columns]
    table = stage(source, [*wanted, *places], names["timestamp"], database, problems)
    if table is None:
        return None
    problems.collected += of_columns.collected
    user_name = next(iter(names["user_id"]), None)
    basket = item = user = store = time = None
    quantity = ONE
    if names["basket_id"]:
        basket = basket_column(table, names["basket_id"], user_name, data, problems)
    for column in names["item_id"]:
        item = id_column(table, column, data.missing, problems)
    if user_name:
        user = id_column(table, user_name, data.missing, problems, required=False)
    for column in names["store_id"]:
        store = id_column(table, column, data.missing, problems, required=False)
    for column in names["timestamp"]:
        time = time_column(table, column, data.timestamp_format, problems)
    for column in names["quantity"]:

        def refuse(found: Column, values: pa.Array) -> None:
            check_returns(found, values, problems)

        quantity = number_column(table, column, problems, refuse if etl.returns == "refuse" else None)
    if basket is None:
        return None
    owners = Owners(user, store)
    receipts = check_baskets(table, names, basket, owners, time, places, etl.basket_hours, problems)
    unused = "" if store else store_column(source.schema)
    return Lines(table, basket, item, user, store, time, quantity, receipts, unused) if item else None


def find_columns(
    source: str, present: Sequence[str], columns: Columns, problems: Problems
) -> dict[str, tuple[str, ...]]:
    """Return role → its columns, none if the table lacks one. Required and named columns must exist."""
    found = {}
    for role, setting in columns:
        named = (setting,) if isinstance(setting, str) else setting
        names: tuple[str, ...] = named or (role,)
        absent = [name for name in names if name not in present]
        for name in absent if role in REQUIRED or named else ():
            what = f"no column {show(name)}; the columns are: {listed(present)}"
            problems.add(Problem(source, what, f'name the column with [data.columns] {role} = "…"'))
        found[role] = () if absent else names
    return found


def check_returns(column: Column, quantity: pa.Array, problems: Problems) -> None:
    """Report negative quantities (n,)."""
    what = f'column "{column.name}" is negative: a return is not a purchase'
    way_out = 'leave them out with [etl] returns = "drop", or subtract them from the purchases'
    column.refuse(np.asarray(quantity) < 0, quantity, what, way_out, problems)
