"""Reads the transactions table: a shop's receipt lines, checked and typed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from export_scripts.receipts.problems import Problem, Problems
from export_scripts.receipts.tables import Table, number_column, text_column
from export_scripts.receipts.times.column import time_column
from export_scripts.settings import Columns, DataSettings, EtlSettings

REQUIRED = ("basket_id", "item_id")
ROUNDED = r"\d([.,]\d+)?E\+\d+"  # 4.00638E+12, as Excel shows an EAN
MAX_ID_BYTES = 128  # the server refuses longer ids, so no release may hold one


def read_lines(table: Table, data: DataSettings, etl: EtlSettings, problems: Problems) -> pd.DataFrame:
    """Return one row per receipt line, in the order of the file, and add what is wrong to `problems`.

    Columns: basket_id and item_id (category of str), quantity (float64; 1 if the table has no such column).
    If the table has them, also user_id (category of str, NaN = unknown) and time (whole seconds since 1970).
    """
    names = find_columns(table, data.columns, problems)
    lines = pd.DataFrame(index=pd.RangeIndex(len(table.rows)))
    for role in ("basket_id", "item_id", "user_id"):
        if role in names:
            ids = text_column(table, names[role], data.missing, problems)
            check_ids(table, names[role], ids, problems, required=role in REQUIRED)
            lines[role] = ids.astype("category")
    if "timestamp" in names:
        lines["time"] = time_column(table, names["timestamp"], data.timestamp_format, problems)
    lines["quantity"] = number_column(table, names["quantity"], problems) if "quantity" in names else 1.0
    if etl.returns == "refuse" and "quantity" in names:
        check_returns(table, names["quantity"], lines["quantity"], problems)
    if {"basket_id", "user_id"} <= set(lines):
        check_one_user(table, lines, problems)
    if {"basket_id", "time"} <= set(lines):
        check_duration(table, lines, etl.basket_hours, problems)
    return lines


def find_columns(table: Table, columns: Columns, problems: Problems) -> dict[str, str]:
    """Return role → column name. Required columns and columns named in the settings must exist."""
    present = table.data.column_names
    names = {role: name or role for role, name in columns.model_dump().items()}
    for role, name in names.items():
        if name not in present and (role in REQUIRED or getattr(columns, role)):
            what = f'no column "{name}"; the columns are: {", ".join(present)}'
            problems.add(Problem(table.name, what, f'name the column with [data.columns] {role} = "…"'))
    return {role: name for role, name in names.items() if name in present}


def check_ids(
    table: Table, column: str, ids: pd.Series[str], problems: Problems, *, required: bool = True
) -> None:
    """Report ids (n,) that are missing (if `required`), too long for the server, or rounded."""
    missing = ids.isna().to_numpy()
    if required:
        what = f'column "{column}" is empty'
        table.refuse(missing, ids, what, "every row needs one; fill it in or remove the rows", problems)
    long = np.asarray(pc.binary_length(pa.array(ids.fillna("")))) > MAX_ID_BYTES
    what = f'column "{column}" has ids over {MAX_ID_BYTES} bytes of UTF-8'
    table.refuse(long, ids, what, "use shorter ids; is it the right column?", problems)
    rounded = ids.str.fullmatch(ROUNDED, na=False).to_numpy(bool)
    what = f'column "{column}" has ids that a spreadsheet rounded: last digits are lost'
    table.refuse(rounded, ids, what, "format the column as text before the export", problems)


def check_returns(table: Table, column: str, quantity: pd.Series[float], problems: Problems) -> None:
    """Report negative quantities (n,)."""
    what = f'column "{column}" is negative: a return is not a purchase'
    way_out = 'leave them out with [etl] returns = "drop", or subtract them from the purchases'
    table.refuse(quantity.lt(0).to_numpy(), quantity, what, way_out, problems)


def check_one_user(table: Table, lines: pd.DataFrame, problems: Problems) -> None:
    """Report lines whose user differs from the first user of their basket. An empty cell is no user."""
    user = lines["user_id"].cat.codes.where(lines["user_id"].notna())
    first = user.groupby(lines["basket_id"], observed=True, sort=False).transform("first")
    bad = (user.notna() & (user != first)).to_numpy()
    values = "basket " + lines["basket_id"].astype("str") + ", user " + lines["user_id"].astype("str")
    way_out = "a basket is one receipt of one user: build basket_id from receipt and user"
    table.refuse(bad, values, "baskets of two users; the second user is in", way_out, problems)


def check_duration(table: Table, lines: pd.DataFrame, basket_hours: float, problems: Problems) -> None:
    """Report lines more than `basket_hours` after the first of their basket."""
    first = lines.groupby("basket_id", observed=True, sort=False)["time"].transform("min")
    hours = (lines["time"] - first) / 3600
    values = (
        "basket " + lines["basket_id"].astype("str") + ", " + hours.round(1).astype("str") + " hours after"
    )
    what = f"baskets that last over {basket_hours:g} hours; late lines are in"
    way_out = "basket_id seems to be reused: add the date or the till to it, or raise [etl] basket_hours"
    table.refuse((hours > basket_hours).to_numpy(), values, what, way_out, problems)


def spread_users(lines: pd.DataFrame) -> pd.Series[pd.CategoricalDtype[str]]:
    """Give every line the user of its basket, (n,) category of str: one line may carry the id for all."""
    if "user_id" not in lines:
        nobody = pd.Categorical.from_codes(np.full(len(lines), -1), pd.Index([], dtype="str"))
        return pd.Series(nobody, index=lines.index)
    users = lines["user_id"].cat
    codes = users.codes.groupby(lines["basket_id"], observed=True, sort=False).transform("max")
    return pd.Series(pd.Categorical.from_codes(codes, users.categories), index=lines.index)
