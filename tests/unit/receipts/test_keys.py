"""Keys of baskets: one column or several, and the warning that two receipts look like one basket."""

from pathlib import Path

import pandas as pd
import pytest

from tests.building.id_columns import run_on_csv

# Two tills give the same number on one day.
TILLS = """till,receipt,item_id,timestamp
A,1,x,2024-01-01T09:00
A,1,y,2024-01-01T09:00
A,2,x,2024-01-01T10:00
A,2,z,2024-01-01T10:00
B,1,y,2024-01-01T09:30
B,1,z,2024-01-01T09:30
"""
RECEIPT = {"columns__basket_id": "receipt"}


def test_a_key_of_several_columns_keeps_receipts_apart(tmp_path: Path) -> None:
    outcome = run_on_csv(tmp_path, TILLS, columns__basket_id='["till", "receipt"]')
    assert outcome.baskets == ["A/1", "A/2", "B/1"]
    assert outcome.warnings == []
    sizes = pd.read_parquet(tmp_path / "out" / "data" / "baskets.parquet")["size"]
    assert sizes.tolist() == [2, 2, 2]


@pytest.mark.parametrize("name", ["till", "KassenNr", "POS", "Terminal No.", "filiale", "shopId"])
def test_two_tills_in_one_basket_are_told(tmp_path: Path, name: str) -> None:
    outcome = run_on_csv(tmp_path, TILLS.replace("till", name, 1), **RECEIPT)
    assert outcome.baskets == ["1", "2"]
    (warning,) = outcome.warnings
    words = ["1 of 2 baskets", f'"{name}"', 'basket "1": "A" and "B"', f'basket_id = ["{name}", "receipt"]']
    assert all(word in warning for word in words), warning


def test_an_empty_till_is_no_other_till(tmp_path: Path) -> None:
    """Some exports name the till on the first line of a receipt only."""
    text = "till,basket_id,item_id\n,1,x\nA,1,y\n,1,z\nB,2,x\n,2,y\n"
    assert run_on_csv(tmp_path, text).warnings == []


def test_receipts_in_two_places_of_the_file_are_told(tmp_path: Path) -> None:
    """No column tells them apart, but the times do."""
    outcome = run_on_csv(tmp_path, TILLS.replace("till", "colour", 1), **RECEIPT)
    (warning,) = outcome.warnings
    assert all(
        word in warning for word in ("1 of 2 baskets", "rows 2 and 6", "name all columns of the key")
    ), warning


def test_a_file_in_the_order_of_its_receipts_is_not_suspected(tmp_path: Path) -> None:
    """The same till on each line, and times of their own: nothing to tell."""
    lines = [
        f"{t},{r},{i},2024-01-01T0{t}:0{m}" for t in (1, 2) for r in (t, t + 5) for m, i in enumerate("xyz")
    ]
    outcome = run_on_csv(tmp_path, "till,basket_id,item_id,timestamp\n" + "\n".join(lines) + "\n")
    assert outcome.warnings == []


def test_a_file_in_another_order_is_not_suspected(tmp_path: Path) -> None:
    """Sorted by item, no two lines of a basket are neighbours."""
    lines = [f"{basket},{item},2024-01-01T0{basket}:00" for item in "xyz" for basket in (1, 2, 3)]
    outcome = run_on_csv(tmp_path, "basket_id,item_id,timestamp\n" + "\n".join(lines) + "\n")
    assert outcome.warnings == []


def test_baskets_of_two_users_name_the_setting(tmp_path: Path) -> None:
    text = "user_id,basket_id,item_id\nu,1,x\nu,1,y\nv,1,x\nv,1,y\n,1,x\n,1,z\n"
    assert 'set [data.columns] basket_id = ["basket_id", "user_id"]' in run_on_csv(tmp_path, text).said
    outcome = run_on_csv(tmp_path, text, columns__basket_id='["basket_id", "user_id"]')
    assert outcome.baskets == ["1/", "1/u", "1/v"]  # unknown customers share the number 1
    assert outcome.users == ["u", "v"]


def test_different_keys_have_different_names(tmp_path: Path) -> None:
    text = "till,receipt,item_id\na/b,c,x\na/b,c,y\na,b/c,z\na,b/c,x\n"
    outcome = run_on_csv(tmp_path, text, columns__basket_id='["till", "receipt"]')
    assert outcome.baskets == [r"a/b\/c", r"a\/b/c"]


def test_a_key_has_no_empty_part(tmp_path: Path) -> None:
    said = run_on_csv(tmp_path, TILLS.replace("B,1,y", ",1,y"), columns__basket_id='["till", "receipt"]').said
    assert 'column "till" is empty (1 row)' in said
    assert "row 6: (empty)" in said


REFUSED = {
    "absent": ('["store", "receipt"]', 'no column "store"; the columns are: till, receipt'),
    "empty": ("[]", "write one name, or a list of names"),
    "nameless": ('["till", ""]', "write one name, or a list of names"),
    "number": ("5", "write one name, or a list of names"),
    "twice": ('["till", "till"]', "lists till more than once"),
}


@pytest.mark.parametrize(("key", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_a_key_that_cannot_be_used_is_refused(tmp_path: Path, key: str, words: str) -> None:
    outcome = run_on_csv(tmp_path, TILLS, columns__basket_id=key)
    assert outcome.refused
    assert words in outcome.said


@pytest.mark.parametrize("role", ["item_id", "user_id"])
def test_items_and_users_have_one_column(tmp_path: Path, role: str) -> None:
    """Requests name them by one value."""
    said = run_on_csv(tmp_path, TILLS, **RECEIPT, **{f"columns__{role}": '["till", "item_id"]'}).said
    assert "name one column" in said
