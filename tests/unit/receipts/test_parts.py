"""A run of etl reads only the files that are new: the same bytes, sentences and row numbers as from all."""

import fcntl
import gzip
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from export_scripts.etl import etl
from export_scripts.freshness.code import SourceTree
from export_scripts.receipts.kept import digests
from export_scripts.receipts.kept import folder as kept
from export_scripts.receipts.kept.part import Made, Reading, Task, make_part
from export_scripts.receipts.problems import BadInput, Problems
from export_scripts.receipts.reading.opening import open_source
from export_scripts.receipts.room import needs_of
from export_scripts.settings import load_settings
from operations.errors import CestaError
from operations.records.file_record import sha256
from tests import ROOT
from tests.building.daily_sales import HEADER, day, kept_parts, run, whole, write_days

Read = list[str]


@pytest.fixture
def sales(tmp_path: Path) -> Path:
    """Three days of receipts."""
    return write_days(tmp_path / "sales")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Read:
    """The names of the files that were read."""
    names: Read = []

    def spy(reading: Reading, task: Task, report: Callable[[int], None]) -> Made:
        names.append(reading.source.parts[task.file].name)
        return make_part(reading, task, report)

    monkeypatch.setattr(kept, "make_part", spy)
    return names


def test_new_late_corrected_and_removed_files(tmp_path: Path, sales: Path, read: Read) -> None:
    """Every state of the folder gives the bytes of a run over all files, and only changed files are read."""
    out = tmp_path / "out"

    def changed(**files: str | None) -> Read:
        for name, text in files.items():
            path = sales / f"2024-03-{name[1:]}.csv"
            path.unlink() if text is None else path.write_text(text)
        read.clear()
        written = run(sales, out)
        names = [name[8:10] for name in read]
        assert written == whole(sales, tmp_path)
        assert len(kept_parts(out)) == len(list(sales.iterdir()))
        return names

    assert changed() == ["01", "02", "03"]
    assert changed() == []
    assert changed(_05=day(5)) == ["05"]  # a new day
    assert changed(_04=day(4)) == ["04"]  # a late one
    assert changed(_02=day(2, quantity="3")) == ["02"]  # a correction
    assert changed(_03=None) == []  # a day that is gone
    assert changed(_06=day(6), _01=None) == ["06"]


def test_a_renamed_file_is_not_read_again(tmp_path: Path, sales: Path, read: Read) -> None:
    """A part belongs to the content. Two files of the same content share one, and each counts its rows."""
    run(sales, tmp_path / "out")
    (sales / "2024-03-01.csv").rename(sales / "zz.csv")
    (sales / "again.csv").write_text(day(2))
    read.clear()
    written = run(sales, tmp_path / "out")
    assert read == []
    assert written == whole(sales, tmp_path)
    assert len(kept_parts(tmp_path / "out")) == 3


def test_a_warning_is_given_again_with_the_row(tmp_path: Path, sales: Path, read: Read) -> None:
    """A kept part knows what was passed over, wherever its file lies among the others."""
    (sales / "2024-03-02.csv").write_text(day(2) + HEADER)
    said = []
    for _ in range(2):
        problems = Problems()
        source = open_source(sales, problems)
        assert source
        with kept.open_parts(tmp_path / "out", True, load_settings().engine) as parts:
            assert parts.of(source, ["item_id"], tmp_path, problems, lambda done: None)
        said.append(problems.warnings)
    assert len(read) == 3
    assert said[0] == said[1]
    assert "row 122 of 2024-03-02.csv" in said[0][0]


@pytest.mark.parametrize("text", ["1,2\n", '1,2,3,"4\n', "\xff\xfe1\n"])
def test_a_file_with_problems_leaves_no_part(tmp_path: Path, sales: Path, text: str) -> None:
    """The sentence is that of a run that keeps nothing; what earlier runs have kept stays."""
    out = tmp_path / "out"
    run(sales, out)
    before = kept_parts(out)
    (sales / "2024-03-02.csv").write_text(day(2) + text, encoding="latin-1")
    (sales / "2024-03-05.csv").write_text(day(5))
    said = []
    for is_kept in (True, False):
        with pytest.raises(BadInput) as error:
            run(sales, out if is_kept else tmp_path / "other", etl__parts=is_kept)
        said.append(str(error.value))
    assert said[0] == said[1]
    assert "2024-03-02.csv" in said[0]
    assert kept_parts(out) == before
    assert not (tmp_path / "other").exists()


