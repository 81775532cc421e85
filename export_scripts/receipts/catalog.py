"""The products table, and the catalog made of it: one row per item, row 0 for the unknown one."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from export_scripts.receipts.problems import Problem, Problems
from export_scripts.receipts.tables import Table, text_column
from export_scripts.receipts.transactions import check_ids
from export_scripts.settings import DataSettings

CATALOG_COLUMNS = ("item_id", "name")  # before the category columns


def read_products(
    table: Table, data: DataSettings, drop: Mapping[str, object], problems: Problems
) -> pd.DataFrame:
    """One row per product: item_id, name, and all columns that settings or guess ask for; str, "" if missing.

    What is wrong is added to `problems`; the frame may then lack columns.
    """
    id_column = _id_column(table, data)
    wanted = {id_column: '[data] products_item_id = "…"'}
    wanted |= dict.fromkeys(drop, "[etl.drop]")
    wanted |= dict.fromkeys(data.category_columns, "[data] category_columns")
    wanted |= dict.fromkeys(data.name_columns, "[data] name_columns")
    present = table.data.column_names
    for column in (column for column in wanted if column not in present):
        what = f'no column "{column}"; the columns are: {", ".join(present)}'
        problems.add(Problem(table.name, what, f"correct the name in {wanted[column]}"))
    names = data.name_columns or tuple(c for c in ("name",) if c in present)
    guesses = () if data.category_columns else _text_columns(table)
    read = [column for column in present if column in {*wanted, *names, *guesses}]
    text = {column: text_column(table, column, data.missing, problems) for column in read}
    if id_column not in text:
        return pd.DataFrame()
    ids = text[id_column]  # stays a column, for rules and categories that name it
    check_ids(table, id_column, ids, problems)
    products = pd.DataFrame({"item_id": ids, **{c: t.fillna("") for c, t in text.items() if c != "item_id"}})
    if set(names) <= set(products):
        products["name"] = join_names(products[list(names)], data.name_case)
    check_conflicts(table, id_column, products, problems)
    return products.drop_duplicates("item_id").reset_index(drop=True)


def _id_column(table: Table, data: DataSettings) -> str:
    """As set; else named as in the transactions; else item_id."""
    like_transactions = data.columns.item_id or "item_id"
    found = like_transactions if like_transactions in table.data.column_names else "item_id"
    return data.products_item_id or found


def _text_columns(table: Table) -> list[str]:
    """Columns that can be guessed to be categories by their type: text in parquet, everything in csv."""

    def is_text(kind: pa.DataType) -> bool:
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind)

    return [field.name for field in table.data.schema if is_text(field.type)]


def check_conflicts(table: Table, id_column: str, products: pd.DataFrame, problems: Problems) -> None:
    """Report products listed twice with different values; the same row twice is harmless."""
    listed = products["item_id"].notna()
    distinct = products[listed].drop_duplicates()
    twice = distinct.loc[distinct.duplicated("item_id", keep=False), "item_id"].unique()
    bad = products["item_id"].isin(twice).to_numpy()
    what = f'column "{id_column}" lists a product more than once, with different values'
    table.refuse(bad, products["item_id"], what, "keep one row per product", problems)


def join_names(parts: pd.DataFrame, name_case: str) -> pd.Series:
    """(n, columns) str → (n,) "first, second"; empty parts are left out."""
    joined = pd.Series("", index=parts.index, dtype="str")
    for column in parts:
        part = parts[column]
        if name_case == "title":
            part = part.map({text: title_case(text) for text in part.unique()})
        comma = np.where((joined != "") & (part != ""), ", ", "")
        joined = joined + comma + part
    return joined


def title_case(text: str) -> str:
    """BREAD:ITALIAN/FRENCH → Bread: Italian/French; sizes such as 22 LB stay as they are."""
    if text[:1].isdigit() or text[:1] == ".":
        return text
    words = re.sub(r"(?<![\d'])[^\W\d_]+('[^\W\d_]+)?", lambda word: word.group().capitalize(), text)
    return re.sub(r":\s*(?=\S)", ": ", words)


def not_merchandise(products: pd.DataFrame, drop: Mapping[str, Sequence[str]]) -> pd.Series:
    """(n,) str: "" for merchandise, else the first rule that hits, "department = FUEL"."""
    reason = pd.Series("", index=products.index, dtype="str")
    for column, values in drop.items():
        hit = products[column].isin(values) & (reason == "")
        reason = reason.mask(hit, f"{column} = " + products[column])
    return reason


def unused_rules(products: pd.DataFrame, drop: Mapping[str, Sequence[str]]) -> list[str]:
    """Values of the drop list that no product has, as "department = FUELL"."""
    return [f"{c} = {v}" for c, values in drop.items() for v in values if not (products[c] == v).any()]


def guess_categories(products: pd.DataFrame, name_columns: Sequence[str]) -> list[str]:
    """Columns of words with at least 2 values and fewer than half as many as items, fewest values first."""
    rest = [c for c in products if c not in {*CATALOG_COLUMNS, *name_columns}]
    counts = products[rest].nunique()
    words = [c for c in rest if 2 <= counts[c] < len(products) / 2 and not _is_numeric(products[c])]
    return sorted(words, key=lambda column: (counts[column], column))


def _is_numeric(text: pd.Series) -> bool:
    return bool(pd.to_numeric(text[text != ""], errors="coerce").notna().all())


def build_catalog(products: pd.DataFrame, sold: pd.Index, category_columns: Sequence[str]) -> pd.DataFrame:
    """The catalog: index = item_row; item_id, name, then the category columns, all str.

    Row 0 is the unknown item. Listed and sold items follow in the order of item_id, so that the same
    shop always gets the same rows. An item without a name is called by its id.
    """
    listed = products.reindex(columns=[*CATALOG_COLUMNS, *category_columns]).fillna("")
    unlisted = pd.DataFrame({"item_id": sold.difference(products["item_id"])})
    catalog = pd.concat([listed, unlisted]).fillna("").sort_values("item_id")
    catalog["name"] = catalog["name"].where(catalog["name"] != "", catalog["item_id"])
    unknown = pd.DataFrame("", index=[0], columns=catalog.columns)
    return pd.concat([unknown, catalog], ignore_index=True).astype("str")
