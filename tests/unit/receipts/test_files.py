"""Files as programs write and join them: headers, quotes, encodings, and what a message may print."""

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.building.id_columns import HEADER, run_etl, run_on_csv

LINES = "u,b,1\nu,b,2\n"


@pytest.mark.parametrize(
    "again", [HEADER, "\ufeff" + HEADER, HEADER.upper(), '"user_id", "basket_id","item_id"\n']
)
def test_a_repeated_header_is_passed_over(tmp_path: Path, again: str) -> None:
    """Files were joined, and each brought its own."""
    outcome = run_on_csv(tmp_path, HEADER + LINES + again + "v,c,3\nv,c,4\n")
    assert outcome.items == ["1", "2", "3", "4"]
    assert outcome.users == ["u", "v"]
    assert outcome.warnings == ["sales.csv: 1 row repeats the header and is passed over (row 4)"]


def test_rows_keep_their_numbers_behind_a_repeated_header(tmp_path: Path) -> None:
    said = run_on_csv(tmp_path, HEADER + LINES + HEADER + HEADER + "v,c,\n").said
    assert '"item_id" is empty (1 row)' in said
    assert "row 6: (empty)" in said


def test_a_repeated_header_in_parquet_is_passed_over(tmp_path: Path) -> None:
    """A joined csv was converted."""
    columns = {"basket_id": ["b", "basket_id", "b"], "item_id": ["x", "item_id", "y"]}
    pq.write_table(pa.table(columns), tmp_path / "sales.parquet")
    outcome = run_etl(tmp_path / "sales.parquet")
    assert outcome.items == ["x", "y"]
    assert "passed over (row 2)" in outcome.warnings[0]


@pytest.mark.parametrize("other", ["item_id,user_id,basket_id\n", "customer,basket_id,item_id\n"])
def test_another_header_is_refused(tmp_path: Path, other: str) -> None:
    """The rows below it have their columns in another order."""
    said = run_on_csv(tmp_path, HEADER + LINES + other + "v,c,3\n").said
    assert all(word in said for word in ("another header", "(1 row)", "row 4: ", "same columns")), said


def test_one_cell_like_a_name_is_no_header(tmp_path: Path) -> None:
    outcome = run_on_csv(tmp_path, HEADER + LINES + "user_id,c,3\nuser_id,c,4\n")
    assert outcome.users == ["u", "user_id"]
    assert outcome.warnings == []


@pytest.mark.parametrize("opening", ['u,b,"2\n', 'u,"b,2\n', '"u,b,2\n'])
def test_an_unclosed_quote_has_its_line_however_long_the_file(tmp_path: Path, opening: str) -> None:
    """Arrow's blocks are 16 MiB; the value that the quote opens is longer."""
    said = run_on_csv(tmp_path, HEADER + "u,b,1\n" + opening + "u,c,3\n" * 6_000_000).said
    assert "1 problem" in said
    assert "row of line 3: " in said or "row 3: " in said, said
    assert "close each quote" in said


def test_a_long_value_in_quotes_is_a_value(tmp_path: Path) -> None:
    """csv's own limit is 131,072 letters."""
    text = f'basket_id,item_id,note\nb,x,"{"long " * 40_000}\nnote"\nb,y,\n'
    assert run_on_csv(tmp_path, text).items == ["x", "y"]


PACKED = {
    "carriage returns": (HEADER + LINES).replace("\n", "\r").encode(),
    "the end of a DOS file": (HEADER + LINES + "\x1a").encode(),
    "gzip": gzip.compress((HEADER + LINES).encode()),
    "zstd": pa.compress((HEADER + LINES).encode(), "zstd", asbytes=True),
    "names in quotes behind blanks": b'user_id, "basket_id", "item_id"\nu, "b", "1"\nu, "b", "2"\n',
    "an invisible letter in a name": "user_id,basket_id\u200b,item_id\nu,b,1\nu,b,2\n".encode(),
}


