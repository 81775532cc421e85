"""Reads the products table and builds the catalog: one row per item, row 0 for the unknown item."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from export_scripts.receipts.database import Database
from export_scripts.receipts.ids import id_column
from export_scripts.receipts.problems import SHOWN_ROWS, Problem, Problems, listed, show
from export_scripts.receipts.reading.source import Source
from export_scripts.receipts.staging import stage
from export_scripts.receipts.tables import Cells, Table, text_column
from export_scripts.settings import DataSettings

CATALOG_COLUMNS = ("item_id", "name")  # before the category columns


def read_products(
    source: Source, data: DataSettings, drop: Mapping[str, object], database: Database, problems: Problems
) -> pd.DataFrame:
    """Return one row per product: item_id, name, and the columns that settings or the guess need.

    All values are str, "" where missing. Adds what is wrong to `problems`; the frame may then lack columns.
    """
    present = source.schema.names
    key = _id_column(present, data)
    wanted = {key: '[data] products_item_id = "…"'}
    wanted |= dict.fromkeys(drop, "[etl.drop]")
    wanted |= dict.fromkeys(data.category_columns, "[data] category_columns")
    wanted |= dict.fromkeys(data.name_columns, "[data] name_columns")
    names = data.name_columns or tuple(c for c in ("name",) if c in present)
    guesses = () if data.category_columns else _text_columns(source.schema)
    read = [column for column in present if column in {*wanted, *names, *guesses}]
    table = stage(source, read, (), database, problems)
    if table is None:
        return pd.DataFrame()
    for column in (column for column in wanted if column not in present):
        what = f"no column {show(column)}; the columns are: {listed(present)}"
        problems.add(Problem(source.name, what, f"correct the name in {wanted[column]}"))
    cells = {name: text_column(table, name, data.missing, problems) for name in read if name != key}
    if key not in present:
        return pd.DataFrame()
    ids = id_column(table, key, data.missing, problems)
    cells[key] = Cells(f"({ids.sql})::varchar", ids.joins)  # also kept for rules and categories that use it
    products = _frame(table, key, cells)
    if set(names) <= set(products):
        products["name"] = join_names(products[list(names)], data.name_case)
    check_conflicts(table, key, products, "product", problems)
    return products.drop_duplicates("item_id").reset_index(drop=True)


def _frame(table: Table, key: str, cells: Mapping[str, Cells]) -> pd.DataFrame:
    """Return the rows in their order, as item_id and the other columns."""
    columns = {f"v{number}": cell for number, cell in enumerate(cells.values())}
    found = table.database.arrow(f"{table.select(**columns)} order by position")
    text = {
        name: pd.Series(found[column].to_pandas(), dtype="str")
        for name, column in zip(cells, columns, strict=True)
    }
    return pd.DataFrame(
        {"item_id": text[key], **{n: t.fillna("") for n, t in text.items() if n != "item_id"}}
    )


def _id_column(present: Collection[str], data: DataSettings) -> str:
    """Return the name in the settings, else the name that the transactions use, else item_id."""
    as_in_transactions = data.columns.item_id or "item_id"
    return data.products_item_id or (as_in_transactions if as_in_transactions in present else "item_id")


def _text_columns(schema: pa.Schema) -> list[str]:
    """Return the columns whose type allows categories: text columns of parquet, all columns of csv."""

    def is_text(kind: pa.DataType) -> bool:
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_binary)
        return any(is_kind(kind) for is_kind in kinds)

    return [field.name for field in schema if is_text(field.type)]


def check_conflicts(
    table: Table, id_column: str, things: pd.DataFrame, what: str, problems: Problems
) -> None:
    """Report things listed twice with different values. The same row twice is harmless.

    The ids are in the first column of `things`; `what` they are is "product" or "store".
    """
    ids = things.iloc[:, 0]
    distinct = things[ids.notna()].drop_duplicates()
    repeated = distinct[distinct.duplicated(ids.name, keep=False)].iloc[:, 0].unique()
    bad = np.flatnonzero(ids.isin(repeated))
    if len(bad):
        first = bad[:SHOWN_ROWS].tolist()
        rows = tuple(zip(table.places(first), map(show, ids.iloc[first]), strict=True))
        told = f'column "{id_column}" lists a {what} more than once, with different values'
        problems.add(Problem(table.name, told, f"keep one row per {what}", rows, len(bad)))


def join_names(parts: pd.DataFrame, name_case: str) -> pd.Series[str]:
    """Join (n, columns) str to (n,) "first, second", without empty parts."""
    joined = pd.Series("", index=parts.index, dtype="str")
    for column in parts:
        part = parts[column]
        if name_case == "title":
            part = part.map({text: title_case(text) for text in part.unique()})
        comma = np.where((joined != "") & (part != ""), ", ", "")
        joined = joined + comma + part
    return joined


def title_case(text: str) -> str:
    """Turn BREAD:ITALIAN/FRENCH into Bread: Italian/French; sizes such as 22 LB stay as they are."""
    if text[:1].isdigit() or text[:1] == ".":
        return text
    words = re.sub(r"(?<![\d'])[^\W\d_]+('[^\W\d_]+)?", lambda word: word.group().capitalize(), text)
    return re.sub(r":\s*(?=\S)", ": ", words)


def not_merchandise(products: pd.DataFrame, drop: Mapping[str, Sequence[str]]) -> pd.Series[str]:
    """Return (n,) str: "" for merchandise, else the first matching rule, "department = FUEL"."""
    reason = pd.Series("", index=products.index, dtype="str")
    for column, values in drop.items():
        matches = products[column].isin(values) & (reason == "")
        reason = reason.mask(matches, f"{column} = " + products[column])
    return reason


def unused_rules(products: pd.DataFrame, drop: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the values of the drop list that no product has, as "department = FUELL"."""
    return [f"{c} = {v}" for c, values in drop.items() for v in values if not (products[c] == v).any()]


def guess_categories(products: pd.DataFrame, name_columns: Sequence[str]) -> list[str]:
    """Return the columns of words with 2 or more values, fewer than half the items; fewest values first."""
    rest = [str(c) for c in products if c not in {*CATALOG_COLUMNS, *name_columns}]
    counts = products[rest].nunique()
    words = [c for c in rest if 2 <= counts[c] < len(products) / 2 and not _is_numeric(products[c])]
    return sorted(words, key=lambda column: (counts[column], column))


def _is_numeric(text: pd.Series[str]) -> bool:
    return bool(pd.to_numeric(text[text != ""], errors="coerce").notna().all())


def build_catalog(
    products: pd.DataFrame, sold: pd.Index[str], category_columns: Sequence[str]
) -> pd.DataFrame:
    """Return the catalog: index = item_row; columns item_id, name, then the categories, all str.

    Row 0 is the unknown item. Listed and sold items follow in the order of item_id, so that the same
    shop always gets the same rows. The name of an item without a name is its id.
    """
    listed = products.reindex(columns=[*CATALOG_COLUMNS, *category_columns]).fillna("")
    unlisted = pd.DataFrame({"item_id": sold.difference(pd.Index(products["item_id"]))})
    catalog = pd.concat([listed, unlisted]).fillna("").sort_values("item_id")
    catalog["name"] = catalog["name"].where(catalog["name"] != "", catalog["item_id"])
    unknown = pd.DataFrame("", index=[0], columns=catalog.columns)
    return pd.concat([unknown, catalog], ignore_index=True).astype("str")
