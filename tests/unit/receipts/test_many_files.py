"""Many files as one table: folders, hive folders, patterns and buckets, and what parts may not do."""

import gzip
import json
import os
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from export_scripts.receipts.problems import Problems
from export_scripts.receipts.reading.opening import open_source
from export_scripts.receipts.reading.parts import parts_state
from export_scripts.receipts.reading.source import Unreadable
from export_scripts.settings import load_settings
from operations.errors import CestaError
from tests.building.id_columns import run_etl
from tests.running.network import DENY, BadNetwork
from tests.running.s3 import S3

HEADER = "basket_id,item_id\n"


def write(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def parquet(**columns: object) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def rows_of(path: Path | str, *columns: str) -> list[tuple[object, ...]]:
    """The place and the cells of each row of the table."""
    problems = Problems()
    source = open_source(path, problems)
    assert source, problems.collected
    return [
        (source.place(number), *row.values())
        for batch, numbers in source.record_batches(problems, columns or None)
        for number, row in zip(numbers.tolist(), batch.to_pylist(), strict=True)
    ]


def said_of(path: Path | str) -> str:
    """The problems of a table."""
    problems = Problems()
    if source := open_source(path, problems):
        try:
            list(source.record_batches(problems))
        except Unreadable:
            assert problems.collected
    return "\n".join(map(str, problems.collected))


def test_a_folder_is_one_table_in_the_order_of_names(tmp_path: Path) -> None:
    """Marks, hidden and empty files are passed over, and parts without rows. Columns may change places."""
    files: dict[str, str | bytes] = {
        "part-2.csv.gz": gzip.compress(b"item_id;basket_id\ny;2\n"),
        "part-1.csv": HEADER + "1,x\n1,y\n",
        "part-3.csv": HEADER,
        "part-4.csv": "",
        "part-5.csv.gz": gzip.compress(b""),
        "_SUCCESS": "done",
        ".part-1.csv.crc": "no table",
        "_temporary/part-9.csv": "lost,rows\n1,2\n",
    }
    folder = write(tmp_path / "sales", files)
    assert rows_of(folder) == [
        ("2 of part-1.csv", "1", "x"),
        ("3 of part-1.csv", "1", "y"),
        ("2 of part-2.csv.gz", "2", "y"),
    ]


def test_the_command_reads_a_folder_and_names_it_in_one_line(tmp_path: Path) -> None:
    """A thousand names would fill meta.json."""
    sales = write(tmp_path / "sales", {f"part-{n:03}.csv": HEADER + f"{n},x\n{n},y\n" for n in range(100)})
    names = {"x": "Tea", "y": "Jam"}
    items = {f"{item}.parquet": parquet(item_id=[item], name=[name]) for item, name in names.items()}
    outcome = run_etl(sales, write(tmp_path / "items", items))
    assert len(outcome.baskets) == 100
    meta = json.loads((tmp_path / "out" / "data" / "meta.json").read_text())
    assert meta["sources"] == [
        "sales (100 files, part-000.csv to part-099.csv)",
        "items (2 files, x.parquet to y.parquet)",
    ]


def test_the_same_rows_in_one_file_and_in_many_have_one_fingerprint(tmp_path: Path) -> None:
    lines = [f"{basket},{item}\n" for basket in range(9) for item in "xyz"[: 2 + basket % 2]]
    one = write(tmp_path / "one", {"sales.csv": HEADER + "".join(lines)})
    cuts = [lines[:4], lines[4:5], lines[5:]]
    parts = {f"sales/part-{n}.csv": HEADER + "".join(cut) for n, cut in enumerate(cuts)}
    many = write(tmp_path / "many", parts)
    prints = set()
    for folder, name in ((one, "sales.csv"), (many, "sales")):
        assert not run_etl(folder / name).refused
        prints.add(json.loads((folder / "out" / "data" / "meta.json").read_text())["fingerprint"])
    assert len(prints) == 1


def test_the_keys_of_hive_folders_are_columns(tmp_path: Path) -> None:
    """Values are written as in a URL. A column that the files have themselves is read from them."""
    files = {
        "date=2024-01-01/store=A%2FB/part-0.parquet": parquet(item=[1, 2], store=["own", "own"]),
        "date=2024-01-02/store=C/part-0.parquet": parquet(item=[3], store=["own"]),
        "date=__HIVE_DEFAULT_PARTITION__/store=C/part-0.parquet": parquet(item=[4], store=["own"]),
    }
    folder = write(tmp_path / "sales", files)
    assert [row[1:] for row in rows_of(folder)] == [
        (1, "own", "2024-01-01"),
        (2, "own", "2024-01-01"),
        (3, "own", "2024-01-02"),
        (4, "own", None),
    ]
    assert rows_of(folder, "date", "item")[2][1:] == ("2024-01-02", 3)
    assert rows_of(folder, "date")[2][1:] == ("2024-01-02",)
    assert rows_of(folder / "date=*" / "*" / "*.parquet", "date", "item")[2][1:] == ("2024-01-02", 3)


def test_a_hive_key_is_a_time(tmp_path: Path) -> None:
    files = {f"day=2024-01-0{n}/p.csv": HEADER + f"{n},x\n{n},y\n" for n in (2, 1)}
    outcome = run_etl(write(tmp_path / "sales", files), columns__timestamp="day")
    assert outcome.baskets == ["1", "2"]
    meta = json.loads((tmp_path / "out" / "data" / "meta.json").read_text())
    assert meta["time_range"] == ["2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z"]


def test_a_pattern_chooses_files_and_folders(tmp_path: Path) -> None:
    """Two stars match folders of any depth; a folder that matches brings its files, each once."""
    names = ("2023/a.csv", "2024/a.csv", "2024/deep/b.csv", "2024/c.txt", "notes.md")
    folder = write(tmp_path, {name: HEADER + f"{name},x\n" for name in names})
    chosen = {
        "2024/*.csv": ["2024/a.csv"],
        "202[34]/?.csv": ["2023/a.csv", "2024/a.csv"],
        "**/*.csv": ["2023/a.csv", "2024/a.csv", "2024/deep/b.csv"],
        "2024*": ["2024/a.csv", "2024/c.txt", "2024/deep/b.csv"],
    }
    for pattern, expected in chosen.items():
        assert [row[1] for row in rows_of(folder / pattern)] == expected, pattern
    assert "the pattern holds no file of rows" in said_of(folder / "2025*.csv")


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    """One of them leads back to the table."""
    write(tmp_path / "elsewhere", {"a.csv": HEADER + "1,x\n"})
    folder = write(tmp_path / "sales", {"b.csv": HEADER + "2,x\n"})
    (folder / "old").symlink_to(tmp_path / "elsewhere")
    (folder / "all").symlink_to(folder)
    assert [row[:2] for row in rows_of(folder)] == [("2 of b.csv", "2"), ("2 of old/a.csv", "1")]


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tmp_path: Path) -> None:
    assert rows_of(write(tmp_path, {"sales[1].csv": HEADER + "1,x\n"}) / "sales[1].csv") == [(2, "1", "x")]


