"""Reading and publishing etl's items.json."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from operations.errors import CestaError
from operations.gateway.items import read_items, write_items
from operations.outputs import ITEMS
from tests import ROOT

MILK = {"1": {"name": "Milk", "department": "Dairy"}}


def test_data_without_items_has_none(tmp_path: Path) -> None:
    """Data of an older version; `cesta ask` then shows ids only."""
    assert read_items(tmp_path) is None
    with pytest.raises(CestaError, match=r'items\.json is missing; run "cesta etl" first'):
        write_items(tmp_path, tmp_path / "gateway")


def test_the_gateway_gets_the_file_and_its_compressed_copy(tmp_path: Path) -> None:
    (tmp_path / ITEMS).write_text(json.dumps({"items": MILK}))
    gateway = tmp_path / "gateway"
    gateway.mkdir()
    assert write_items(tmp_path, gateway) == 1
    content = (tmp_path / ITEMS).read_bytes()
    assert (gateway / ITEMS).read_bytes() == content
    assert gzip.decompress((gateway / f"{ITEMS}.gz").read_bytes()) == content


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "Invalid JSON"),
        (b'{"items": {"1"', "Invalid JSON"),
        (b"\xff\xfe", "Invalid JSON"),
        (b"[]", "the content is .*: it must be an object"),
        (b'{"1": 5}', 'the key "items" is missing'),
        (b'{"items": null}', 'the key "items" is None: it must be an object'),
        (b'{"items": {"1": 5}}', 'the key "items.1" is 5: it must be an object'),
        (b'{"items": {"1": {"name": 7}}}', 'the key "items.1.name" is 7: it must be a text'),
    ],
)
def test_a_damaged_file_is_one_sentence(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / ITEMS).write_bytes(content)
    with pytest.raises(CestaError, match=f'is damaged: {problem}.*; run "cesta etl" again'):
        read_items(tmp_path)


@pytest.mark.parametrize("words", [[], ["data"], ["data", "gateway", "more"], ["--help"]])
def test_wrong_arguments_show_the_usage(words: list[str]) -> None:
    command = [sys.executable, "-m", "operations.gateway.items", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr.startswith("usage: python -m operations.gateway.items")
    assert done.returncode == 1
