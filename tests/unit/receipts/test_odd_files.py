"""Files that are no plain tables: each is read, or refused in a sentence, at little cost."""

import gzip
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from export_scripts.receipts.reading import csv_text, parquet_rows
from tests.building.id_columns import run_etl, run_on_csv

GOOD = "basket_id,item_id\nb,x\nb,y\n"


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "sales.csv")
    assert "sales.csv: it is a pipe or a device" in run_etl(tmp_path / "sales.csv").said


def test_a_name_that_no_disk_holds_is_refused(tmp_path: Path) -> None:
    said = run_etl(tmp_path / ("s" * 300)).said
    assert "the file cannot be read" in said
    assert "way out: check its path and who may read it" in said


def test_a_file_that_unpacks_to_far_more_is_refused_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """20 MB can hold 20 GB of the same line."""
    monkeypatch.setattr(csv_text, "MOST_UNPACKED", 1 << 22)
    content = gzip.compress(GOOD.encode() + b"b,x\n" * (1 << 24))
    assert "unpacks to over 200 times its size" in run_on_csv(tmp_path, content).said
    assert run_on_csv(tmp_path, gzip.compress(GOOD.encode())).items == ["x", "y"]


def test_a_parquet_file_of_the_same_row_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A billion of them fit into a kilobyte."""
    monkeypatch.setattr(parquet_rows, "MOST_ROWS", 10**5)
    same = pa.array(["b"]).take(pa.array([0] * 10**6))
    pq.write_table(pa.table({"basket_id": same, "item_id": same}), tmp_path / "sales.parquet")
    said = run_etl(tmp_path / "sales.parquet").said
    assert "it claims 1,000,000 rows in " in said


def test_columns_of_parquet_that_are_listed_twice_are_named(tmp_path: Path) -> None:
    columns = [pa.array(["b", "b"]), pa.array(["x", "y"]), pa.array(["x", "y"])]
    table = pa.Table.from_arrays(columns, ["basket_id", "item_id", "item_id"])
    pq.write_table(table, tmp_path / "sales.parquet")
    assert "columns listed twice: item_id" in run_etl(tmp_path / "sales.parquet").said


def test_the_names_of_parquet_columns_are_read_as_those_of_a_csv(tmp_path: Path) -> None:
    """A csv with a byte order mark became parquet."""
    table = pa.table({"\ufeffbasket_id": ["b", "b"], ' "item_id"': ["x", "y"]})
    pq.write_table(table, tmp_path / "sales.parquet")
    assert run_etl(tmp_path / "sales.parquet").items == ["x", "y"]


def test_dashes_below_the_header_are_no_receipt(tmp_path: Path) -> None:
    """The command line of SQL Server prints them."""
    outcome = run_on_csv(tmp_path, GOOD.replace("item_id\n", "item_id\n---------,-------\n"))
    assert (outcome.items, outcome.baskets) == (["x", "y"], ["b"])
    (warning,) = outcome.warnings
    assert warning == "sales.csv: 1 row underlines the header and is passed over (row 2)"


NO_TEXT = {"zeros": b"\0" * 50, "packed twice": gzip.compress(gzip.compress(GOOD.encode()))}


@pytest.mark.parametrize("content", NO_TEXT.values(), ids=NO_TEXT.keys())
def test_bytes_that_are_no_text_are_not_called_utf16(tmp_path: Path, content: bytes) -> None:
    assert "it is no text, or text of another encoding" in run_on_csv(tmp_path, content).said


@pytest.mark.parametrize("content", ["basket_id,item_id", "\ufeff", "<xml/>"])
def test_a_header_alone_has_no_rows(tmp_path: Path, content: str) -> None:
    assert "has a header but no rows" in run_on_csv(tmp_path, content).said


def test_a_very_long_header_keeps_the_zeros_of_ids(tmp_path: Path) -> None:
    wide = ",".join(f"c{column:0100}" for column in range(12_000))
    outcome = run_on_csv(
        tmp_path, f"{wide},basket_id,item_id\n" + "".join(f"{',' * 12_000}b,00{i}\n" for i in "78")
    )
    assert outcome.items == ["007", "008"]


def test_millions_of_ragged_rows_are_counted(tmp_path: Path) -> None:
    said = run_on_csv(tmp_path, GOOD + "b\n\n" * 100_000).said
    assert "(100,000 rows)" in said
    assert "row 4: 1 cells" in said


@pytest.mark.parametrize(
    ("cells", "quantities"),
    [(["0,350", "2"], [0.35, 2]), (["1,5", "1,500"], [1.5, 1.5]), (["1.500", "2"], [1.5, 2])],
)
def test_decimal_commas_are_read(tmp_path: Path, cells: list[str], quantities: list[float]) -> None:
    """One of them shows that a comma parts no thousands."""
    lines = [f"b;{item};{cell}\n" for item, cell in zip("xy", cells, strict=True)]
    assert not run_on_csv(tmp_path, "basket_id;item_id;quantity\n" + "".join(lines)).refused
    written = pq.read_table(tmp_path / "out" / "data" / "interactions.parquet")
    assert written["quantity"].to_pylist() == pytest.approx(quantities)


@pytest.mark.parametrize("cells", [["1,500", "2"], ["1.500,5", "2"], ["1,5", "1.500"]])
def test_commas_that_may_part_thousands_are_refused(tmp_path: Path, cells: list[str]) -> None:
    lines = [f"b;{item};{cell}\n" for item, cell in zip("xy", cells, strict=True)]
    said = run_on_csv(tmp_path, "basket_id;item_id;quantity\n" + "".join(lines)).said
    assert 'column "quantity" holds no number (1 row)' in said
