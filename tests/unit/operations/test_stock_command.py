"""`cesta stock`: files become entries, and what is wrong in them has its place."""

import json
import sys
from io import StringIO
from pathlib import Path

import pytest

from cesta_client import Availability
from operations.cli import main
from operations.commands.stock import read_entries
from operations.errors import CestaError
from tests.running.scripted_shops import HttpShop, serve


def test_a_csv_file_and_ndjson_hold_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, lines = tmp_path / "stock.csv", tmp_path / "stock.ndjson"
    table.write_text("item_id,available,store_id\nmilk,false,\nbread,TRUE,367\neggs,,367\n")
    lines.write_text(
        '{"item_id": "milk", "available": false}\n\n'
        '{"item_id": "bread", "available": true, "store_id": "367"}\n'
        '{"item_id": "eggs", "available": null, "store_id": "367"}\n'
    )
    expected = [
        Availability("milk", False),
        Availability("bread", True, "367"),
        Availability("eggs", None, "367"),
    ]
    assert list(read_entries(table)) == list(read_entries(lines)) == expected
    monkeypatch.setattr(sys, "stdin", StringIO(lines.read_text()))
    assert list(read_entries(Path("-"))) == expected


@pytest.mark.parametrize("wrong", ["bread,perhaps", "bread"])
def test_a_line_that_says_nothing_is_named(tmp_path: Path, wrong: str) -> None:
    table = tmp_path / "stock.csv"
    table.write_text(f"item_id,available\nmilk,false\n{wrong}\n")
    if wrong == "bread":  # without a value, a store has what the whole shop has
        assert [entry.available for entry in read_entries(table)] == [False, None]
        return
    with pytest.raises(CestaError, match=r"stock\.csv: entry 2 is no item_id with available"):
        list(read_entries(table))


def test_set_tells_what_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table, key = tmp_path / "stock.csv", tmp_path / "key"
    table.write_text("item_id,available\nmilk,false\n")
    key.write_text("secret\n")
    answer = json.dumps({"version": 9, "changed": 1, "samplers": 2, "applied": 2}).encode()
    with serve(HttpShop()) as shop:
        shop.script = [(200, {}, answer)]
        options = ["--version", "9", "--replace", "--key-file", str(key), "--address", shop.address]
        monkeypatch.setattr(sys, "argv", ["cesta", "stock", "set", str(table), *options])
        with pytest.raises(SystemExit) as end:
            main()
    assert end.value.code == 0
    assert capsys.readouterr().out == "version 9 holds on 2 of 2 sampler processes\n"
    ((_, _, body),) = shop.seen
    assert json.loads(body) == {
        "version": 9,
        "replace": True,
        "items": [{"item_id": "milk", "available": False}],
    }