REFUSED = {
    "a column is missing": (
        {"a.csv": HEADER + "1,x\n", "b.csv": "basket_id,sku\n1,x\n"},
        "sales: b.csv lacks item_id and has sku, unlike a.csv",
    ),
    "the header is missing": (
        {"a.csv": HEADER + "1,x\n", "b.csv": "1,x\n1,y\n"},
        "sales: b.csv lacks basket_id, item_id and has 1, x, unlike a.csv",
    ),
    "a folder has no key": (
        {"day=1/a.csv": HEADER + "1,x\n", "b.csv": HEADER + "1,x\n"},
        "day=1/a.csv has day, unlike b.csv",
    ),
    "another type": (
        {"a.parquet": parquet(item_id=[1, 2]), "b.parquet": parquet(item_id=[1.0, None])},
        'b.parquet has another type in column "item_id": double, but int64 in a.parquet',
    ),
    "two kinds": (
        {"a.csv": HEADER + "1,x\n", "b.parquet": parquet(basket_id=["1"], item_id=["x"])},
        "files of two kinds: a.csv is csv, b.parquet is parquet",
    ),
    "a workbook": ({"a.csv": HEADER, "b.xlsx": b"PK\x03\x04rest"}, "sales: b.xlsx: the file cannot be read"),
    "a column twice": ({"a.csv": HEADER + "1,2\n", "b.csv": "x,x\n1,2\n"}, "listed twice in b.csv: x"),
    "a Delta table": ({"_delta_log/0.json": "{}", "a.parquet": parquet(item_id=[1])}, "it is a Delta table"),
    "an Iceberg table": (
        {"metadata/v1.metadata.json": "{}", "data/a.parquet": parquet(item_id=[1])},
        "it is an Iceberg table",
    ),
    "ragged rows in two files": (
        {"a.csv": HEADER + "1,x\n1\n", "b.csv": HEADER + "1,x,2\n"},
        '(2 rows)\n    row 3 of a.csv: 1 cells: "1"\n    row 2 of b.csv: 3 cells',
    ),
    "a quote in the second file": (
        {"a.csv": HEADER + "1,x\n", "b.csv": HEADER + '1,"x\n2,"y\n'},
        "sales: b.csv: quotes that do not match in the row of line 2",
    ),
    "another header in a file": (
        {"a.csv": HEADER + "1,x\n", "b.csv": HEADER + "1,x\nitem_id,basket_id\n"},
        "row 3 of b.csv: item_id, basket_id",
    ),
}


