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
