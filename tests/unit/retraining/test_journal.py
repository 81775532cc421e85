"""OUT/retraining.json as an earlier run, another version of cesta or a person has left it."""

import json
from pathlib import Path

import pytest

from export_scripts.receipts.problems import BadInput, Problem
from export_scripts.retraining.journal import NAME, Journal, read_journal
from operations.errors import CestaError
from operations.releases.retraining import read_retraining
from operations.releases.stores.store import open_repository

AT = "2026-11-01T00:00:00+00:00"


def write(root: Path, **run: object) -> None:
    (root / NAME).write_text(json.dumps({"runs": [{"started_at": AT, **run}]}))


@pytest.mark.parametrize(
    "run",
    [{"started_at": "yesterday"}, {"ended_at": "later"}, {"canary": {"release": 1, "percent": float("nan")}}],
)
def test_a_record_that_cannot_be_used_is_named(tmp_path: Path, run: dict[str, object]) -> None:
    write(tmp_path, **run)
    with pytest.raises(CestaError, match=r"retraining\.json is damaged: the key .*; delete it"):
        read_journal(tmp_path)


def test_the_record_of_a_newer_version_is_kept(tmp_path: Path) -> None:
    """It knows other outcomes of steps and of a canary, and more keys."""
    newer = {
        "steps": [{"name": "warm", "started_at": AT, "outcome": "skipped"}],
        "verdict": {"found": "better", "requests": 1, "objections": [], "figures": []},
        "weather": {"rain": True},
    }
    write(tmp_path, **newer)
    journal = Journal(tmp_path, open_repository(tmp_path / "repository"), 60.0)
    with journal.recording():
        pass
    (first, second) = json.loads((tmp_path / NAME).read_text())["runs"]
    assert {name: first[name] for name in newer} == newer
    assert second["started_at"] == journal.run.started_at


def test_the_status_quotes_no_receipts(tmp_path: Path) -> None:
    """Everybody with a key of a shop reads it, and a message of etl holds ids of customers."""
    repository = open_repository(tmp_path / "repository")
    journal = Journal(tmp_path, repository, 60.0)
    problem = Problem("sales", "column user_id is empty", "export it again", rows=((3, "anna@example.com"),))
    with pytest.raises(BadInput), journal.recording():
        raise BadInput([problem])
    state = read_retraining(repository)
    assert state
    assert state.last
    assert "sales: column user_id is empty" in state.last.sentence
    assert "anna" not in state.last.sentence
    assert "anna" in (tmp_path / NAME).read_text()
