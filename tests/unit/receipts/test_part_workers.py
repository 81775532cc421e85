"""Parts are made by workers, here and elsewhere, and from a bucket: the same bytes."""

import json
import pickle
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from export_scripts.engines import engine
from export_scripts.engines.local import ThisProcess
from export_scripts.receipts.kept import folder as kept
from tests.building.daily_sales import day, kept_parts, run, whole, write_days
from tests.running.s3 import S3

Read = list[str]


@pytest.fixture
def sales(tmp_path: Path) -> Path:
    """Three days of receipts."""
    return write_days(tmp_path / "sales")


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
