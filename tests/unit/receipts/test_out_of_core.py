"""Tables larger than the memory: the same bytes with little of it, and one sentence where there is none."""

import errno
import json
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from export_scripts import etl as stage
from export_scripts.etl import etl
from export_scripts.receipts import database, files, staging
from export_scripts.receipts.problems import BadInput, Problems
from export_scripts.receipts.reading.opening import open_source
from export_scripts.receipts.reading.source import Source
from export_scripts.receipts.room import NoRoomOnDisk, told_in_one_sentence
from export_scripts.settings import load_settings
from operations.errors import CestaError

LINES = 150_000


@pytest.fixture(scope="module")
def receipts() -> pa.Table:
    return make_receipts(LINES)


def make_receipts(lines: int) -> pa.Table:
    """Five lines a basket, three decimals in the quantities, a tenth of the lines twice."""
    rng = np.random.default_rng(5)
    basket = np.sort(rng.integers(0, lines // 5, lines))
    item = np.where(rng.random(lines) < 0.1, 7, rng.integers(0, 500, lines))
    return pa.table(
        {
            "basket_id": basket * 7,
            "user_id": basket % 900,
            "item_id": item,
            "timestamp": pa.array(1_700_000_000 + basket * 60, pa.timestamp("s")),
            "quantity": np.round(rng.random(lines) + 0.001, 3),
        }
    )


def run(path: Path, out: Path, **settings: str) -> dict[str, bytes]:
    """The written files of a run."""
    overrides = {"data.transactions": path} | {f"etl.{key}": value for key, value in settings.items()}
    folder = etl(load_settings(overrides=overrides), out)
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def fingerprint(written: dict[str, bytes]) -> str:
    stored: str = json.loads(written["meta.json"])["fingerprint"]
    return stored


def test_little_memory_writes_the_same_bytes_and_leaves_no_spill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread works within 20 MB, and spills up to 40 MB; without a spill, 28 MB do not suffice.

    How much several threads hold at the same moment depends on their timing.
    """
    pq.write_table(make_receipts(4 * LINES), tmp_path / "sales.parquet", row_group_size=20_000)
    connect, limits = duckdb.connect, {"threads": 1}
    monkeypatch.setattr(duckdb, "connect", lambda name, config: connect(name, config=config | limits))
    spill = tmp_path / "spill"
    roomy = run(tmp_path / "sales.parquet", tmp_path / "roomy", memory="1GB")
    tight = run(tmp_path / "sales.parquet", tmp_path / "tight", memory="28MB", spill=str(spill))
    assert tight == roomy
    assert list(spill.iterdir()) == []
    assert [path.name for path in (tmp_path / "tight").iterdir()] == ["data"]
    limits["max_temp_directory_size"] = "0KB"
    with pytest.raises(NoRoomOnDisk):
        run(tmp_path / "sales.parquet", tmp_path / "without", memory="28MB", spill=str(spill))


def test_no_memory_at_all_is_one_sentence(tmp_path: Path, receipts: pa.Table) -> None:
    pq.write_table(receipts, tmp_path / "sales.parquet")
    with pytest.raises(CestaError, match=r'does not fit into \[etl\] memory = "100KB": allow it more'):
        run(tmp_path / "sales.parquet", tmp_path / "out", memory="100KB")
    assert [path.name for path in tmp_path.iterdir()] == ["sales.parquet"]


def test_where_a_table_lies_and_how_it_is_stored_does_not_matter(
    tmp_path: Path, receipts: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parquet of plain types stays in its place; other types and csv are copied. Batches end anywhere."""
    receipts = receipts.slice(0, 20_000)
    pq.write_table(receipts, tmp_path / "plain.parquet", row_group_size=700)
    (tmp_path / "parts").mkdir()
    for part, start in enumerate((0, 1, 9_999)):
        end = (1, 9_999, 20_000)[part]
        pq.write_table(receipts.slice(start, end - start), tmp_path / "parts" / f"{part}.parquet")
    odd = receipts.set_column(0, "basket_id", receipts["basket_id"].cast(pa.string()).dictionary_encode())
    odd = odd.set_column(1, "user_id", receipts["user_id"].cast(pa.decimal128(21, 0)))
    odd = odd.set_column(3, "timestamp", receipts["timestamp"].cast(pa.timestamp("ns", "Asia/Tokyo")))
    pq.write_table(odd, tmp_path / "odd.parquet")
    pa.csv.write_csv(receipts, tmp_path / "sales.csv")
    prints = {fingerprint(run(tmp_path / "plain.parquet", tmp_path / "first"))}
    monkeypatch.setattr(database, "BATCH_ROWS", 100)
    monkeypatch.setattr(files, "GROUP_ROWS", 777)
    for name in ("plain.parquet", "parts", "odd.parquet", "sales.csv"):
        prints.add(fingerprint(run(tmp_path / name, tmp_path / "out")))
    assert len(prints) == 1


def test_plain_parquet_is_read_where_it_lies(
    tmp_path: Path, receipts: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of a hundred million lines would take the disk twice."""
    pq.write_table(receipts.slice(0, 100), tmp_path / "sales.parquet")
    monkeypatch.setattr(staging, "_copied", lambda *_: pytest.fail("copied"))
    assert run(tmp_path / "sales.parquet", tmp_path / "out")


def test_rows_of_many_parts_are_named(tmp_path: Path) -> None:
    """The parts stay in their places, and each counts its own rows."""
    (tmp_path / "sales").mkdir()
    for name, quantity in (("a", [1, 1]), ("b", [1, -2])):
        part = pa.table({"basket_id": [1, 2], "item_id": [5, 6], "quantity": quantity})
        pq.write_table(part, tmp_path / "sales" / f"{name}.parquet")
    with pytest.raises(BadInput, match=r"(?s)is negative: .* \(1 row\).*row 2 of b\.parquet: -2"):
        run(tmp_path / "sales", tmp_path / "out")


class Usage(NamedTuple):
    """What shutil.disk_usage returns."""

    total: int
    used: int
    free: int


@pytest.mark.parametrize(("free", "refused"), [(1_200_000, True), (2_000_000, False)])
def test_a_disk_that_is_too_small_is_refused_before_the_start(
    tmp_path: Path, receipts: pa.Table, monkeypatch: pytest.MonkeyPatch, free: int, refused: bool
) -> None:
    """150,000 lines of output take 1.5 MB; a tenth of the disk is left to others."""
    pq.write_table(receipts, tmp_path / "sales.parquet")
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(10**9, 10**9 - free, free))
    if not refused:
        assert run(tmp_path / "sales.parquet", tmp_path / "out")
        return
    monkeypatch.setattr(stage, "read_lines", lambda *_: pytest.fail("started"))
    with pytest.raises(NoRoomOnDisk, match=r"about 1\.5 MB on the disk of .*out, which has 1\.2 MB free"):
        run(tmp_path / "sales.parquet", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["sales.parquet"]


def test_a_disk_that_fills_meanwhile_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, receipts: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(receipts, tmp_path / "sales.parquet")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(NoRoomOnDisk, match=rf"the disk of {tmp_path}/out is full: free some of it"):
        run(tmp_path / "sales.parquet", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["sales.parquet"]


def test_a_spill_that_finds_no_room_is_one_sentence(tmp_path: Path) -> None:
    """The database itself counts what it may write."""
    limits: dict[str, str | bool | int | float | list[str]] = {
        "threads": 1,
        "memory_limit": "20MB",
        "temp_directory": str(tmp_path),
        "max_temp_directory_size": "1MB",
    }
    source, out = Source("sales", "csv", (), pa.schema([])), tmp_path / "out"
    with (
        duckdb.connect(config=limits) as small,
        pytest.raises(NoRoomOnDisk, match=f"the disk of {tmp_path} or of {out} is full"),
        told_in_one_sentence([source], "20MB", tmp_path, out),
    ):
        small.execute("create table numbers as select range, hash(range) from range(5000000)")


def test_a_damaged_page_is_a_problem_of_its_file(tmp_path: Path, receipts: pa.Table) -> None:
    path = tmp_path / "sales.parquet"
    pq.write_table(receipts, path, compression="zstd")
    content = bytearray(path.read_bytes())
    content[4:3000] = b"\xff" * 2996
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"sales\.parquet: the file cannot be read: "):
        run(path, tmp_path / "out")


def test_numbers_with_decimals_and_ids_of_decimals_are_kept_apart(tmp_path: Path) -> None:
    """Values are looked at once each, in the order of their first rows."""
    table = pa.table({"item_id": [Decimal("2"), Decimal("1"), None, Decimal("2")]})
    pq.write_table(table, tmp_path / "sales.parquet")
    source, problems = open_source(tmp_path / "sales.parquet", Problems()), Problems()
    assert source
    with database.open_database("1GB", tmp_path) as opened:
        column_of = staging.stage(source, ["item_id"], (), opened, problems)
        assert column_of
        column = column_of.distinct("item_id")
    assert column.distinct.to_pylist() == [Decimal("2"), Decimal("1")]
    assert column.counts.tolist() == [2, 1, 1]
