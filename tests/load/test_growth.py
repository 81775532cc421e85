"""Growth: its table and plot in the document, and one size on a real server."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import loadtests.growth.__main__ as growth
from export_scripts.settings import load_settings
from loadtests.bench.agreement import agree
from loadtests.growth import tables
from loadtests.peers.chain import Chain
from loadtests.peers.whole_catalog import WholeCatalog
from loadtests.questions import Question, stream, visits_of_test_month
from loadtests.running.environments import ROOT
from loadtests.running.processes import MarkedProcesses
from loadtests.wires import PLAIN, Answer
from operations.outputs import Outputs
from tests.running import needs

if TYPE_CHECKING:
    from pathlib import Path

    from tests.building.slices import Built

LISTS = {"vectors": 100_000, "lists": 632, "probes": 40, "recall": 0.981}
EXACT = {"vectors": 27_985, "lists": 0, "probes": 0, "recall": 1.0}


def row(items: int, p50_ms: float, index: dict[str, Any], **changes: Any) -> dict[str, Any]:
    load = {"rps": 1_000.0, "p50_ms": p50_ms, "p99_ms": 3 * p50_ms, "cpu_us": 1_234, "errors": 0}
    figures = {"items": items, "index": index, "recall": 0.9812}
    figures |= {"load": {"1": load, "8": load, "128": load | {"rps": 4_160.0}}}
    figures |= {"whole_catalog": load | {"connections": 8, "rps": 148.6}}
    figures |= {"memory_mib": {"pss": 400.0, "mapped": 150.0}, "start_s": 2.5, "release_mib": 1_500}
    return figures | {"export_s": 12.0, "index_s": 3.25} | changes


def answer(raw: dict[str, Any]) -> Answer:
    return Answer(raw["item_ids"], raw["scores"])


FOUND: dict[str, Any] = {
    "rows": [row(27_985, 2.0, EXACT), row(100_000, 3.0, LISTS)],
    "machine": {"cores": 2, "cpu": "some CPU"},
    "plan": {"repetitions": 3, "seconds": 5.0},
    "started": "2026-11-23T09:00:00+00:00",
    "minutes": 9.5,
    "busy_cores_before": 0.0,
}


def test_the_document_gets_table_and_plot(tmp_path: Path) -> None:
    """Only the part between the marks changes: one line per size, and the growth of the latency."""
    document = tmp_path / "performance.md"
    marks = "".join(
        f"<!-- bench:{name} -->\nold\n<!-- end -->\n" for name in ("growth_run", "growth", "rows")
    )
    document.write_text(f"before\n{marks}after\n")
    tables.write(FOUND, document)
    text = document.read_text()
    assert text.startswith("before\n")
    assert text.endswith("<!-- bench:rows -->\nold\n<!-- end -->\nafter\n")
    lines = [
        [cell.strip() for cell in line.split("|")] for line in text.splitlines() if line.startswith("| ")
    ]
    assert [line[1] for line in lines] == ["items", "---:", "27,985", "100,000"]
    assert [line[-3:-1] for line in lines[2:]] == [["all compared", "0.981"], ["40 of 632 lists", "0.981"]]
    names = lines[0]
    first = dict(zip(names, lines[2], strict=True))
    assert (first["requests/s, 128"], first["whole catalog by torch"]) == ("4,160", "149")
    assert first["times"] == "28"  # the best of each: 4,160 / 148.6
    assert "grows 1.50 times at most, of eight 1.50 times." in text
    assert "![Latency and memory by number of items](images/growth.svg)" in text


def test_the_plot_is_an_svg_with_every_value(tmp_path: Path) -> None:
    root = ET.fromstring(tables.plot(FOUND["rows"]))
    labels = [element.text for element in root.iter() if element.tag.endswith("}text")]
    assert {"28 k", "100 k", "400", "250", "2", "3"} <= set(labels)
    assert sum(element.tag.endswith("}polyline") for element in root.iter()) == 4


def test_a_busy_machine_is_told() -> None:
    assert "not for quoting" in tables.sections(FOUND | {"busy_cores_before": 0.5})["growth_run"]
    assert "not for quoting" not in tables.sections(FOUND)["growth_run"]


def test_the_web_app_is_asked_by_no_more_than_it_answers_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that accepts every connection answers the last one after the time of that many answers."""
    monkeypatch.setattr(growth, "WORKERS", 2)
    assert growth.count_connections(0.013) == 8
    assert growth.count_connections(1.1) == 4
    assert growth.count_connections(9.0) == 2  # one for each worker, come what may


