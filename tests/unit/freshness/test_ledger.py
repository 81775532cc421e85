"""The results that a second build may keep."""

from collections.abc import Callable
from pathlib import Path

import pytest

from export_scripts.freshness.ledger import Ledger


def writes(path: Path, text: str = "result") -> Callable[[], Path]:
    def work() -> Path:
        path.write_text(text)
        return path

    return work


def run(folder: Path, *, first: str = "a", second: str = "b", text: str = "result") -> tuple[bool, bool]:
    """Two stages in one build, of which the second reads the first's result; which of them ran?"""
    stage = Ledger(folder / "stages.json").once
    return (
        stage("first", [first], folder / "1", writes(folder / "1", text)),
        stage("second", [second, folder / "1"], folder / "2", writes(folder / "2")),
    )


def test_a_second_build_keeps_everything(tmp_path: Path) -> None:
    assert run(tmp_path) == (True, True)
    assert run(tmp_path) == (False, False)


def test_a_change_runs_its_stage(tmp_path: Path) -> None:
    run(tmp_path)
    assert run(tmp_path, second="other") == (False, True)


def test_a_stage_that_writes_another_result_runs_those_that_read_it(tmp_path: Path) -> None:
    run(tmp_path)
    assert run(tmp_path, first="other", text="another result") == (True, True)


def test_a_stage_that_repeats_its_result_runs_no_other(tmp_path: Path) -> None:
    run(tmp_path)
    assert run(tmp_path, first="other") == (True, False)


def test_what_a_stage_reads_is_not_run_together(tmp_path: Path) -> None:
    """Settings "ab" and "c" are not settings "a" and "bc"."""
    once = Ledger(tmp_path / "stages.json").once
    once("stage", ["ab", "c"], tmp_path / "1", writes(tmp_path / "1"))
    assert once("stage", ["a", "bc"], tmp_path / "1", writes(tmp_path / "1"))


def test_a_missing_result_is_made_again(tmp_path: Path) -> None:
    run(tmp_path)
    (tmp_path / "1").unlink()
    assert run(tmp_path) == (True, False)


def test_a_result_that_a_stage_by_hand_replaced_is_made_again(tmp_path: Path) -> None:
    """`cesta train --set …` between two builds, or a checkpoint cut off by a full disk."""
    run(tmp_path)
    (tmp_path / "1").write_text("another")
    assert run(tmp_path) == (True, False)


def test_both_results_of_stages_by_hand_are_made_again(tmp_path: Path) -> None:
    """`cesta train --set …` and then `cesta evaluate --set …`, which fit each other."""
    run(tmp_path)
    (tmp_path / "1").write_text("another")
    (tmp_path / "2").write_text("another")
    assert run(tmp_path) == (True, True)


def test_a_stage_that_dies_is_not_fresh(tmp_path: Path) -> None:
    """This holds even if the result of an earlier build lies at its place."""
    run(tmp_path)

    def dies() -> Path:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Ledger(tmp_path / "stages.json").once("first", ["other"], tmp_path / "1", dies)
    assert run(tmp_path) == (True, False)


OLD = '{"first": ["0", "0"], "second": ["0", "0"]}'


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"first": "an old version\'s key"}', OLD, "\x00\x01"]
)
def test_a_ledger_that_is_damaged_or_older_keeps_nothing(tmp_path: Path, content: str) -> None:
    run(tmp_path)
    (tmp_path / "stages.json").write_text(content)
    assert run(tmp_path) == (True, True)


def test_a_moved_folder_stays_fresh(tmp_path: Path) -> None:
    """Nothing in the ledger is a path."""
    (tmp_path / "here").mkdir()
    run(tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    assert run(tmp_path / "there") == (False, False)
