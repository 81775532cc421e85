"""Stores in receipts: which column, one store per receipt, regions from a table of their own."""

from pathlib import Path

import pandas as pd
import pytest

from export_scripts.etl import etl
from export_scripts.receipts.problems import BadInput
from export_scripts.receipts.shop import load_shop
from export_scripts.settings import load_settings
from tests.building.id_columns import run_on_csv

SALES = "store_id,basket_id,item_id\n20,a,x\n20,a,y\n3,b,x\n3,b,z\n,c,x\n,c,y\n"
REGIONS = "store_id,region\n3,north\n7,north\n20,south\n"


def prepare(folder: Path, sales: str = SALES, stores: str = "", **overrides: object) -> Path:
    """Run etl on these tables and return the folder of its tables."""
    (folder / "sales.csv").write_text(sales)
    overrides |= {"data.transactions": folder / "sales.csv"}
    if stores:
        (folder / "stores.csv").write_text(stores)
        overrides |= {"data.stores": folder / "stores.csv"}
    return etl(load_settings(overrides=overrides), folder / "out")


def test_each_basket_keeps_its_store(tmp_path: Path) -> None:
    """Rows follow the ids as text, "20" before "3"; an empty cell is the unknown store."""
    stores = load_shop(prepare(tmp_path)).stores
    assert stores
    assert stores.ids == ["", "20", "3"]
    assert stores.rows.tolist() == [1, 2, 0]
    assert stores.regions.tolist() == [0, 0, 0]


def test_stores_get_their_regions_and_listed_ones_a_row(tmp_path: Path) -> None:
    """Store 7 is listed and sold nothing yet: it may be asked for before its first receipt."""
    stores = load_shop(prepare(tmp_path, stores=REGIONS)).stores
    assert stores
    assert (stores.ids, stores.regions.tolist()) == (["", "20", "3", "7"], [0, 2, 1, 1])


def test_a_basket_stays_with_its_store_when_lines_are_dropped(tmp_path: Path) -> None:
    """The lines that are left decide the order of the baskets: x is returned in a."""
    sales = "filiale,basket_id,item_id,quantity\n5,b,x,-1\n4,a,y,1\n4,a,z,1\n5,b,y,1\n5,b,z,1\n"
    overrides = {"data.columns.store_id": "filiale", "etl.returns": "drop"}
    stores = load_shop(prepare(tmp_path, sales, **overrides)).stores
    assert stores
    assert [stores.ids[row] for row in stores.rows] == ["4", "5"]


def test_a_shop_without_stores_has_no_table_and_no_column_of_them(tmp_path: Path) -> None:
    folder = prepare(tmp_path, SALES.replace("store_id", "aisle"))
    assert load_shop(folder).stores is None
    assert not (folder / "stores.parquet").exists()
    assert "store_row" not in pd.read_parquet(folder / "baskets.parquet")


def test_a_receipt_of_two_stores_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as error:
        prepare(tmp_path, SALES.replace("20,a,y", "3,a,y"))
    said = str(error.value)
    assert "baskets of two stores; the second store is in" in said
    assert "basket a, store 3" in said
    assert '[data.columns] basket_id = ["basket_id", "store_id"]' in said


def test_a_column_that_looks_like_the_store_is_told(tmp_path: Path) -> None:
    said = run_on_csv(tmp_path, SALES.replace("store_id", "Filiale")).said
    assert 'set [data.columns] store_id = \\"Filiale\\"' in said


@pytest.mark.parametrize(
    ("sales", "stores", "sentence"),
    [
        (SALES, "store_id,area\n3,north\n", 'no column "region"; the columns are: store_id, area'),
        (SALES, "id,region\n3,north\n", 'no column "store_id"; the columns are: id, region'),
        (SALES, REGIONS + "3,south\n", "lists a store more than once, with different values"),
        (SALES.replace("store_id", "aisle"), REGIONS, "the transactions have no column of stores"),
    ],
)
def test_a_table_of_stores_that_does_not_fit_is_refused(
    tmp_path: Path, sales: str, stores: str, sentence: str
) -> None:
    with pytest.raises(BadInput) as error:
        prepare(tmp_path, sales, stores)
    assert sentence in str(error.value)


def test_stores_without_a_region_are_told(tmp_path: Path) -> None:
    (tmp_path / "stores.csv").write_text("store_id,region\n3,north\n")
    said = run_on_csv(tmp_path, SALES, stores=str(tmp_path / "stores.csv")).said
    assert '1 of 2 stores have no region, e.g. \\"20\\": is the table of stores complete' in said
