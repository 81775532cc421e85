"""The catalog: names, categories, rows that are not merchandise, and products tables that are refused."""

from pathlib import Path

import pandas as pd
import pytest

from export_scripts.receipts.catalog import (
    build_catalog,
    guess_categories,
    join_names,
    not_merchandise,
    read_products,
    title_case,
    unused_rules,
)
from export_scripts.receipts.database import open_database
from export_scripts.receipts.problems import BadInput, Problems
from export_scripts.receipts.reading.opening import open_source
from export_scripts.settings import load_settings


def read(tmp_path: Path, text: str, **overrides: object) -> pd.DataFrame:
    """Products of one csv; raises BadInput with all problems of the file."""
    path = tmp_path / "products.csv"
    path.write_text(text, encoding="utf-8")
    settings = load_settings(overrides={"data.transactions": "sales.csv", "data.products": path, **overrides})
    problems = Problems()
    source = open_source(path, problems)
    assert source
    with open_database("1GB", tmp_path) as database:
        products = read_products(source, settings.data, settings.etl.drop, database, problems)
    problems.raise_if_any()
    return products


def frame(**columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame(columns, dtype="str")


def test_the_id_column_is_named_as_in_the_transactions(tmp_path: Path) -> None:
    """It may have a name of its own, set or canonical."""
    like_sales = read(tmp_path, "sku,name\n1,Tea\n", **{"data.columns.item_id": "sku"})
    renamed = read(tmp_path, "code,name\n1,Tea\n", **{"data.products_item_id": "code"})
    canonical = read(tmp_path, "item_id,name\n1,Tea\n", **{"data.columns.item_id": "sku"})
    assert [list(products["item_id"]) for products in (like_sales, renamed, canonical)] == [
        ["1"],
        ["1"],
        ["1"],
    ]


def test_names_join_what_is_there() -> None:
    """An empty part leaves no comma behind."""
    parts = frame(kind=["ICE", "", "TEA"], size=["22 LB", "1 CT", ""])
    assert list(join_names(parts, "keep")) == ["ICE, 22 LB", "1 CT", "TEA"]
    assert list(join_names(parts, "title")) == ["Ice, 22 LB", "1 CT", "Tea"]


@pytest.mark.parametrize(
    ("shouted", "readable"),
    [
        ("ICE - CRUSHED/CUBED", "Ice - Crushed/Cubed"),
        ("BREAD:ITALIAN/FRENCH", "Bread: Italian/French"),
        ("CHILDREN'S CRÈME", "Children's Crème"),
        ("12/18&15PK CAN", "12/18&15PK CAN"),  # starts like a size, and sizes stay
        ("SOFT DRINKS 15PK", "Soft Drinks 15PK"),
        (".5 OZ", ".5 OZ"),
        ("", ""),
    ],
)
def test_title_case_reads_like_a_shelf_label(shouted: str, readable: str) -> None:
    """The Complete Journey writes everything in capitals."""
    assert title_case(shouted) == readable


def test_categories_are_columns_of_words_with_few_values_broad_to_fine() -> None:
    """Prices, descriptions that differ per item and columns with one value are not categories."""
    products = frame(
        item_id=list("123456"),
        name=list("abcdef"),
        kind=["x", "x", "y", "y", "", ""],  # 3 values are half of 6 items: too many
        aisle=["n", "n", "n", "s", "s", "s"],
        shop=["one"] * 6,
        price=["1", "2", "1", "2", "1", "2"],
        about=list("uvwxyz"),
    )
    assert guess_categories(products, ()) == ["aisle"]
    assert guess_categories(pd.concat([products] * 2), ()) == ["aisle", "kind"]
    assert guess_categories(products, ("aisle",)) == []


def test_the_catalog_is_ordered_by_id_and_starts_with_the_unknown_item() -> None:
    """It includes sold items that are not listed. An item without a name gets its id as name."""
    products = frame(item_id=["b", "a"], name=["Bread", ""], aisle=["x", ""])
    catalog = build_catalog(products, pd.Index(["c", "b"]), ["aisle"])
    assert catalog.to_numpy().tolist() == [["", "", ""], ["a", "a", ""], ["b", "Bread", "x"], ["c", "c", ""]]


def test_the_first_rule_that_hits_is_the_reason() -> None:
    """Every dropped item therefore counts once."""
    products = frame(item_id=["1", "2", "3"], dept=["FUEL", "FUEL", "FOOD"], kind=["GAS", "TEA", "TEA"])
    drop = {"dept": ["FUEL"], "kind": ["GAS", "COUPON"]}
    assert list(not_merchandise(products, drop)) == ["dept = FUEL", "dept = FUEL", ""]
    assert unused_rules(products, drop) == ["kind = COUPON"]


def test_the_same_product_row_twice_is_one_product(tmp_path: Path) -> None:
    """Exports that join on stores repeat rows."""
    assert len(read(tmp_path, "item_id,name\n1,Tea\n1,Tea\n2,Jam\n")) == 2


def test_rules_and_categories_may_name_the_id_column(tmp_path: Path) -> None:
    """Gift cards, for example, are dropped by their id, whatever the shop calls the column."""
    settings = {"data.products_item_id": "sku", "data.category_columns": ["sku"], "etl.drop.sku": ["gift"]}
    products = read(tmp_path, "sku,name\ngift,Card\n2,Jam\n", **settings)
    assert list(not_merchandise(products, {"sku": ["gift"]})) == ["sku = gift", ""]
    assert build_catalog(products, pd.Index([]), ["sku"])["sku"].tolist() == ["", "2", "gift"]


@pytest.mark.parametrize(
    ("text", "overrides", "words"),
    [
        (
            "item_id,name\n1,Tea\n2,Jam\n1,Milk\n",
            {},
            [
                'column "item_id" lists a product more than once',
                "(2 rows)",
                'row 2: "1"',
                'row 4: "1"',
                "one row per product",
            ],
        ),
        ("sku,name\n1,Tea\n", {}, ['no column "item_id"', "sku, name", "products_item_id"]),
        ("item_id,name\n1,Tea\n", {"data.name_columns": ["title"]}, ['no column "title"', "name_columns"]),
        (
            "item_id,name\n1,Tea\n",
            {"data.category_columns": ["kind"]},
            ['no column "kind"', "category_columns"],
        ),
        ("item_id,name\n1,Tea\n", {"etl.drop.dept": ["FUEL"]}, ['no column "dept"', "[etl.drop]"]),
        ("item_id,name\n,Tea\n2,Jam\n", {}, ['column "item_id" is empty (1 row)', "row 2"]),
        (f"item_id,name\n{'x' * 129},Tea\n", {}, ["over 128 bytes", "(1 row)", "row 2"]),
    ],
)
def test_bad_products_are_named_with_the_way_out(
    tmp_path: Path, text: str, overrides: dict[str, object], words: list[str]
) -> None:
    """The sentence has column, rows, count and the setting that helps."""
    with pytest.raises(BadInput) as error:
        read(tmp_path, text, **overrides)
    assert all(word in str(error.value) for word in ["products.csv", "way out: ", *words]), str(error.value)


def test_missing_columns_are_reported_together(tmp_path: Path) -> None:
    """Their order is the same every time."""
    with pytest.raises(BadInput, match=r'(?s)2 problems.*"dept".*"kind"'):
        read(tmp_path, "item_id\n1\n", **{"etl.drop.dept": ["FUEL"], "data.category_columns": ["kind"]})
