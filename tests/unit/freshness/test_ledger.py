"""What a second build may keep."""

from collections.abc import Callable
from pathlib import Path

import pytest

from export_scripts.freshness import ledger
from export_scripts.freshness.ledger import Ledger, file_state


@pytest.fixture(autouse=True)
def code(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The digest of the code, to be changed."""
    digests = ["one"]
    monkeypatch.setattr(ledger, "code_digest", lambda: digests[0])
    return digests


def writes(path: Path, text: str = "result") -> Callable[[], Path]:
    def work() -> Path:
        path.write_text(text)
        return path

    return work


def run(folder: Path, *, first: str = "a", second: str = "b") -> tuple[bool, bool]:
    """Two stages in one build; which of them ran?"""
    stage = Ledger(folder / "stages.json").once
    return (
        stage("first", [first], folder / "1", writes(folder / "1")),
        stage("second", [second], folder / "2", writes(folder / "2")),
    )


def test_a_second_build_keeps_everything(tmp_path: Path) -> None:
    assert run(tmp_path) == (True, True)
    assert run(tmp_path) == (False, False)


def test_a_change_runs_its_stage_and_those_after_it(tmp_path: Path) -> None:
    run(tmp_path)
    assert run(tmp_path, second="other") == (False, True)
    assert run(tmp_path, first="other", second="other") == (True, True)


def test_new_code_runs_everything(tmp_path: Path, code: list[str]) -> None:
    run(tmp_path)
    code[0] = "two"
    assert run(tmp_path) == (True, True)


def test_a_missing_result_is_made_again(tmp_path: Path) -> None:
    run(tmp_path)
    (tmp_path / "1").unlink()
    assert run(tmp_path) == (True, False)


def test_a_result_that_a_stage_by_hand_replaced_is_made_again(tmp_path: Path) -> None:
    """`cesta train --set …` between two builds, or a checkpoint cut off by a full disk."""
    run(tmp_path)
    (tmp_path / "1").write_text("another")
    assert run(tmp_path) == (True, False)


def test_a_stage_that_dies_is_not_fresh(tmp_path: Path) -> None:
    """Even where the result of an earlier build lies at its place."""
    run(tmp_path)

    def dies() -> Path:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Ledger(tmp_path / "stages.json").once("first", ["other"], tmp_path / "1", dies)
    assert run(tmp_path) == (True, False)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"first": "an old version\'s key"}', "\x00\x01"])
def test_a_damaged_ledger_keeps_nothing(tmp_path: Path, content: str) -> None:
    run(tmp_path)
    (tmp_path / "stages.json").write_text(content)
    assert run(tmp_path) == (True, True)


def test_a_moved_folder_stays_fresh(tmp_path: Path) -> None:
    """Nothing in the ledger is a path."""
    (tmp_path / "here").mkdir()
    run(tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    assert run(tmp_path / "there") == (False, False)


def test_touching_an_input_shows(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("a")
    before = file_state(table, None)
    table.write_text("ab")
    assert file_state(table, None) != before


def test_the_code_includes_the_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other sizes in config.pbtxt need another graph."""
    names = {path.name for path in ledger._sources()}
    assert {"config.pbtxt", "train.py", "kernels.py"} <= names
