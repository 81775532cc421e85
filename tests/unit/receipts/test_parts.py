"""A run of etl reads only the files that are new: the same bytes, sentences and row numbers as from all."""

import fcntl
import gzip
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from export_scripts.engines import engine
from export_scripts.engines.local import ThisProcess
from export_scripts.etl import etl
from export_scripts.freshness.code import SourceTree
from export_scripts.receipts.kept import digests
from export_scripts.receipts.kept import folder as kept
from export_scripts.receipts.kept import part as part_module
from export_scripts.receipts.kept.kinds import kind_of, stored_as
from export_scripts.receipts.kept.part import Made, Reading, Task, make_part
from export_scripts.receipts.problems import BadInput, Problems
from export_scripts.receipts.reading.opening import open_source
from export_scripts.receipts.room import needs_of
from export_scripts.settings import load_settings
from operations.errors import CestaError
from operations.records.file_record import sha256
from tests import ROOT
from tests.running.s3 import S3

HEADER = "basket_id,user_id,item_id,timestamp,quantity\n"
Read = list[str]


def day(number: int, *, first_basket: int = 0, quantity: str = "1") -> str:
    """Receipts of one day, three lines each."""
    baskets = range(first_basket or 1000 * number, (first_basket or 1000 * number) + 40)
    lines = (
        f"{basket},{basket % 7},{(basket + step) % 11},"
        f"2024-03-{number:02} 10:{basket % 60:02}:00,{quantity}\n"
        for basket in baskets
        for step in (0, 1, 1)
    )
    return HEADER + "".join(lines)


@pytest.fixture
def sales(tmp_path: Path) -> Path:
    """Three days of receipts."""
    folder = tmp_path / "sales"
    folder.mkdir()
    for number in (1, 2, 3):
        (folder / f"2024-03-{number:02}.csv").write_text(day(number))
    return folder


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Read:
    """The names of the files that were read."""
    names: Read = []

    def spy(reading: Reading, task: Task, report: Callable[[int], None]) -> Made:
        names.append(reading.source.parts[task.file].name)
        return make_part(reading, task, report)

    monkeypatch.setattr(kept, "make_part", spy)
    return names


def run(path: Path | str, out: Path, **settings: object) -> dict[str, bytes]:
    """The written files of a run."""
    overrides = {"data.transactions": path} | {key.replace("__", "."): v for key, v in settings.items()}
    folder = etl(load_settings(overrides=overrides), out)
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def whole(path: Path, tmp_path: Path, **settings: object) -> dict[str, bytes]:
    """The written files of a run that keeps nothing."""
    written = run(path, tmp_path / "whole", etl__parts=False, **settings)
    assert [folder.name for folder in (tmp_path / "whole").iterdir()] == ["data"]
    return written


def kept_parts(out: Path) -> list[Path]:
    return sorted((out / "parts").glob("*.parquet"))


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


FIRST = {
    "basket_id": "1",
    "user_id": "7",
    "item_id": "5",
    "timestamp": "2024-03-01 10:00:00",
    "quantity": "1",
}
SECOND = FIRST | {"basket_id": "3"}


@pytest.mark.parametrize(
    ("files", "second"),
    [
        (1, {"user_id": "007", "item_id": "0x9", "timestamp": "2024-03-02T10:00:00", "quantity": "2.5"}),
        (2, {"user_id": "007", "item_id": "0x9", "timestamp": "2024-03-02T10:00:00", "quantity": "2.5"}),
        (2, {"user_id": "", "item_id": "crème", "timestamp": "2024-03-02", "quantity": "0"}),
        (2, {"user_id": "NULL", "basket_id": "2-b", "item_id": "-8"}),
        (2, {"user_id": "8.0", "item_id": "9223372036854775808", "timestamp": "1709290000"}),
        (2, {"user_id": "'8", "item_id": "=5", "timestamp": "", "quantity": "-1"}),
    ],
)
def test_kinds_of_cells_do_not_change_what_is_read(
    tmp_path: Path, files: int, second: dict[str, str]
) -> None:
    """The judge is the same text in parquet, which is not typed. Numbers meet text in one file or in two."""
    tables = []
    for cells in (FIRST, SECOND | second):
        other = {"item_id": "6", "basket_id": cells["basket_id"]}
        lines = [cells, cells | other, cells | {"basket_id": f"{cells['basket_id']}9"}]
        tables.append(pa.Table.from_pylist(lines))
    joined = pa.concat_tables(tables)
    pq.write_table(joined, tmp_path / "sales.parquet")
    (tmp_path / "csv").mkdir()
    for number, table in enumerate([joined] if files == 1 else tables):
        pa.csv.write_csv(table, tmp_path / "csv" / f"{number}.csv")

    def outcome(path: Path) -> object:
        try:
            written = run(path, tmp_path / f"out-{path.name}")
        except BadInput as error:
            return [(problem.what, problem.count, [v for _, v in problem.rows]) for problem in error.problems]
        return {name: content for name, content in written.items() if name != "meta.json"}

    assert outcome(tmp_path / "csv") == outcome(tmp_path / "sales.parquet")


