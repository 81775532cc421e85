"""The transactions table: every way shops write ids, times and quantities, and what is refused."""

import gzip
from datetime import date
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export_scripts.receipts.problems import BadInput, Problems
from export_scripts.receipts.tables import read_table, sniff_delimiter, text_column
from export_scripts.receipts.times import from_text
from export_scripts.receipts.transactions import known_users, read_lines
from export_scripts.settings import load_settings

GOOD = "user_id,basket_id,item_id,timestamp,quantity\nu,b,1,2024-01-01,1\nu,b,2,2024-01-01,1\n"
JAN_1 = 1_704_067_200  # 2024-01-01T00:00:00Z, `date -ud 2024-01-01 +%s`


def read(path: Path, **overrides: object) -> pd.DataFrame:
    """Lines of one file; raises BadInput with what was found."""
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
    """Lines of a parquet file with these columns; basket and item are filled in."""
    n = len(next(iter(columns.values())))  # type: ignore[arg-type]
    base = {"basket_id": ["b"] * n, "item_id": [str(i) for i in range(n)]}
    pa.parquet.write_table(pa.table(base | columns), tmp_path / "sales.parquet")
    return read(tmp_path / "sales.parquet")


def message(tmp_path: Path, text: str | bytes, **overrides: object) -> str:
    with pytest.raises(BadInput) as error:
        read_text(tmp_path, text, **overrides)
    return str(error.value)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(tmp_path: Path, delimiter: str) -> None:
    """Also where another delimiter stands inside quoted values."""
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
    """As long as each quote is closed; and what one line says wrongly stays on that line."""
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
    """Then ".0" is part of the id, a version for example."""
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
    """Missing ones stay missing."""
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
def test_any_text_is_an_id(tmp_path_factory: pytest.TempPathFactory, item: str) -> None:
    """Whatever letters it has, it comes back stripped, or as missing when nothing is left."""
    path = tmp_path_factory.mktemp("shop") / "sales.csv"
    path.write_text(f'basket_id,item_id\nb,"{item}x"\nb,plain\n', encoding="utf-8", newline="")
    table = read_table(path, Problems())
    assert table is not None
    assert text_column(table, "item_id", (), Problems()).iloc[0] == f"{item}x".strip()


@pytest.mark.parametrize(
    "written",
    [
        "2024-01-01",
        "2024-01-01T00:00:00Z",
        "2024-01-01 01:00:00+01:00",
        "2024-01-01 00:00:00.000",
        "2024-01-01 00:00:00 UTC",
        "2024-1-1",
        "20240101",
        "20240101000000",
        "1704067200",
        "1704067200000",
        "1704067200000000",
        "1704067200.0",
        "01/01/2024",
        "01.01.2024 00:00",
        "Jan 1, 2024",
    ],
)
def test_times_in_any_usual_form_are_utc_seconds(tmp_path: Path, written: str) -> None:
    """Zones are converted, and a time without one is UTC."""
    lines = read_text(tmp_path, f'basket_id;item_id;timestamp\nb;1;"{written}"\nb;2;"{written}"\n')
    assert lines["time"].tolist() == [JAN_1, JAN_1]


@pytest.mark.parametrize(
    "times",
    [
        pa.array([date(2024, 1, 1)]),
        pa.array([JAN_1]),
        pa.array([JAN_1 * 1000.0]),
        pa.array([pd.Timestamp("2024-01-01 02:00", tz="Europe/Helsinki")]),
        pa.array([pd.Timestamp("2024-01-01")], pa.timestamp("ns")),
    ],
)
def test_times_of_any_parquet_type_are_utc_seconds(tmp_path: Path, times: pa.Array) -> None:
    """As in csv."""
    assert read_columns(tmp_path, timestamp=times)["time"].tolist() == [JAN_1]


def test_day_first_is_found_when_one_date_shows_it() -> None:
    """The 25th is no month."""
    times = from_text(pd.Series(["03/04/2024", "25/04/2024"], dtype="str"), "")
    assert times is not None
    assert times.dt.month.tolist() == [4, 4]


def test_dates_that_read_both_ways_are_refused_until_a_format_is_set(tmp_path: Path) -> None:
    """Guessing would swap April and March without a word."""
    text = "basket_id,item_id,timestamp\nb,1,03/04/2024\nb,2,03/04/2024\n"
    report = message(tmp_path, text)
    assert "day first as well as month first" in report
    assert "timestamp_format" in report
    lines = read_text(tmp_path, text, **{"data.timestamp_format": "%d/%m/%Y"})
    assert lines["time"].iloc[0] == pd.Timestamp("2024-04-03").timestamp()