def test_a_first_run_with_problems_leaves_no_folder(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("basket_id,item_id\n1,1\n1,\n")
    with pytest.raises(BadInput, match=r'column "item_id" is empty \(1 row\)\s+row 3: \(empty\)'):
        run(tmp_path / "a.csv", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


@pytest.mark.parametrize("size", [0, 100, -1])
def test_a_damaged_part_is_read_again(tmp_path: Path, sales: Path, read: Read, size: int) -> None:
    """One that was cut, or that lost a bit."""
    written = run(sales, tmp_path / "out")
    part = kept_parts(tmp_path / "out")[1]
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content[:size] if size >= 0 else content)
    read.clear()
    assert run(sales, tmp_path / "out") == written
    assert len(read) == 1
    assert len(kept_parts(tmp_path / "out")) == 3


DIES = """
import os, sys
from pathlib import Path
from typing import Any
from tests.building import daily_sales as tests
rename, calls = Path.rename, iter(range(9))
Path.rename = lambda *given: os._exit(9) if next(calls) == 2 else rename(*given)
tests.run(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_a_run_that_dies_leaves_whole_parts(tmp_path: Path, sales: Path, read: Read) -> None:
    """It dies after it has put data/ and one part into their places."""
    died = subprocess.run([sys.executable, "-c", DIES, str(sales), str(tmp_path / "out")], cwd=ROOT)
    assert died.returncode == 9
    assert len(kept_parts(tmp_path / "out")) == 1
    written = run(sales, tmp_path / "out")
    assert len(read) == 2
    assert written == whole(sales, tmp_path)


def test_an_old_file_is_not_read_for_its_digest(
    tmp_path: Path, sales: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A correction of the same size with the old time of modification shows by its time of change."""
    digested: Read = []

    def spy(path: Path) -> str:
        digested.append(path.name)
        return sha256(path)

    monkeypatch.setattr(digests, "sha256", spy)
    monkeypatch.setattr(kept, "digest_of_code", str)
    monkeypatch.setattr(digests, "SETTLED_S", 3600)
    run(sales, tmp_path / "out")
    run(sales, tmp_path / "out")
    assert len(digested) == 6  # they are too young
    monkeypatch.setattr(digests, "SETTLED_S", 0)
    run(sales, tmp_path / "out")
    digested.clear()
    run(sales, tmp_path / "out")
    assert digested == []
    times = (sales / "2024-03-02.csv").stat()
    (sales / "2024-03-02.csv").write_text(day(2, quantity="4"))
    os.utime(sales / "2024-03-02.csv", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert run(sales, tmp_path / "out") == whole(sales, tmp_path)
    assert digested == ["2024-03-02.csv"]
    (tmp_path / "out" / "parts" / "files.json").write_text("{")
    assert run(sales, tmp_path / "out") == whole(sales, tmp_path)


def test_a_file_that_changes_while_it_is_read_has_no_part(
    tmp_path: Path, sales: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def grow(reading: Reading, task: Task, report: Callable[[int], None]) -> Made:
        made = make_part(reading, task, report)
        path = reading.source.parts[task.file].path
        if path.name == "2024-03-02.csv":
            os.utime(str(path), ns=(0, 0))
        return made

    monkeypatch.setattr(kept, "make_part", grow)
    run(sales, tmp_path / "out")
    assert len(kept_parts(tmp_path / "out")) == 2


def test_two_runs_at_once_are_refused(tmp_path: Path, sales: Path) -> None:
    """Each removes what it did not use."""
    run(sales, tmp_path / "out")
    handle = os.open(tmp_path / "out" / "parts", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(CestaError, match=rf"another etl writes to {tmp_path}/out; wait for its end"):
        run(sales, tmp_path / "out")
    os.close(handle)
    assert run(sales, tmp_path / "out")


def test_other_columns_and_other_code_are_other_parts(
    tmp_path: Path, sales: Path, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(sales, tmp_path / "out")
    read.clear()
    settings: Mapping[str, object] = {"data.transactions": sales, "data.columns.user_id": "quantity"}
    etl(load_settings(overrides=settings), tmp_path / "out")
    assert len(read) == 3
    read.clear()
    monkeypatch.setattr(kept, "digest_of_code", lambda: "another")
    etl(load_settings(overrides=settings), tmp_path / "out")
    assert len(read) == 3


def test_the_code_that_reads_files_is_part_of_the_key() -> None:
    """What it imports from elsewhere only fetches bytes, or tells of errors."""
    paths = SourceTree().paths("export_scripts.receipts.kept.part")
    elsewhere = {path for path in paths if not path.startswith("export_scripts/receipts/")}
    elsewhere -= {"ensemble/candidate_sampler/blanks.py"}  # in the key
    assert {path for path in elsewhere if not path.endswith("__init__.py")} <= {
        "operations/address.py",
        "operations/errors.py",
        "operations/terminal.py",
        *(f"operations/records/{name}.py" for name in ("disk", "file_record", "json_record", "place")),
        *(
            f"operations/records/{name}.py"
            for name in ("object_file", "object_path", "object_store", "parallel")
        ),
    }


def test_parquet_in_its_place_has_no_parts_and_removes_those_of_a_csv(tmp_path: Path, sales: Path) -> None:
    run(sales, tmp_path / "out")
    table = pa.table({"basket_id": [1, 1], "item_id": [1, 2]})
    pq.write_table(table, tmp_path / "sales.parquet")
    run(tmp_path / "sales.parquet", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["data"]


def test_the_estimate_of_the_disk_counts_new_parts_only(tmp_path: Path, sales: Path) -> None:
    """They go below --out, and without parts to the spill. A packed csv grows by 8, a line has 30 bytes."""
    run(sales, tmp_path / "out")
    known = sum(path.stat().st_size for path in sales.iterdir())
    (sales / "new.csv.gz").write_bytes(gzip.compress(day(5).encode()))
    new = 8 * (sales / "new.csv.gz").stat().st_size
    source = open_source(sales, Problems())
    assert source
    lines = known // 30 + new // 30
    with kept.open_parts(tmp_path / "out", True, load_settings().engine) as parts:
        needs = needs_of([source], "1GB", parts)
    assert needs.spill == 0
    assert needs.output == pytest.approx(new + 10 * lines, abs=40)
    assert needs_of([source], "1GB").spill == known + new
