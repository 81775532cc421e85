"""A drop of the ratios of one run is seen, the spread of the last runs is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loadtests.trend import FEWEST, LAST, find_drops, least, main, ratios_of_run, read_history

QUALITY = {group: {"ndcg_at_10": 0.3} for group in ("known", "unknown", "repeat", "explore")}
SIMPLE = {group: {"ndcg_at_10": 0.2} for group in ("known", "unknown", "repeat")} | {
    "explore": {"ndcg_at_10": 0.0}
}


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    """Results of one run, as the three commands write them."""
    measured(tmp_path, over_best_peer=2.0)
    return tmp_path


def measured(artifacts: Path, *, over_best_peer: float | None, rps: float = 600.0, ndcg: float = 0.3) -> None:
    bench = {"over_best_peer": over_best_peer, "over_limit": None, "p99_at_half_of_saturation_ms": 3.0}
    growth = {"items": 27_000, "recall": 0.99, "whole_catalog": {"rps": 100.0}}
    load = {"1": {"rps": 200.0}, "8": {"rps": rps}}
    metrics = QUALITY | {
        "known": {"ndcg_at_10": ndcg},
        "baselines": {"popularity": SIMPLE, "overlap": SIMPLE},
    }
    write(artifacts / "bench" / "2026-11-30T020000.json", {"ratios": bench})
    write(artifacts / "bench" / "growth-2026-11-30T030000.json", {"rows": [growth | {"load": load}]})
    write(artifacts / "metrics.json", metrics)


def write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


def test_the_ratios_of_a_run(artifacts: Path) -> None:
    """No ms, nothing that was not measured, and no division by a baseline that finds nothing."""
    write(
        artifacts / "bench" / "2026-11-29T020000.json", {"ratios": {"over_best_peer": 9.0}}
    )  # of an earlier run
    assert ratios_of_run(artifacts) == {
        "bench.over_best_peer": 2.0,
        "growth.over_whole_catalog.27000": 6.0,
        "growth.recall.27000": 0.99,
        "quality.over_best_baseline.known": 1.5,
        "quality.over_best_baseline.unknown": 1.5,
        "quality.over_best_baseline.repeat": 1.5,
    }


def runs(*values: float) -> list[dict[str, Any]]:
    return [{"at": f"2026-11-{day:02}", "ratios": {"speed": value}} for day, value in enumerate(values, 1)]


def test_a_drop_lies_below_the_median_by_more_than_the_runs_lie_apart() -> None:
    """The median is 2.05, and the runs lie 0.3 apart: 1.75 is still within."""
    history = runs(1.9, 2.0, 2.0, 2.1, 2.1, 2.2)
    assert least([1.9, 2.0, 2.0, 2.1, 2.1, 2.2]) == pytest.approx(1.75)
    assert find_drops({"speed": 1.76}, history) == []
    (drop,) = find_drops({"speed": 1.74}, history)
    assert drop.startswith("speed is 1.74; the median of the last 6 runs is 2.05, and at least 1.75 ")


def test_equal_runs_leave_room_for_rounding() -> None:
    history = runs(*[1.5] * FEWEST)
    assert find_drops({"speed": 1.486}, history) == []
    assert find_drops({"speed": 1.484}, history) != []


def test_only_the_last_runs_count() -> None:
    """The first one would widen the spread to 9."""
    assert find_drops({"speed": 1.0}, runs(11.0, *[2.0] * LAST)) != []


def test_a_few_runs_judge_nothing() -> None:
    assert find_drops({"speed": 0.1}, runs(*[2.0] * (FEWEST - 1))) == []


def test_a_ratio_that_is_not_measured_any_more_is_a_drop() -> None:
    assert find_drops({}, runs(2.0)) == ["speed was not measured; the run of 2026-11-01 has 2"]


@pytest.mark.parametrize(
    ("worse", "name"),
    [
        ({"over_best_peer": 1.5}, "bench.over_best_peer is 1.5"),
        ({"over_best_peer": None}, "bench.over_best_peer was not measured"),
        ({"over_best_peer": 2.0, "rps": 300.0}, "growth.over_whole_catalog.27000 is 3"),
        ({"over_best_peer": 2.0, "ndcg": 0.25}, "quality.over_best_baseline.known is 1.25"),
    ],
)
def test_a_drop_fails_and_stays_out_of_the_history(
    artifacts: Path, worse: dict[str, Any], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It fails each night until it is mended or accepted. Accepted, it is the new measure."""
    file = artifacts / "trend" / "history.jsonl"
    for _ in range(FEWEST):
        assert main(["--artifacts", str(artifacts)]) == 0
    before = file.read_text()
    measured(artifacts, **worse)
    for _ in range(2):
        assert main(["--artifacts", str(artifacts)]) == 1
        assert name in capsys.readouterr().out
    assert file.read_text() == before
    assert main(["--artifacts", str(artifacts), "--accept", "smaller machines"]) == 0
    assert [run["accepted"] for run in read_history(file)] == ["smaller machines"]
    assert main(["--artifacts", str(artifacts)]) == 0


def test_what_is_missing_is_named(artifacts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (artifacts / "metrics.json").unlink()
    assert main(["--artifacts", str(artifacts)]) == 2
    assert 'has no metrics.json; run "make evaluate" first' in capsys.readouterr().err