@pytest.mark.parametrize("written_as", ["%-d/%m/%Y", "%Q", "%d %d"])
def test_a_format_that_strptime_refuses_is_named(tmp_path: Path, written_as: str) -> None:
    """%-d is strftime's alone; a shell's date knows it."""
    report = message(tmp_path, GOOD, **{"data.timestamp_format": written_as})
    assert f'1 problem in the input\n  sales.csv: [data] timestamp_format "{written_as}" cannot' in report
    assert "way out: use strptime directives" in report


def test_one_wild_number_does_not_change_the_unit_of_the_others(tmp_path: Path) -> None:
    """Only the wild row is reported."""
    rows = "".join(f"b,{i},{JAN_1}\n" for i in range(9))
    report = message(tmp_path, f"basket_id,item_id,timestamp\n{rows}b,9,5\n")
    assert 'column "timestamp" is before 1990' in report
    assert "(1 row)" in report
    assert "row 11" in report


def test_without_optional_columns_lines_have_none(tmp_path: Path) -> None:
    """No user, no time, and every line counts 1."""
    lines = read_text(tmp_path, "basket_id,item_id\nb,1\nb,2\n")
    assert set(lines) == {"basket_id", "item_id", "quantity"}
    assert lines["quantity"].tolist() == [1.0, 1.0]


def test_one_line_may_carry_the_user_for_the_whole_basket(tmp_path: Path) -> None:
    """Order exports often fill the customer in on the first line only."""
    lines = read_text(tmp_path, "user_id,basket_id,item_id\n,b,1\nu,b,2\n,c,1\n")
    assert known_users(lines).astype("object").where(known_users(lines).notna(), None).tolist() == [
        "u",
        "u",
        None,
    ]


@pytest.mark.parametrize("empty", ["NULL", "nan", "<NA>", "\\N", "(null)", "#N/A"])
def test_an_empty_cell_is_no_user_however_it_is_written(tmp_path: Path, empty: str) -> None:
    lines = read_text(tmp_path, f"user_id,basket_id,item_id\n{empty},b,1\nNADIA,c,2\n")
    assert lines["user_id"].isna().tolist() == [True, False]


def test_columns_may_have_other_names(tmp_path: Path) -> None:
    """[data.columns] maps them."""
    names = {"data.columns.basket_id": "receipt", "data.columns.item_id": "sku"}
    assert list(read_text(tmp_path, "receipt,sku\nb,1\nb,2\n", **names)["item_id"]) == ["1", "2"]


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
        ["before 1990", "(2 rows)", "1970-01-01 00:00:17"],
    ),
    "return": (
        "basket_id,item_id,quantity\nb,1,-2\nb,2,1\n",
        ['column "quantity" is negative', "(1 row)", "row 2: -2", '[etl] returns = "drop"'],
    ),
    "no number": (
        'basket_id,item_id,quantity\nb,1,"1,5"\nb,2,\nb,3,inf\n',
        ['column "quantity" holds no number (3 rows)', 'row 2: "1,5"', "row 3: (empty)", 'row 4: "inf"'],
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
    """With the path as it was given."""
    with pytest.raises(BadInput, match=r"no such file: .*nowhere\.csv"):
        read(tmp_path / "nowhere.csv")


def test_a_folder_is_named_as_one(tmp_path: Path) -> None:
    """Spark writes a folder of parts."""
    with pytest.raises(BadInput, match=r"(?s)it is a folder.*join its files"):
        read(tmp_path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    """A hash as 16 bytes, for example: no request could name it."""
    hashes = pa.array([b"\xff" * 16, b"\xfe" * 16], pa.binary(16))
    with pytest.raises(BadInput, match=r'(?s)"user_id" is not valid UTF-8 \(2 rows\).*store it as text'):
        read_columns(tmp_path, user_id=hashes)


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    """A csv that was renamed, for example."""
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


def test_returns_can_be_let_through_for_dropping(tmp_path: Path) -> None:
    """[etl] returns = "drop" leaves them to the etl stage, which counts them."""
    text = "basket_id,item_id,quantity\nb,1,-2\nb,2,1\n"
    assert read_text(tmp_path, text, **{"etl.returns": "drop"})["quantity"].tolist() == [-2, 1]


def test_the_delimiter_survives_a_single_column() -> None:
    """A products table may hold ids only."""
    assert sniff_delimiter("item_id\n1\n2\n") == ","