def test_a_column_that_goes_on_as_text_is_read_again_as_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kind is chosen by the first rows."""
    monkeypatch.setattr(part_module, "LOOKED_AT", 2)
    (tmp_path / "a.csv").write_text("basket_id,item_id\n1,1\n1,2\n2,1\n2,x7\n")
    run(tmp_path / "a.csv", tmp_path / "out")
    assert part_module.read_facts(kept_parts(tmp_path / "out")[0]).kinds == ["integer", "text"]


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (["1", "-20", ""], "integer"),
        (["0", "999999999999999999"], "integer"),
        (["01"], "text"),
        (["+1"], "text"),
        (["-0"], "text"),
        ([" 1"], "text"),
        (["0xF00000000"], "text"),  # eleven letters, and a number of eleven digits
        (["2024-02-29 23:59:59"], "moment"),
        (["2023-02-29 23:59:59"], "text"),
        (["2024-02-29 23:59"], "text"),
        (["2024-02-29 24:00:00"], "text"),
        (["1970-01-01 00:00:00"], "text"),  # a placeholder
    ],
)
def test_only_what_is_written_in_one_way_is_typed(texts: list[str], kind: str) -> None:
    assert kind_of(pa.array(texts)) == kind


def test_moments_are_seconds() -> None:
    """2024-03-01 is day 19,783 since 1970: 19,783 × 86,400 s, and one more."""
    seconds = stored_as("moment", pa.array(["2024-03-01 00:00:01"]))
    assert seconds is not None
    assert seconds.to_pylist() == [1_709_251_201]


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
from tests.unit.receipts import test_parts as tests
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
        *(f"operations/records/{name}.py" for name in ("file_record", "json_record", "place")),
        *(f"operations/records/{name}.py" for name in ("object_file", "object_path")),
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


def test_any_number_of_workers_makes_the_same_parts(
    tmp_path: Path, sales: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1, 2 and 4 processes: the same bytes of data/, and of each part."""
    monkeypatch.setattr(kept, "LEAST_FOR_WORKERS", 0)
    (sales / "2024-03-02.csv").write_text(day(2).replace(",3,", ",c,"))
    of_each = {}
    for workers in [1, 2, 4]:
        out = tmp_path / str(workers)
        written = run(sales, out, engine__workers=workers)
        of_each[workers] = (written, [path.name for path in kept_parts(out)])
    assert of_each[1] == of_each[2] == of_each[4]


def test_workers_of_other_machines_send_their_parts(
    tmp_path: Path, sales: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They do not see the folder."""
    monkeypatch.setattr(kept, "LEAST_FOR_WORKERS", 0)
    expected = whole(sales, tmp_path)
    monkeypatch.setattr(engine, "open_engine", lambda settings: nullcontext(Elsewhere()))
    assert run(sales, tmp_path / "out", engine__name="ray") == expected
    assert len(kept_parts(tmp_path / "out")) == 3


class Elsewhere(ThisProcess):
    """An engine whose workers get nothing but what can be pickled."""

    def map(self, function: Any, partitions: Iterable[Any], shared: Any) -> Iterator[Any]:
        assert shared.folder is None
        shared = pickle.loads(pickle.dumps(shared))
        return (pickle.loads(pickle.dumps(function(shared, partition))) for partition in partitions)


def parquet(**columns: object) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def test_the_files_of_a_bucket_are_fetched_once(
    tmp_path: Path, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """csv and parquet, also by workers; a new version of an object is another file."""
    monkeypatch.setattr(kept, "LEAST_FOR_WORKERS", 0)
    fetched: Read = []
    find = kept.Parts._find

    def spy(self: kept.Parts, name: str) -> Path | None:
        found = find(self, name)
        fetched.extend([] if found else [name])
        return found

    monkeypatch.setattr(kept.Parts, "_find", spy)
    bucket = s3.bucket()

    def put(name: str, content: bytes) -> None:
        s3.request("PUT", f"/{bucket}/{name}", content)

    def outcome(kind: str, path: Path | str, out: str, **settings: object) -> object:
        fetched.clear()
        written = run(path, tmp_path / out, **settings)
        meta = {key: value for key, value in json.loads(written.pop("meta.json")).items() if key != "sources"}
        return written, meta

    for kind in ("csv", "parquet"):
        local = tmp_path / kind
        local.mkdir()
        for number in (1, 2):
            text = day(number).encode()
            table = pa.csv.read_csv(pa.BufferReader(text)).to_pydict()
            content = text if kind == "csv" else parquet(**table)
            (local / f"{number}.{kind}").write_bytes(content)
            put(f"{kind}/{number}.{kind}", content)
        url = f"s3://{bucket}/{kind}"
        expected = outcome(kind, local, "local", etl__parts=False)
        assert outcome(kind, url, f"out-{kind}", engine__workers=2 if kind == "csv" else 1) == expected
        assert len(fetched) == 2
        assert outcome(kind, url, f"out-{kind}") == expected
        assert fetched == []
        put(f"{kind}/2.{kind}", (local / f"1.{kind}").read_bytes())
        outcome(kind, url, f"out-{kind}")
        assert len(fetched) == 1
        assert len(kept_parts(tmp_path / f"out-{kind}")) == 2
