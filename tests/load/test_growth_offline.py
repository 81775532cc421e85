"""The growth of a build: measured processes, exponents, the tables, and what is computed from them."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

from loadtests.growth_offline import __main__ as growth_offline
from loadtests.growth_offline import duckdb_etl, scale, tables
from loadtests.growth_offline.figures import exponent
from loadtests.growth_offline.measured import measure
from loadtests.growth_offline.memory_limit import parse_memory
from loadtests.growth_offline.records import keep, read_records
from loadtests.growth_offline.scale import Prices, Shop, extrapolate, release_bytes
from loadtests.growth_offline.stages import STAGES
from loadtests.shops.chain import SIZES, Size

if TYPE_CHECKING:
    from pathlib import Path

MIB = 2**20
TAKES = "data = bytearray({mib} << 20); data[::4096] = b'1' * len(data[::4096]); import time; time.sleep({s})"


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def stage(cpu_s: float, peak_mib: float, **steps: float) -> dict[str, Any]:
    spent = {name: {"cpu_s": value, "wall_s": value} for name, value in steps.items()}
    figures = {"cpu_s": cpu_s, "wall_s": cpu_s / 2, "peak_mib": peak_mib, "temporary_mib": 0.0}
    return figures | {"steps": spent}


def record(lines: int, **stages: dict[str, Any]) -> dict[str, Any]:
    return {
        "measured": "2026-11-30T09:00:00+00:00",
        "commit": "d1a25aa",
        "machine": {"cores": 2, "cpu": "some CPU"},
        "busy_cores_before": 0.0,
        "memory_limit": "12GiB",
        "lines": lines,
        "baskets": lines // 10,
        "users": lines // 100,
        "items": 5_000,
        "release": {"arrays/histories.items.npy": 4 * lines, "model.data": 200 * (lines // 100) + 9_000},
        "stages": stages,
    }


def records() -> dict[str, Any]:
    """Etl is linear; the tower grows with the square; the larger export needs too much memory."""
    killed = {"failed": "memory", "wall_s": 60.0, "cpu_s": 70.0, "peak_mib": 12_288, "temporary_mib": 0}
    others = {"evaluate": stage(5, 300), "publish": stage(1, 100)}
    small = {"DuckDB": stage(2, 100), "etl": stage(4, 150), "train": stage(100, 1_000, tower=50.0)}
    large = {"DuckDB": stage(20, 1_000), "etl": stage(40, 1_500), "train": stage(5_100, 1_000, tower=5_000.0)}
    return {
        "S2": record(10_000_000, **large, export=killed),
        "S1": record(1_000_000, **small, export=stage(10, 500), **others),
    }


def test_a_process_is_measured_with_its_children(tmp_path: Path) -> None:
    """A process takes 100 MiB, its child 150; each uses 0.1 s of CPU; 3 MiB of files come and go."""
    spin = "import time\nwhile time.process_time() < 0.1: pass\n"
    code = (
        f"import subprocess, sys, os\n{TAKES.format(mib=100, s=0)}\n"
        f"open('{tmp_path}/spill', 'wb').write(os.urandom(3 << 20))\n"
        f"subprocess.run([sys.executable, '-c', {spin + TAKES.format(mib=150, s=1.5)!r}], check=True)\n"
        f"os.remove('{tmp_path}/spill')\n{spin}"
    )
    measured = measure(python(code), tmp_path)
    assert (measured.code, measured.killed) == (0, False)
    assert 0.2 < measured.cpu_s < 10
    assert 250 < measured.peak_mib < 400
    assert measured.temporary_mib == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize("own_group", [True, False], ids=["by a control group", "watched"])
def test_a_process_above_its_limit_is_killed(tmp_path: Path, own_group: bool) -> None:
    """Where no group can be made, both are watched."""
    code = TAKES.format(mib=200, s=30)
    measured = measure(python(code), tmp_path, parse_memory("100MiB"), own_group=own_group)
    assert (measured.code, measured.killed) == (-9, True)
    assert measured.wall_s < 25
    within = measure(python("print(1)"), tmp_path, parse_memory("100MiB"), own_group=own_group)
    assert (within.code, within.killed) == (0, False)


def test_memory_is_written_with_its_unit() -> None:
    assert parse_memory("12GiB") == 12 * 2**30
    with pytest.raises(ValueError, match="12G is no amount of memory: write it as 12GiB or 500MiB"):
        parse_memory("12G")


def test_the_exponent_is_the_slope_of_the_logarithms() -> None:
    """2, 8 and 32 for 1, 2 and 4: each doubling costs four times as much. One point has no slope."""
    sizes = {name: record(lines) for name, lines in (("a", 1_000), ("b", 2_000), ("c", 4_000))}
    assert exponent(sizes, {"a": 2.0, "b": 8.0, "c": 32.0}) == pytest.approx(2)
    assert exponent(sizes, {"a": 2.0}) is None


def test_the_document_gets_all_sizes_with_their_dates(tmp_path: Path) -> None:
    """Sizes measured on different days join; a stage that was killed shows as such."""
    results, document = tmp_path / "measurements" / "x.json", tmp_path / "performance.md"
    for name, one in records().items():
        keep(results, name, one)
    marks = [
        f"<!-- bench:{name} -->\nold\n<!-- end -->\n" for name in ("growth_offline_sizes", "growth_offline")
    ]
    document.write_text("before\n" + "".join(marks) + "after\n")
    tables.write(read_records(results), document)
    text = document.read_text()
    rows = {
        cells[1].strip(): [cell.strip() for cell in cells[2:-1]]
        for cells in (line.split("|") for line in text.splitlines())
        if len(cells) > 2
    }
    assert text.startswith("before\n")
    assert text.endswith("<!-- end -->\nafter\n")
    assert rows["S2"][0] == "10,000,000"
    assert rows["S1"][4:6] == ["2026-11-30", "d1a25aa"]
    assert rows["**etl**"] == ["4.0 s / 2.0 s / 150 MiB", "40.0 s / 20.0 s / 1,500 MiB", "1.00", "1.00"]
    assert rows["train: tower"] == ["50.0 s", "5,000.0 s", "2.00", ""]
    assert rows["**export**"][:2] == ["10.0 s / 5.0 s / 500 MiB", "killed at 12GiB after 60 s"]
    assert rows["etl over DuckDB"][:2] == ["CPU 2.00, memory 1.50"] * 2
    assert rows["**whole build**"] == ["120 s / 60 s / 1,000 MiB", "-", "-", "-"]
    assert ET.parse(document.parent / tables.PLOT).getroot().tag.endswith("svg")


def test_a_larger_shop_is_computed_by_the_exponent() -> None:
    """Ten times the lines of S2: etl ten times as much, the tower a hundred times."""
    found = records()
    assert extrapolate(found, {"S1": 4.0, "S2": 40.0}, 1e8) == pytest.approx(400)
    assert extrapolate(found, {"S1": 50.0, "S2": 5_000.0}, 1e8) == pytest.approx(500_000)
    assert extrapolate(found, {"S2": 1.0}, 1e8) is None


def test_the_release_is_computed_file_by_file() -> None:
    """A release takes 4 bytes a line, 200 bytes of the graph for each user, and 9,000 bytes for the items."""
    shop = Shop("twice the lines, three times the users, four times the items", 2e6, 3e4, 2e4)
    assert release_bytes(records()["S1"], shop, user_floats=50) == 8e6 + 6e6 + 36_000


def test_prices_are_settings() -> None:
    """A build of 10⁹ lines by hand, at 1 for a core-hour and nothing else; only etl and train grow."""
    found = records()
    equal = {name: found["S1"]["stages"][name] for name in ("evaluate", "export", "publish")}
    found["S2"]["stages"] |= equal
    table = scale.sections(found, Prices(1, 0, 0), cores=4)["scale"]
    lines = {line.split("|")[1].strip(): line for line in table.splitlines() if line.startswith("|")}
    # By two sizes: etl 40 s × 100; the tower 5,000 s × 100²; the rest of train, which doubles with ten times
    # the lines, 100 s × 4; the others 5, 10 and 1 s.
    assert "1.1 h" in lines["**etl**, CPU"]
    hours = (4_000 + 5_000 * 100**2 + 100 * 4 + 5 + 10 + 1) / 3600
    assert f"{hours:,.2f}" in lines["**price of a build**"]
    assert "Prices of this table: 1 for a core and an hour" in table


def test_one_size_alone_promises_nothing() -> None:
    assert "Not computed yet" in scale.sections({"S1": records()["S1"]}, Prices(1, 1, 1), 4)["scale"]


def test_a_size_is_measured_stage_by_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar and etl find the same interactions, both are kept, and no output remains."""
    monkeypatch.setitem(SIZES, "S0", Size(3_000, 30, 300))
    document, results = tmp_path / "performance.md", tmp_path / "kept.json"
    document.write_text("<!-- bench:growth_offline -->\nold\n<!-- end -->\n")
    given = ["S0", "--folder", str(tmp_path), "--results", str(results), "--document", str(document)]
    assert growth_offline.main([*given, "--memory", "2GiB", "--until", "etl"]) == 0
    kept = json.loads(results.read_text())["S0"]
    assert list(kept["stages"]) == list(STAGES[:2])
    assert not any("failed" in row for row in kept["stages"].values())
    assert kept["users"] == 30
    assert kept["stages"]["etl"]["peak_mib"] > 50
    assert "etl over DuckDB" in document.read_text()
    assert not (tmp_path / "S0" / "out").exists()
    bar = duckdb_etl.write_tables(tmp_path / "S0", tmp_path / "bar")
    distinct = pq.read_table(tmp_path / "S0" / "transactions.parquet").select(["basket_id", "item_id"])
    assert bar == distinct.group_by(["basket_id", "item_id"]).aggregate([]).num_rows


@pytest.mark.parametrize(
    ("words", "reason"),
    [(["S7"], "no size is called S7"), (["--memory", "much"], "much is no amount of memory")],
)
def test_what_cannot_be_measured_is_refused(
    words: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        growth_offline.main(words)
    assert reason in capsys.readouterr().err
