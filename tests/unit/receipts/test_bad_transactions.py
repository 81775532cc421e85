"""Transactions tables that are refused: each sentence names file, rows, count and way out."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from export_scripts.receipts.problems import BadInput
from tests.building.transactions import GOOD, message, read, read_columns

BAD = {
    "no item column": (
        "basket_id,sku\nb,1\n",
        ['no column "item_id"', "basket_id, sku", "[data.columns] item_id"],
    ),
    "empty file": ("", ["sales.csv", "empty"]),
    "only blank": ("\n\n", ["sales.csv"]),
    "header only": ("basket_id,item_id\n", ["no rows"]),
    "column twice": ("basket_id,item_id,item_id\nb,1,1\n", ["listed twice: item_id"]),
    "UTF-16": (GOOD.encode("utf-16"), ["UTF-16", "UTF-8"]),
    "broken encoding": (
        b"basket_id,item_id\nb,caf\xe9\nb,1\n\xff\n",
        ['column "item_id" is not valid UTF-8', "(1 row)", 'row 2: "caf\ufffd"', "row 4: 1 cells"],
    ),
    "ragged rows": (
        "basket_id,item_id\nb,1\nb,1,2\n\nb\n",
        ["2 cells of the header", "(2 rows)", "row 3: 3 cells", "row 5: 1 cells"],
    ),
    "a line before the header": (
        "sep=;\nbasket_id;item_id;quantity\nb;1;2\n",
        ["1 problem", "2 cells of the header", "(2 rows)", "the first line must be the header"],
    ),
    "a quote that opens a row": (
        'basket_id,item_id\nb,1\n"b,1\nb,2\n',
        ["1 problem", "(1 row)", "row 3: 1 cells", "close each quote"],
    ),
    "a quote that swallows the rest": (
        'basket_id,item_id\n"b","1"\nb,"2\nb,3\n',
        ["1 problem", "quotes that do not match", "line 3", "close each quote"],
    ),
    "two quotes that swallow what is between": (
        'basket_id,item_id,name\nb,1,"a\nb"\nb,2,"Extra\nb,3,Jam\nb,4,"Virgin\n',
        ["1 problem", "quotes that do not match", "line 4", "close each quote"],
    ),
    "workbook": (b"PK\x03\x04\x14\x00\x06\x00", ["1 problem", "Excel workbook", "give a csv"]),
    "empty ids": (
        "basket_id,item_id\nb,1\nb,\n ,NULL\n",
        ['"basket_id" is empty (1 row)', "row 4: (empty)", '"item_id" is empty (2 rows)', "row 3: (empty)"],
    ),
    "long id": (
        f"basket_id,item_id\nb,{'é' * 65}\nb,{'é' * 64}\n",
        ["over 128 bytes", "(1 row)", "row 2", "shorter ids"],
    ),
    "ids rounded by Excel": (
        "basket_id;item_id\nb;4.00638E+12\nb;4,00638E+12\nb;4E+12\nb;4E12\nb;4006381333931\n",
        ['"item_id" has ids that a spreadsheet rounded', "(3 rows)", 'row 2: "4.00638E+12"', "as text"],
    ),
    "unreadable time": (
        "basket_id,item_id,timestamp\nb,1,2024-01-01\nb,2,2024-13-45\nb,3,\n",
        [
            'column "timestamp" holds no readable time (2 rows)',
            'row 3: "2024-13-45"',
            "row 4: (empty)",
            "ISO",
        ],
    ),
    "wrong unit": (
        "basket_id,item_id,timestamp\nb,1,17\nb,2,17\n",
        ["no plausible times", "(2 rows)", 'row 2: "17"', "unix_ms"],
    ),
    "return": (
        "basket_id,item_id,quantity\nb,1,-2\nb,2,1\n",
        ['column "quantity" is negative', "(1 row)", "row 2: -2", '[etl] returns = "drop"'],
    ),
    "no number": (
        'basket_id,item_id,quantity\nb,1,"1,500"\nb,2,\nb,3,inf\n',
        ['column "quantity" holds no number (3 rows)', 'row 2: "1,500"', "row 3: (empty)", 'row 4: "inf"'],
    ),
    "two users": (
        "user_id,basket_id,item_id\nu,b,1\nv,b,2\n,b,3\n",
        ["baskets of two users", "(1 row)", "row 3", "basket b, user v", "one receipt of one user"],
    ),
    "basket id used again": (
        "basket_id,item_id,timestamp\nb,1,2024-01-01\nb,2,2024-01-03\n",
        ["over 24 hours", "(1 row)", "row 3", "basket b, 48.0 hours after", "basket_hours"],
    ),
}


@pytest.mark.parametrize(("text", "words"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_named_with_rows_count_and_way_out(
    tmp_path: Path, text: str | bytes, words: list[str]
) -> None:
    """The report can be acted on without opening the code."""
    report = message(tmp_path, text)
    assert "way out: " in report
    assert all(word in report for word in words), report


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The sentence has the path as it was given."""
    with pytest.raises(BadInput, match=r"no such file: .*nowhere\.csv"):
        read(tmp_path / "nowhere.csv")


def test_a_folder_without_rows_is_named(tmp_path: Path) -> None:
    """A job that failed leaves its marks."""
    (tmp_path / "_temporary").write_text("x")
    (tmp_path / "part-0.csv").touch()
    with pytest.raises(BadInput, match=r"(?s)the folder holds no file of rows.*empty files are passed over"):
        read(tmp_path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    """One example is a hash as 16 bytes: no request could name it."""
    hashes = pa.array([b"\xff" * 16, b"\xfe" * 16], pa.binary(16))
    with pytest.raises(BadInput, match=r'(?s)"user_id" is not valid UTF-8 \(2 rows\).*store it as text'):
        read_columns(tmp_path, user_id=hashes)


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    """One example is a csv that was renamed."""
    (tmp_path / "sales.parquet").write_text(GOOD)
    with pytest.raises(BadInput, match=r"sales\.parquet: the file cannot be read"):
        read(tmp_path / "sales.parquet")


def test_all_problems_are_in_one_report_and_rows_stop_at_five(tmp_path: Path) -> None:
    """Nobody wants to repair a file one error at a time, nor to read a thousand rows."""
    rows = "".join(f"b,{i},yesterday,-1\n" for i in range(7))
    report = message(tmp_path, f"basket_id,sku,timestamp,quantity\n{rows}")
    assert report.startswith("3 problems in the input")
    assert all(word in report for word in ['no column "item_id"', "no readable time (7 rows)", "is negative"])
    assert "row 6" in report
    assert "row 7" not in report
    assert "… and 2 more" in report
