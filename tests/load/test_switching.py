"""Starting and switching: the tables in the document, and one repetition on a real `cesta serve`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

import loadtests.switching.__main__ as switching
from ensemble.candidate_sampler import kernels, nearest, sampler, scan
from ensemble.candidate_sampler.query import Query
from ensemble.candidate_sampler.sampler import CandidateSampler
from loadtests.questions import stream, visits_of_test_month
from loadtests.switching import tables
from loadtests.switching.replies import Reply
from tests.running import needs

if TYPE_CHECKING:
    from pathlib import Path

    from tests.building.slices import Built

KEYS = [key.format(when) for key in tables.CHANGES.values() for when in ("rest", "load")] + list(
    tables.SINGLE.values()
)
WINDOW = {"requests": 200, "p50_ms": 2.0, "p99_ms": 9.0, "most_ms": 12.0, "failed": 0}
FOUND: dict[str, Any] = {
    "figures": switching.summarise_figures([dict.fromkeys(KEYS, value) for value in (3.0, 1.0, 2.0)]),
    "windows": dict.fromkeys(tables.WINDOWS, WINDOW),
    "mixed": [],
    "a_mix_shows": 0.99,
    "machine": {"cores": 2, "cpu": "some CPU"},
    "plan": {"repetitions": 3, "rate": 200.0, "seconds": 5.0},
    "started": "2026-11-23T09:00:00+00:00",
    "minutes": 2.5,
    "busy_cores_before": 0.0,
}
PARTS = ("switching_run", "switching_single", "switching_changes", "switching_load")


def test_the_document_gets_every_table(tmp_path: Path) -> None:
    """The tables go between the marks of the repository's document."""
    document = tmp_path / "performance.md"
    document.write_text("".join(f"<!-- bench:{name} -->\nbefore\n<!-- end -->\n" for name in PARTS))
    tables.write(FOUND, document)
    text = document.read_text()
    assert "before\n" not in text
    assert "| start to first answer, kernels not compiled | 2.00 s | 1.00 to 3.00 |" in text
    assert "| promotion: the switch | 2.00 ms | 2.00 ms |" in text
    assert "| the second around the promotion's switch | 200 | 2.0 | 9.0 | 12.0 | 0 |" in text
    assert "not for quoting" not in text
    assert all(f"<!-- bench:{name} -->" in tables.DOCUMENT.read_text() for name in PARTS)


def test_a_busy_machine_is_told() -> None:
    assert "not for quoting" in tables.sections(FOUND | {"busy_cores_before": 0.5})["switching_run"]


def test_latencies_are_medians_and_failures_add_up() -> None:
    repetitions = [{"rest": WINDOW | {"p99_ms": p99, "most_ms": p99, "failed": 1}} for p99 in (3.0, 1.0, 2.0)]
    (latency,) = switching.summarise_windows(repetitions).values()
    assert latency == {"requests": 600, "p50_ms": 2.0, "p99_ms": 2.0, "most_ms": 3.0, "failed": 3}


def test_an_empty_question_compiles_all_that_any_question_needs(built: Built) -> None:
    """The sampler runs an empty query at load, so that the first real query finds every kernel compiled."""
    loaded = CandidateSampler.load(built.run / "arrays")
    vocabulary = loaded.vocabulary()
    loaded.sample([Query()])
    compiled = _signatures()
    assert compiled["sample_batch"]
    category = next(filter(None, loaded.arrays.category_names.unpack()))
    for question in stream(visits_of_test_month(built.data, built.run))[:50]:
        basket, user_id = [item.encode() for item in question.basket], question.user_id.encode()
        loaded.sample([vocabulary.query(basket=basket, user_id=user_id)])
    loaded.sample([vocabulary.query(categories=[category]), Query()])
    assert _signatures() == compiled


def _signatures() -> dict[str, list[Any]]:
    """The signatures for which each kernel is compiled."""
    members = [item for module in (kernels, nearest, sampler, scan) for item in vars(module).items()]
    return {name: list(kernel.signatures) for name, kernel in members if hasattr(kernel, "signatures")}


@pytest.mark.triton
@pytest.mark.alone
@pytest.mark.timeout(300)
def test_releases_change_under_load_and_nobody_gets_a_wrong_answer(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both releases answer in the loop, and each answer is right for the release that it names."""
    needs.a_tritonserver()
    seen: list[list[Reply]] = []
    check = switching.find_mistakes
    monkeypatch.setattr(
        switching, "find_mistakes", lambda replies, expected: seen.append(replies) or check(replies, expected)
    )
    document = tmp_path / "performance.md"
    document.write_text("<!-- bench:switching_load -->\n<!-- end -->\n")
    few = ["--repetitions=1", "--seconds=1", "--rate=50"]
    out = [f"--release={built.root}", f"--out={tmp_path / 'out'}", f"--document={document}"]
    assert switching.main([*few, *out]) == 0
    results = json.loads(next((tmp_path / "out").glob("switching-*.json")).read_text())
    assert results["a_mix_shows"] > 0.5
    assert {reply.release for reply in seen[0]} == {switching.OURS, switching.AGAIN}
    assert results["windows"]["all"]["failed"] == 0
    assert all(window["requests"] > 20 for window in results["windows"].values())
    figures = {name: value["median"] for name, value in results["figures"].items()}
    assert all(value > 0 for name, value in figures.items() if not name.startswith("rollback"))
    assert figures["start_empty_s"] > figures["start_filled_s"]
    assert figures["rollback_rest_s"] < figures["promotion_rest_s"]
    assert "| during a promotion |" in document.read_text()
    assert not list((tmp_path / "out").glob("*/"))
