"""`cesta events`: files into the log and out of it."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from operations import cli
from operations.events.event import read_event
from operations.events.sqlite_store import SqliteStore


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    """Run `cesta events` on a store of this test: (exit status, stdout, stderr)."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(
            sys, "argv", ["cesta", "events", *map(str, words), "--store", str(tmp_path / "log")]
        )
        status = 0
        try:
            cli.main()
        except SystemExit as stop:
            status = int(stop.code or 0)
        return status, *capsys.readouterr()

    return run


def kept(tmp_path: Path) -> list[dict[str, Any]]:
    store = SqliteStore(tmp_path / "log")
    listed = [json.loads(read_event(logged.content).content()) for logged in store.read(0)]
    store.close()
    return listed


RECEIPTS = """basket_id,item_id,user_id,at
100,milk,u7,2026-03-01 12:00:00
100,bread,u7,2026-03-01 12:00:00
101,beer,,2026-03-01 12:05:00
"""


def test_rows_of_one_basket_are_one_purchase(events: Any, tmp_path: Path) -> None:
    (tmp_path / "receipts.csv").write_text(RECEIPTS)
    status, out, _ = events("import", tmp_path / "receipts.csv", "--timezone", "Europe/Berlin", "--json")
    assert (status, json.loads(out)) == (0, {"accepted": 2, "known": 0, "position": 2, "refused": 0})
    eleven_utc = int(datetime(2026, 3, 1, 11, tzinfo=UTC).timestamp() * 1000)
    assert kept(tmp_path)[0] == {
        "type": "purchase",
        "event_id": "receipt:100",
        "user_id": "u7",
        "basket_id": "100",
        "item_ids": ["bread", "milk"],
        "at_ms": eleven_utc,
    }


def test_a_file_that_is_imported_again_adds_nothing(events: Any, tmp_path: Path) -> None:
    (tmp_path / "receipts.csv").write_text(RECEIPTS)
    events("import", tmp_path / "receipts.csv", "--timezone", "UTC")
    _, out, _ = events("import", tmp_path / "receipts.csv", "--timezone", "UTC", "--json")
    assert (json.loads(out)["accepted"], json.loads(out)["known"]) == (0, 2)


def test_a_time_without_an_offset_needs_a_zone(events: Any, tmp_path: Path) -> None:
    (tmp_path / "receipts.csv").write_text(RECEIPTS)
    status, _, err = events("import", tmp_path / "receipts.csv")
    assert status == 1
    assert "receipts.csv, line 2: at needs an offset from UTC" in err
    status, _, err = events("import", tmp_path / "receipts.csv", "--timezone", "Berlin")
    assert (status, err) == (1, 'there is no time zone "Berlin"; write one such as Europe/Berlin or UTC\n')


def test_parquet_has_the_same_rows(events: Any, tmp_path: Path) -> None:
    at = datetime(2026, 3, 1, 12, tzinfo=UTC)
    columns = {"basket_id": [100, 100], "item_id": [1, 2], "at": [at, at]}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "receipts.parquet")
    assert events("import", tmp_path / "receipts.parquet")[0] == 0
    (only,) = kept(tmp_path)
    assert (only["basket_id"], only["item_ids"], only["at_ms"]) == ("100", ["1", "2"], 1_772_366_400_000)


def test_a_wrong_line_is_named_and_the_others_are_kept(events: Any, tmp_path: Path) -> None:
    good = {"event_id": "e1", "basket_id": "b", "item_ids": ["milk"]}
    lines = [
        json.dumps(good),
        "{",
        json.dumps(good | {"item_ids": ["beer"]}),
        json.dumps(good | {"event_id": "e2"}),
    ]
    (tmp_path / "events.ndjson").write_text("\n".join(lines))
    status, out, err = events("import", tmp_path / "events.ndjson", "--json")
    assert (status, json.loads(out)) == (1, {"accepted": 2, "known": 0, "position": 2, "refused": 2})
    assert "line 2: this is not JSON" in err
    assert 'line 3: another event "e1" is at position 1' in err


def test_what_is_exported_can_be_imported(events: Any, tmp_path: Path) -> None:
    (tmp_path / "receipts.csv").write_text(RECEIPTS)
    events("import", tmp_path / "receipts.csv", "--timezone", "UTC")
    before = kept(tmp_path)
    _, out, _ = events("export")
    assert len(out.splitlines()) == 2
    assert json.loads(events("export", "--after", 1)[1])["event_id"] == "receipt:101"
    (tmp_path / "log").rename(tmp_path / "old")
    (tmp_path / "events.ndjson").write_text(out)
    assert events("import", tmp_path / "events.ndjson")[0] == 0
    assert kept(tmp_path) == before


def test_status_tells_position_and_size(events: Any, tmp_path: Path) -> None:
    status, _, err = events("status")
    assert (status, "there is no event log in" in err) == (1, True)
    (tmp_path / "receipts.csv").write_text(RECEIPTS)
    events("import", tmp_path / "receipts.csv", "--timezone", "UTC")
    told = json.loads(events("status", "--json")[1])
    assert told["position"] == 2
    assert told["bytes_per_event"] == round(told["bytes"] / 2)


def test_a_file_without_the_columns_is_refused(events: Any, tmp_path: Path) -> None:
    (tmp_path / "receipts.csv").write_text("basket,item\n1,2\n")
    status, _, err = events("import", tmp_path / "receipts.csv")
    assert (status, err) == (
        1,
        f"{tmp_path / 'receipts.csv'} has no column basket_id; columns: basket, item\n",
    )
    (tmp_path / "receipts.xlsx").touch()
    assert "is none of .ndjson, .jsonl, .csv, .parquet" in events("import", tmp_path / "receipts.xlsx")[2]
