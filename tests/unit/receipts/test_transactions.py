"""The transactions table: every way shops write files, ids, users and quantities."""

import gzip
from decimal import Decimal
from pathlib import Path

import hypothesis
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export_scripts.receipts.database import open_database
from export_scripts.receipts.problems import BadInput, Problems
from export_scripts.receipts.reading.csv_rows import sniff_delimiter
from export_scripts.receipts.reading.opening import open_source
from export_scripts.receipts.staging import stage
from export_scripts.receipts.tables import text_column
from export_scripts.receipts.written import bare
from tests.building.id_columns import run_on_csv
from tests.building.transactions import GOOD, read, read_columns, read_text


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(tmp_path: Path, delimiter: str) -> None:
    """This holds even if quoted values hold another delimiter."""
    text = 'basket_id,item_id\nb,"1,;2"\nb,"3,;4"\n'.replace('","', '"|"')
    rows = [["basket_id", "item_id"], ["b", '"1,;2"'], ["b", '"3,;4"']]
    text = "\n".join(delimiter.join(row) for row in rows) + "\n"
    assert list(read_text(tmp_path, text)["item_id"]) == ["1,;2", "3,;4"]


def test_byte_order_mark_gzip_crlf_and_blank_lines_are_no_trouble(tmp_path: Path) -> None:
    """Excel and most databases write at least one of them."""
    path = tmp_path / "sales.csv.gz"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode() + b"\r\n,,,,\r\n"))
    assert list(read(path)["item_id"]) == ["1", "2"]


@pytest.mark.parametrize("name", ["sales.csv", "sales.PARQUET"])
def test_files_are_known_by_their_first_bytes(tmp_path: Path, name: str) -> None:
    """Downloads are renamed: gzip without .gz, parquet as .csv or in capitals."""
    (tmp_path / "sales").write_bytes(gzip.compress(GOOD.encode()))
    assert list(read(tmp_path / "sales")["item_id"]) == ["1", "2"]
    pa.parquet.write_table(pa.table({"basket_id": ["b"], "item_id": ["1"]}), tmp_path / name)
    assert list(read(tmp_path / name)["item_id"]) == ["1"]


def test_values_may_have_line_breaks_and_quotes(tmp_path: Path) -> None:
    """Each quote must be closed; an error on one line stays on that line."""
    text = 'basket_id,item_id,name\nb,1,"Oil\n""extra"", 1 l"\nb,2,TV 32" LED\n'
    assert list(read_text(tmp_path, text)["item_id"]) == ["1", "2"]
    assert list(read_text(tmp_path, text.replace("Oil\n", "") + 'b,3,"Fine" oil\n')["item_id"]) == list("123")


def test_columns_without_a_name_are_left_out(tmp_path: Path) -> None:
    """Spreadsheets write one for each delimiter at the end of the lines."""
    assert list(read_text(tmp_path, "basket_id,item_id,, \nb,1,,\nb,2,,\n")["item_id"]) == ["1", "2"]


def test_ids_keep_leading_zeros_and_lose_blanks(tmp_path: Path) -> None:
    """ "007" and "7" are two products; " 7" and "7" are one."""
    lines = read_text(tmp_path, "basket_id,item_id\nb, 007\nb,7 \n")
    assert list(lines["item_id"]) == ["007", "7"]


def test_ids_that_went_through_a_float_column_become_whole_again(tmp_path: Path) -> None:
    """pandas writes 12 beside a missing value as 12.0."""
    lines = read_text(tmp_path, "user_id,basket_id,item_id\n12.0,b,1\n,b,2\n")
    assert lines["user_id"].isna().tolist() == [False, True]
    assert lines["user_id"].iloc[0] == "12"


def test_ids_that_only_sometimes_end_in_point_zero_are_left_alone(tmp_path: Path) -> None:
    """There ".0" is part of the id, of a version for example."""
    lines = read_text(tmp_path, "basket_id,item_id\nb,1.0\nb,1.1\n")
    assert list(lines["item_id"]) == ["1.0", "1.1"]


@pytest.mark.parametrize(
    ("users", "expected"),
    [
        (pa.array([9_007_199_254_740_993, None]), "9007199254740993"),  # 2^53 + 1: a float would lose the 3
        (pa.array([12.0, None]), "12"),
        (pa.array([Decimal("12"), None]), "12"),
        (pa.array(["12", None]).dictionary_encode(), "12"),
        (pa.array([b"12", None]), "12"),
        (pa.array([" 12 ", "NULL"]), "12"),
        (pa.array([b"12", None], pa.binary(2)), "12"),
        (
            pa.ExtensionArray.from_storage(pa.uuid(), pa.array([bytes(15) + b"\x0c", None], pa.binary(16))),
            "00000000-0000-0000-0000-00000000000c",
        ),
    ],
)
def test_ids_of_any_parquet_type_are_strings(tmp_path: Path, users: pa.Array, expected: str) -> None:
    """Missing ids stay missing."""
    user = read_columns(tmp_path, user_id=users)["user_id"]
    assert user.iloc[0] == expected
    assert pd.isna(user.iloc[1])


