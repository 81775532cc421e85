"""Growth: its table and plot in the document, and one size on a real server."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

import pytest

from export_scripts.settings import load_settings
from loadtests import growth, growth_tables
from tests import needs

if TYPE_CHECKING:
    from pathlib import Path

    from slices import Built

LISTS = {"vectors": 100_000, "lists": 632, "probes": 40, "recall": 0.981}
EXACT = {"vectors": 27_985, "lists": 0, "probes": 0, "recall": 1.0}


def row(items: int, p50_ms: float, index: dict[str, Any], **changes: Any) -> dict[str, Any]:
    load = {"rps": 1_000.0, "p50_ms": p50_ms, "p99_ms": 3 * p50_ms, "cpu_us": 1_234, "errors": 0}
    found = {"items": items, "load": {"1": load, "8": load}, "index": index, "recall": 0.9812}
    found |= {"memory_mib": {"pss": 400.0, "mapped": 150.0}, "start_s": 2.5, "release_mib": 1_500}
    return found | {"export_s": 12.0, "index_s": 3.25} | changes


FOUND: dict[str, Any] = {
    "rows": [row(27_985, 2.0, EXACT), row(100_000, 3.0, LISTS)],
    "machine": {"cores": 2, "cpu": "some CPU"},
    "plan": {"repetitions": 3, "seconds": 5.0},
    "started": "2026-11-23T09:00:00+00:00",
    "minutes": 9.5,
    "busy_cores_before": 0.0,
}


def test_the_document_gets_table_and_plot(tmp_path: Path) -> None:
    """Between its marks and nowhere else; one line a size, and how much the latency grew."""
    document = tmp_path / "performance.md"
    marks = "".join(
        f"<!-- bench:{name} -->\nold\n<!-- end -->\n" for name in ("growth_run", "growth", "rows")
    )
    document.write_text(f"before\n{marks}after\n")
    growth_tables.write(FOUND, document)
    text = document.read_text()
    assert text.startswith("before\n")
    assert text.endswith("<!-- bench:rows -->\nold\n<!-- end -->\nafter\n")
    lines = [
        [cell.strip() for cell in line.split("|")] for line in text.splitlines() if line.startswith("| ")
    ]
    assert [line[1] for line in lines] == ["items", "---:", "27,985", "100,000"]
    assert [line[-3:-1] for line in lines[2:]] == [["all compared", "0.981"], ["40 of 632 lists", "0.981"]]
    assert "grows 1.50 times at most, of eight 1.50 times." in text
    assert "![Latency and memory by number of items](images/growth.svg)" in text


def test_the_plot_is_an_svg_with_every_value(tmp_path: Path) -> None:
    root = ET.fromstring(growth_tables.plot(FOUND["rows"]))
    said = [element.text for element in root.iter() if element.tag.endswith("}text")]
    assert {"28 k", "100 k", "400", "250", "2", "3"} <= set(said)
    assert sum(element.tag.endswith("}polyline") for element in root.iter()) == 4


def test_a_busy_machine_is_told() -> None:
    assert "not for quoting" in growth_tables.sections(FOUND | {"busy_cores_before": 0.5})["growth_run"]
    assert "not for quoting" not in growth_tables.sections(FOUND)["growth_run"]


@pytest.mark.triton
def test_a_catalog_by_lists_is_exported_and_served(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More items than are all compared, and tables so large that they lie beside the graph."""
    needs.a_tritonserver()
    if not shutil.which("wrk"):
        pytest.skip("wrk is not installed; on Debian: apt-get install wrk")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    few = load_settings(overrides={"sampler.scan_up_to": 50_000})
    monkeypatch.setattr(growth, "load_settings", lambda: few)
    document = tmp_path / "performance.md"
    document.write_text("<!-- bench:growth -->\n<!-- end -->\n")
    sizes = ["--sizes", "60000", "--repetitions=1", "--seconds=1"]
    out = [f"--release={built.root}", f"--out={tmp_path / 'out'}", f"--document={document}"]
    assert growth.main([*sizes, *out]) == 0
    (found,) = json.loads(next((tmp_path / "out").glob("growth-*.json")).read_text())["rows"]
    assert (found["items"], found["index"]["vectors"]) == (60_000, 60_000)
    assert 0 < found["index"]["probes"] <= found["index"]["lists"] == 490
    assert found["index"]["recall"] >= 0.98
    assert found["recall"] > 0.95
    assert all(load["rps"] > 0 and not load["errors"] for load in found["load"].values())
    assert 0 < found["memory_mib"]["mapped"] < found["memory_mib"]["pss"]
    assert "| 60,000 |" in document.read_text()
    assert not list((tmp_path / "out" / "growth").glob("*/"))
