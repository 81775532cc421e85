"""Reads the transactions table: a shop's receipt lines, checked and typed."""

from __future__ import annotations

import numpy as np
import pandas as pd

from export_scripts.receipts.ids import id_column
from export_scripts.receipts.keys import basket_column, warn_of_shared_numbers
from export_scripts.receipts.problems import Problem, Problems, listed, show
from export_scripts.receipts.tables import Table, number_column
from export_scripts.receipts.times.column import time_column
from export_scripts.settings import Columns, DataSettings, EtlSettings

REQUIRED = ("basket_id", "item_id")


def read_lines(table: Table, data: DataSettings, etl: EtlSettings, problems: Problems) -> pd.DataFrame:
    """Return one row per receipt line, in the order of the file, and add what is wrong to `problems`.

    Columns: basket_id and item_id (category of str), quantity (float64; 1 if the table has no such column).
    If the table has them, also user_id (category of str, NaN = unknown) and time (whole seconds since 1970).
    """
    names = find_columns(table, data.columns, problems)
    lines = pd.DataFrame(index=pd.RangeIndex(len(table.rows)))
    user = next(iter(names["user_id"]), None)
    if names["basket_id"]:
        lines["basket_id"] = basket_column(table, names["basket_id"], user, data, problems)
    for column in names["item_id"]:
        lines["item_id"] = id_column(table, column, data.missing, problems)
    if user:
        lines["user_id"] = id_column(table, user, data.missing, problems, required=False)
    for column in names["timestamp"]:
        lines["time"] = time_column(table, column, data.timestamp_format, problems)
    lines["quantity"] = 1.0
    for column in names["quantity"]:
        lines["quantity"] = number_column(table, column, problems)
        if etl.returns == "refuse":
            check_returns(table, column, lines["quantity"], problems)
    if "basket_id" in lines:
        check_baskets(table, names, lines, etl.basket_hours, problems)
    return lines


def find_columns(table: Table, columns: Columns, problems: Problems) -> dict[str, tuple[str, ...]]:
    """Return role → its columns, none if the table lacks one. Required and named columns must exist."""
    present, found = table.data.column_names, {}
    for role, setting in columns:
        named = (setting,) if isinstance(setting, str) else setting
        names: tuple[str, ...] = named or (role,)
        absent = [name for name in names if name not in present]
        for name in absent if role in REQUIRED or named else ():
            what = f"no column {show(name)}; the columns are: {listed(present)}"
            problems.add(Problem(table.name, what, f'name the column with [data.columns] {role} = "…"'))
        found[role] = () if absent else names
    return found


def check_baskets(
    table: Table, names: dict[str, tuple[str, ...]], lines: pd.DataFrame, hours: float, problems: Problems
) -> None:
    """Report baskets of two users and baskets that last too long; warn of those that look like two."""
    if "user_id" in lines:
        check_one_user(table, names, lines, problems)
    if "time" in lines:
        check_duration(table, lines, hours, problems)
    warn_of_shared_numbers(table, names["basket_id"], lines["basket_id"], lines.get("time"), problems)


def check_returns(table: Table, column: str, quantity: pd.Series[float], problems: Problems) -> None:
    """Report negative quantities (n,)."""
    what = f'column "{column}" is negative: a return is not a purchase'
    way_out = 'leave them out with [etl] returns = "drop", or subtract them from the purchases'
    table.refuse(quantity.lt(0).to_numpy(), quantity, what, way_out, problems)


def check_one_user(
    table: Table, names: dict[str, tuple[str, ...]], lines: pd.DataFrame, problems: Problems
) -> None:
    """Report lines whose user differs from the first user of their basket. An empty cell is no user."""
    user = lines["user_id"].cat.codes.where(lines["user_id"].notna())
    first = user.groupby(lines["basket_id"], observed=True, sort=False).transform("first")
    bad = (user.notna() & (user != first)).to_numpy()
    values = "basket " + lines["basket_id"].astype("str") + ", user " + lines["user_id"].astype("str")
    key = ", ".join(f'"{name}"' for name in (*names["basket_id"], *names["user_id"]))
    way_out = (
        "a basket is one receipt of one user: name the columns of the date and the till, too, or set "
        f"[data.columns] basket_id = [{key}]"
    )
    table.refuse(bad, values, "baskets of two users; the second user is in", way_out, problems)


def check_duration(table: Table, lines: pd.DataFrame, basket_hours: float, problems: Problems) -> None:
    """Report lines more than `basket_hours` after the first of their basket."""
    first = lines.groupby("basket_id", observed=True, sort=False)["time"].transform("min")
    hours = (lines["time"] - first) / 3600
    values = (
        "basket " + lines["basket_id"].astype("str") + ", " + hours.round(1).astype("str") + " hours after"
    )
    what = f"baskets that last over {basket_hours:g} hours; late lines are in"
    way_out = (
        "basket_id seems to be reused: name the column of the till or the date, too, "
        'as in [data.columns] basket_id = ["date", "till", "receipt"], or raise [etl] basket_hours'
    )
    table.refuse((hours > basket_hours).to_numpy(), values, what, way_out, problems)


def spread_users(lines: pd.DataFrame) -> pd.Series[pd.CategoricalDtype[str]]:
    """Give every line the user of its basket, (n,) category of str: one line may carry the id for all."""
    if "user_id" not in lines:
        nobody = pd.Categorical.from_codes(np.full(len(lines), -1), pd.Index([], dtype="str"))
        return pd.Series(nobody, index=lines.index)
    users = lines["user_id"].cat
    codes = users.codes.groupby(lines["basket_id"], observed=True, sort=False).transform("max")
    return pd.Series(pd.Categorical.from_codes(codes, users.categories), index=lines.index)