@pytest.mark.parametrize("bits", [11, 24, 53])
def test_float_ids_beyond_exact_integers_are_refused(tmp_path: Path, bits: int) -> None:
    """Their last digits are gone: 2^24 + 1 is 2^24 in 32 bits, and two customers have become one."""
    kind = {11: np.float16, 24: np.float32, 53: np.float64}[bits]
    with pytest.raises(BadInput, match=rf"(?s)user_id.*2\^{bits} or more.*row 2"):
        read_columns(tmp_path, user_id=pa.array(np.array([1, 2**bits + 1]).astype(kind)))


@pytest.mark.parametrize(("kind", "largest"), [(np.float16, 2**11 - 1), (np.float32, 2**24 - 1)])
def test_float_ids_up_to_there_are_whole_numbers(tmp_path: Path, kind: type, largest: int) -> None:
    users = read_columns(tmp_path, user_id=pa.array(np.array([largest, np.nan], kind)))["user_id"]
    assert users.iloc[0] == str(largest)
    assert pd.isna(users.iloc[1])


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters='"\r\n\0'), min_size=1, max_size=20))
@hypothesis.settings(max_examples=30, deadline=None)
def test_any_text_is_an_id(tmp_path_factory: pytest.TempPathFactory, item: str) -> None:
    """Any text comes back stripped, or as missing if nothing is left."""
    path = tmp_path_factory.mktemp("shop") / "sales.csv"
    path.write_text(f'basket_id,item_id\nb,"{item}x"\nb,plain\n', encoding="utf-8", newline="")
    source, problems = open_source(path, Problems()), Problems()
    assert source
    with open_database("1GB", path.parent) as database:
        table = stage(source, ["item_id"], (), database, problems)
        assert table
        cells = table.select(item=text_column(table, "item_id", (), problems))
        first = database.arrow(f"select item from ({cells}) where position = 0")["item"][0].as_py()
    assert first == bare(f"{item}x")


def test_without_optional_columns_lines_have_none(tmp_path: Path) -> None:
    """They have no user and no time, and every line counts 1."""
    lines = read_text(tmp_path, "basket_id,item_id\nb,1\nb,2\n")
    assert set(lines) == {"basket_id", "item_id", "quantity"}
    assert lines["quantity"].tolist() == [1.0, 1.0]


def test_one_line_may_carry_the_user_for_the_whole_basket(tmp_path: Path) -> None:
    """Order exports often fill the customer in on the first line only."""
    run_on_csv(tmp_path, "user_id,basket_id,item_id\n,b,1\nu,b,2\n,c,1\n")
    written = pd.read_parquet(tmp_path / "out" / "data" / "interactions.parquet")
    assert written["user_row"].tolist() == [1, 1, 0]


@pytest.mark.parametrize("empty", ["NULL", "nan", "<NA>", "\\N", "(null)", "#N/A"])
def test_an_empty_cell_is_no_user_however_it_is_written(tmp_path: Path, empty: str) -> None:
    lines = read_text(tmp_path, f"user_id,basket_id,item_id\n{empty},b,1\nNADIA,c,2\n")
    assert lines["user_id"].isna().tolist() == [True, False]


def test_columns_may_have_other_names(tmp_path: Path) -> None:
    """[data.columns] maps them."""
    names = {"data.columns.basket_id": "receipt", "data.columns.item_id": "sku"}
    assert list(read_text(tmp_path, "receipt,sku\nb,1\nb,2\n", **names)["item_id"]) == ["1", "2"]


def test_returns_can_be_let_through_for_dropping(tmp_path: Path) -> None:
    """[etl] returns = "drop" leaves them to the etl stage, which counts them."""
    text = "basket_id,item_id,quantity\nb,1,-2\nb,2,1\n"
    assert read_text(tmp_path, text, **{"etl.returns": "drop"})["quantity"].tolist() == [-2, 1]


def test_the_delimiter_survives_a_single_column() -> None:
    """A products table may hold ids only."""
    assert sniff_delimiter("item_id\n1\n2\n") == ","
