"""Transactions tables in small files, read as the etl stage reads them."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from export_scripts.receipts.problems import BadInput, Problems
from export_scripts.receipts.reading import read_table
from export_scripts.receipts.transactions import read_lines
from export_scripts.settings import load_settings

GOOD = "user_id,basket_id,item_id,timestamp,quantity\nu,b,1,2024-01-01,1\nu,b,2,2024-01-01,1\n"


def read(path: Path, **overrides: object) -> pd.DataFrame:
    """Lines of one file; raises BadInput with all problems of the file."""
    settings = load_settings(overrides={"data.transactions": path, **overrides})
    problems = Problems()
    table = read_table(path, problems)
    lines = read_lines(table, settings.data, settings.etl, problems) if table else pd.DataFrame()
    problems.raise_if_any()
    return lines


def read_text(tmp_path: Path, text: str | bytes, **overrides: object) -> pd.DataFrame:
    path = tmp_path / "sales.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read(path, **overrides)


def read_columns(tmp_path: Path, **columns: object) -> pd.DataFrame:
    """Lines of a parquet file with these columns. Basket and item are filled in."""
    n = len(next(iter(columns.values())))  # type: ignore[arg-type]
    base = {"basket_id": ["b"] * n, "item_id": [str(i) for i in range(n)]}
    pa.parquet.write_table(pa.table(base | columns), tmp_path / "sales.parquet")
    return read(tmp_path / "sales.parquet")


def message(tmp_path: Path, text: str | bytes, **overrides: object) -> str:
    with pytest.raises(BadInput) as error:
        read_text(tmp_path, text, **overrides)
    return str(error.value)
