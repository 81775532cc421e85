"""A table whose files a manifest names, as data warehouses write one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from export_scripts.receipts.problems import Problems
from export_scripts.receipts.reading.parts import find_parts, parts_state
from tests.running.s3 import S3


def write_parts(folder: Path) -> None:
    """Two files that a manifest names, and one that it does not."""
    (folder / "date=2024-01-01").mkdir(parents=True)
    for name in ("date=2024-01-01/part-0.csv", "part-0.csv", "of-an-earlier-unload.csv"):
        (folder / name).write_text("basket_id,item_id\n1,2\n")


LINES = "part-0.csv\n\n  date=2024-01-01/part-0.csv\npart-0.csv\n"  # one is listed twice
UNLOAD = json.dumps({"entries": [{"url": "part-0.csv"}, {"url": "date=2024-01-01/part-0.csv"}]})


@pytest.mark.parametrize("content", [LINES, UNLOAD, f"\ufeff{LINES}".replace("\n", "\r\n")])
def test_a_manifest_names_the_files(tmp_path: Path, content: str) -> None:
    """Each once, in the order of their names, with the columns of their folders."""
    write_parts(tmp_path)
    (tmp_path / "sales_manifest").write_text(content)
    found = find_parts(tmp_path / "sales_manifest", Problems())
    assert found
    assert [part.name for part in found.files] == [
        f"{tmp_path}/date=2024-01-01/part-0.csv",
        f"{tmp_path}/part-0.csv",
    ]
    assert [part.keys for part in found.files] == [(("date", "2024-01-01"),), ()]


def test_a_manifest_in_a_bucket(tmp_path: Path, s3: S3) -> None:
    bucket = s3.bucket()
    url = f"s3://{bucket}/unload/"
    for name in ("0000_part_00.csv", "0001_part_00.csv"):
        s3.request("PUT", f"/{bucket}/unload/{name}", b"basket_id,item_id\n1,2\n")
    entries = [{"url": f"{url}0001_part_00.csv", "meta": {"content_length": 22}}, {"url": "0000_part_00.csv"}]
    s3.request("PUT", f"/{bucket}/unload/manifest", json.dumps({"entries": entries}).encode())
    found = find_parts(f"{url}manifest", Problems())
    assert found
    assert [part.name for part in found.files] == [f"{url}0000_part_00.csv", f"{url}0001_part_00.csv"]
    assert found.files[0].open().read() == b"basket_id,item_id\n1,2\n"


@pytest.mark.parametrize("name", ["/etc/passwd", "0000_part_00.csv\n/etc/passwd"])
def test_a_manifest_in_a_bucket_reads_no_file_of_this_machine(s3: S3, name: str) -> None:
    bucket = s3.bucket()
    s3.request("PUT", f"/{bucket}/unload/manifest", name.encode())
    problems = Problems()
    assert find_parts(f"s3://{bucket}/unload/manifest", problems) is None
    assert "names /etc/passwd, a file of this machine" in problems.collected[0].what


def test_names_in_a_bucket_may_lead_to_another_folder(s3: S3) -> None:
    bucket = s3.bucket()
    s3.request("PUT", f"/{bucket}/sales/1.csv", b"basket_id,item_id\n1,2\n")
    s3.request("PUT", f"/{bucket}/lists/manifest", b"../sales/1.csv\n./../sales/1.csv")
    found = find_parts(f"s3://{bucket}/lists/manifest", Problems())
    assert found
    assert [part.name for part in found.files] == [f"s3://{bucket}/sales/1.csv"]


@pytest.mark.parametrize("size", [21, 23])
def test_a_file_of_another_size_than_was_unloaded_is_refused(tmp_path: Path, size: int) -> None:
    """A copy that ended half-way: a csv would be read without its last lines."""
    write_parts(tmp_path)
    entry = {"url": "part-0.csv", "meta": {"content_length": size, "record_count": 1}}
    (tmp_path / "manifest").write_text(json.dumps({"entries": [entry]}))
    problems = Problems()
    assert find_parts(tmp_path / "manifest", problems) is None
    assert f"/part-0.csv with {size} bytes, and there are 22" in problems.collected[0].what


def test_another_manifest_is_another_state(tmp_path: Path) -> None:
    """A build runs etl again once the manifest names another file."""
    write_parts(tmp_path)
    manifest = tmp_path / "sales.manifest"
    manifest.write_text("part-0.csv\n")
    before = parts_state(manifest)
    assert parts_state(manifest) == before
    manifest.write_text(LINES)
    assert parts_state(manifest) != before


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("nothing.csv\n", "it names .*/nothing.csv: no such file"),
        ("\n \n", "it names no file"),
        ('{"files": []}', "it is no list of files"),
        ('{"entries": [', "it is no list of files"),
        ('{"entries": [1]}', "it is no list of files"),
        (
            '{"entries": [{"url": "part-0.csv", "meta": {"content_length": "many"}}]}',
            "it is no list of files",
        ),
        ("s3://bucket/../secret.csv\n", "it names s3://bucket/../secret.csv: no object has such a name"),
        ("s3://bucket/a\0b.csv\n", "no object has such a name"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_refused(tmp_path: Path, content: str, what: str) -> None:
    (tmp_path / "manifest").write_text(content)
    problems = Problems()
    assert find_parts(tmp_path / "manifest", problems) is None
    (problem,) = problems.collected
    assert re.search(what, problem.what)


def test_a_folder_called_manifest_is_a_folder(tmp_path: Path) -> None:
    write_parts(tmp_path / "manifest")
    found = find_parts(tmp_path / "manifest", Problems())
    assert found
    assert len(found.files) == 3
