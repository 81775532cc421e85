"""Transactions tables in small files, read as the etl stage reads them."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from export_scripts.receipts.database import open_database
from export_scripts.receipts.problems import BadInput, Problems
from export_scripts.receipts.reading.opening import open_source
from export_scripts.receipts.tables import Cells
from export_scripts.receipts.transactions import read_lines
from export_scripts.settings import load_settings

GOOD = "user_id,basket_id,item_id,timestamp,quantity\nu,b,1,2024-01-01,1\nu,b,2,2024-01-01,1\n"


def read(path: Path, **overrides: object) -> pd.DataFrame:
    """Lines of one file, ids as text; raises BadInput with all problems of the file."""
    settings = load_settings(overrides={"data.transactions": path, **overrides})
    problems = Problems()
    source = open_source(path, problems)
    with TemporaryDirectory() as spill, open_database("1GB", Path(spill)) as database:
        lines = source and read_lines(source, settings.data, settings.etl, database, problems)
        problems.raise_if_any()
        assert lines
        ids = {"basket_id": lines.basket, "item_id": lines.item, "user_id": lines.user}
        cells = {name: Cells(f"({cell.sql})::varchar", cell.joins) for name, cell in ids.items() if cell}
        cells |= {"quantity": lines.quantity.cells} | ({"time": lines.time} if lines.time else {})
        found: pd.DataFrame = database.arrow(f"{lines.table.select(**cells)} order by position").to_pandas()
    return found.drop(columns="position").astype(dict.fromkeys(ids.keys() & set(found), "str"))


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