@pytest.mark.parametrize(("files", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_parts_that_are_no_table_are_named(tmp_path: Path, files: dict[str, str | bytes], words: str) -> None:
    said = said_of(write(tmp_path / "sales", files))
    assert words in said
    assert "way out: " in said


def test_of_many_parts_that_differ_the_first_are_named(tmp_path: Path) -> None:
    files = {f"p{n:04}.csv": "a,b\n1,2\n" for n in range(1000)} | {"00.csv": HEADER + "1,x\n"}
    said = said_of(write(tmp_path / "sales", files))
    assert said.count("lacks basket_id") == 5
    assert "995 more files have other columns than 00.csv" in said


def test_a_problem_of_a_column_names_part_and_row(tmp_path: Path) -> None:
    """So do warnings."""
    files = {"a.csv": HEADER + "1,x\n1,y\n", "b.csv": HEADER + "2,x\n" + HEADER + "2,\n"}
    assert "row 4 of b.csv: (empty)" in run_etl(write(tmp_path / "sales", files)).said
    (tmp_path / "sales" / "b.csv").write_text(HEADER + "2,x\n" + HEADER + "2,y\n")
    outcome = run_etl(tmp_path / "sales")
    assert outcome.warnings == ["sales: 1 row repeats the header and is passed over (row 3 of b.csv)"]


def test_types_that_hold_the_same_values_are_one_type(tmp_path: Path) -> None:
    """Writers choose them part by part: a column without values, categories, small integers."""
    columns = [
        {"item": pa.array(["x"]), "count": pa.array([1], pa.int32())},
        {"item": pa.array(["y"]).dictionary_encode(), "count": pa.array([2], pa.int64())},
        {"item": pa.array([None], pa.null()), "count": pa.array([3], pa.int8())},
        {"item": pa.array(["z"], pa.large_string()), "count": pa.array([None], pa.null())},
    ]
    files = {f"{n}.parquet": parquet(**column) for n, column in enumerate(columns)}
    rows = rows_of(write(tmp_path / "sales", files))
    assert [row[1:] for row in rows] == [("x", 1), ("y", 2), (None, 3), ("z", None)]


def test_changed_added_and_removed_parts_show_in_the_state(tmp_path: Path) -> None:
    folder = write(tmp_path / "sales", {"a.csv": HEADER, "b.csv": HEADER})
    states = [parts_state(folder, None)]
    write(folder, {"a.csv": HEADER + "1,x\n"})
    states.append(parts_state(folder))
    os.utime(folder / "b.csv", ns=(1, 1))
    states.append(parts_state(folder))
    write(folder, {"c.csv": HEADER})
    states.append(parts_state(folder))
    (folder / "a.csv").unlink()
    states.append(parts_state(folder))
    assert len(set(states)) == len(states)
    write(folder, {"_SUCCESS": "later"})
    assert parts_state(folder) == states[-1]


def put(s3: S3, bucket: str, files: Mapping[str, str | bytes]) -> None:
    for name, content in files.items():
        s3.request("PUT", f"/{bucket}/{name}", content.encode() if isinstance(content, str) else content)


def test_a_bucket_is_read_as_a_folder_is(s3: S3) -> None:
    bucket = s3.bucket()
    files: dict[str, str | bytes] = {
        "sales/day%3D1/a.parquet": parquet(item=[1, 2]),
        "sales/day%3D2/a.parquet": parquet(item=[3]),
        "sales/_SUCCESS": "done",
        "sales/empty.parquet": "",
        "other/b.parquet": parquet(sku=[4]),
        "till.csv.gz": gzip.compress((HEADER + "1,x\n" * 50_000).encode()),
    }
    put(s3, bucket, files)
    for place in ("sales", "sales/", "sales/*/*.parquet", "s*/day*"):
        assert [row[1:] for row in rows_of(f"s3://{bucket}/{place}")] == [(1, "1"), (2, "1"), (3, "2")], place
    assert rows_of(f"s3://{bucket}/sales/day=2/a.parquet") == [(1, 3)]
    assert rows_of(f"s3://{bucket}/till.csv.gz")[-1] == (50_001, "1", "x")
    assert "holds no file of rows" in said_of(f"s3://{bucket}/nothing/*.csv")
    states = [parts_state(f"s3://{bucket}/sales")]
    put(s3, bucket, {"sales/day%3D2/a.parquet": parquet(item=[5])})
    states.append(parts_state(f"s3://{bucket}/sales"))
    assert states[0] != states[1]


def test_a_bucket_that_refuses_is_one_sentence(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence names the URL and the credentials."""
    bucket = s3.bucket()
    put(s3, bucket, {"a.csv": HEADER + "1,x\n"})
    network = BadNetwork(s3.endpoint)
    for name, value in s3.variables(network.endpoint).items():
        monkeypatch.setenv(name, value)
    source = open_source(f"s3://{bucket}/a.csv", problems := Problems())
    assert source
    network.plan = lambda method, path: DENY
    with pytest.raises(CestaError, match=rf"s3://{bucket}/a\.csv: the store refuses these credentials"):
        list(source.record_batches(problems))
    network.close()


def test_a_url_in_the_settings_stays_a_url(tmp_path: Path) -> None:
    """A path is relative to the file that names it."""
    toml = tmp_path / "my.toml"
    toml.write_text('[data]\ntransactions = "s3://shop/sales/*.parquet"\nproducts = "items/*.csv"\n')
    data = load_settings(toml).data
    assert (data.transactions, data.products) == ("s3://shop/sales/*.parquet", tmp_path / "items/*.csv")