@pytest.mark.parametrize("content", PACKED.values(), ids=PACKED.keys())
def test_files_are_read_whatever_their_name_says(tmp_path: Path, content: bytes) -> None:
    outcome = run_on_csv(tmp_path, content)
    assert (outcome.users, outcome.items, outcome.baskets) == (["u"], ["1", "2"], ["b"]), outcome.said


FOREIGN = {
    "UTF-16 without its mark": ((HEADER + LINES).encode("utf-16-le"), "it is UTF-16, not UTF-8"),
    "UTF-32": ((HEADER + LINES).encode("utf-32"), "it is UTF-16, not UTF-8"),
    "a zip file": (b"PK\x03\x04rest", "it is an Excel workbook or a zip file"),
    "an old workbook": (b"\xd0\xcf\x11\xe0rest", "it is an Excel workbook"),
    "xz": (b"\xfd7zXZ\0rest", "it is compressed with xz"),
    "half a gzip file": (gzip.compress((HEADER + LINES).encode())[:-20], "the file cannot be read"),
    "half a parquet file": (b"PAR1rest", "the file cannot be read"),
    "an encrypted parquet file": (b"PARErestPARE", "it is an encrypted parquet file"),
}


@pytest.mark.parametrize(("content", "words"), FOREIGN.values(), ids=FOREIGN.keys())
def test_other_files_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    outcome = run_on_csv(tmp_path, content)
    assert outcome.refused
    assert words in outcome.said
    assert "way out: " in outcome.said


def test_names_of_columns_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "sales.parquet"
    pq.write_table(pa.table({"basket_id": ["b"], "QQQQ": ["x"]}), path, store_schema=False)
    path.write_bytes(path.read_bytes().replace(b"QQQQ", b"Q\xff\xfeQ"))
    assert "the name of a column is not UTF-8" in run_etl(path).said


def test_no_message_steers_the_terminal(tmp_path: Path) -> None:
    """Names, cells, rows and paths are printed with escapes, and not all of 3,000 names."""
    steer, names = "\x1b[31m", ",".join(f"c{i}" for i in range(3000))
    for text in (
        f"a{steer},{names}\n" + "1," * 3000 + "1\n",
        f"a{steer},a{steer},basket_id,item_id\n1,2,b,x\n",
        f"basket_id,item_id\nb{steer}\n",
        f"basket_id,item_id,quantity\nb{steer},x,{steer}\nb,y\u202e\u0007\n",
    ):
        said = run_on_csv(tmp_path, text).said
        assert r"\x1b[31m" in said
        assert said.replace("\n", "").replace("…", "").isprintable()
        assert len(said) < 1500
    assert "… and 2,981 more" in run_on_csv(tmp_path, f"a,{names}\n" + "1," * 3000 + "1\n").said
    assert "\x1b" not in run_etl(tmp_path / f"no{steer}where.csv").said


def test_no_warning_steers_the_terminal(tmp_path: Path) -> None:
    text = "basket_id,item_id,store\x1b[31m\nb,x,1\x07\nb,y,2\x07\n"
    outcome = run_on_csv(tmp_path, text)
    assert outcome.warnings
    assert all(warning.isprintable() for warning in outcome.warnings)


BAD_QUANTITIES = {
    "infinity": pa.array([1.0, float("inf")]),
    "beyond any sale": pa.array([1, 2**63 - 1]),
    "beyond any sale, below zero": pa.array([1, -(2**63)]),
    "truth values": pa.array([True, False]),
    "moments": pa.array([1, 2], pa.timestamp("us")),
    "lists": pa.array([[1], [2]]),
    "errors": pa.array(["1", "#REF!"]),
}


@pytest.mark.parametrize("quantity", BAD_QUANTITIES.values(), ids=BAD_QUANTITIES.keys())
def test_quantities_that_are_none_are_refused(tmp_path: Path, quantity: pa.Array) -> None:
    columns = {"basket_id": ["b", "b"], "item_id": ["x", "y"], "quantity": quantity}
    pq.write_table(pa.table(columns), tmp_path / "sales.parquet")
    said = run_etl(tmp_path / "sales.parquet").said
    assert 'column "quantity" holds no number' in said
    assert "row 2: " in said