def test_the_web_app_is_asked_over_fresh_connections() -> None:
    closing = growth.close_connections(PLAIN).request(Question(("a",)))
    assert b"\r\nconnection: close\r\n" in closing
    assert closing.replace(b"connection: close\r\n", b"") == PLAIN.request(Question(("a",)))


def test_a_worker_that_still_loads_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait lasts while CPU time is used. The test scripts it, because a busy machine may pause a real
    worker as long.
    """
    processes = MarkedProcesses(["true"], {}, ROOT)
    used_s = iter([0.0, 0.3, 0.3, 0.6, 0.6, 0.6])  # at the start and at the end of each look
    monkeypatch.setattr(processes, "cpu", lambda: {1: next(used_s)})
    monkeypatch.setattr(growth, "IDLE_S", 0.01)
    growth._wait_until_idle(processes)
    assert not [*used_s]


def test_a_web_app_and_the_graph_answer_of_the_same_grown_catalog(built: Built, tmp_path: Path) -> None:
    """Torch from the grown checkpoint ranks as the released graph does, with copies in the answers."""
    out = Outputs(tmp_path / "grown")
    growth.publish_grown(built, 20_000, out)
    questions = [question.json for question in stream(visits_of_test_month(built.data, built.run))[:20]]
    by_torch = WholeCatalog(out.run, out.checkpoint).recommend(questions)
    by_graph = WholeCatalog(out.run).recommend(questions)
    assert all(agree(answer(one), answer(other)) for one, other in zip(by_torch, by_graph, strict=True))
    assert any("-" in item_id for reply in by_torch for item_id in reply["item_ids"])
    shared = [
        len({*chain_reply["item_ids"][:10]} & {*whole["item_ids"][:10]})
        for chain_reply, whole in zip(Chain(out.run).recommend(questions), by_torch, strict=True)
    ]
    assert np.mean(shared) > 5  # of ten: the sampler proposes what the whole catalog's best are


@pytest.mark.triton
def test_a_catalog_by_lists_is_exported_and_served(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The catalog is too large to compare all items, and its tables are so large that they lie beside the
    graph.
    """
    needs.a_tritonserver()
    if not shutil.which("wrk"):
        pytest.skip("wrk is not installed; on Debian: apt-get install wrk")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    few = load_settings(overrides={"sampler.scan_up_to": 50_000, "sampler.similar": growth.SIMILAR})
    monkeypatch.setattr(growth, "load_settings", lambda **_: few)
    document = tmp_path / "performance.md"
    document.write_text("<!-- bench:growth -->\n<!-- end -->\n")
    sizes = ["--sizes", "60000", "--repetitions=1", "--seconds=1"]
    out = [f"--release={built.root}", f"--out={tmp_path / 'out'}", f"--document={document}"]
    assert growth.main([*sizes, *out]) == 0
    (measured,) = json.loads(next((tmp_path / "out").glob("growth-*.json")).read_text())["rows"]
    assert (measured["items"], measured["index"]["vectors"]) == (60_000, 60_000)
    assert 0 < measured["index"]["probes"] <= measured["index"]["lists"] == 490
    assert measured["index"]["recall"] >= 0.98
    assert measured["recall"] > 0.95
    assert all(load["rps"] > 0 and not load["errors"] for load in measured["load"].values())
    assert measured["load"].keys() == {"1", "8", "128"}
    assert measured["whole_catalog"]["rps"] > 0
    assert not measured["whole_catalog"]["errors"]
    assert 0 < measured["memory_mib"]["mapped"] < measured["memory_mib"]["pss"]
    assert "| 60,000 |" in document.read_text()
    assert not list((tmp_path / "out" / "growth").glob("*/"))
