"""Releases of drawn tables, and their table in the document."""

from pathlib import Path
from typing import Any

import numpy as np

from ensemble.reference import Reference
from export_scripts.settings import load_settings
from loadtests.users import drawn, tables
from loadtests.users.drawn import Sizes, draw_questions, write_drawn_run
from operations.records.manifest import verify_run

SIZES = Sizes(users=50, items=300, baskets=2, dimensions=8, hidden=4)


def test_a_drawn_run_can_be_published_and_knows_its_questions(tmp_path: Path, monkeypatch: Any) -> None:
    """Chunks do not show. Every question names a user and items of the run, and gets answers."""
    monkeypatch.setattr(drawn, "CHUNK", 20)
    write_drawn_run(SIZES, load_settings(), tmp_path / "run")
    described = verify_run(tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert all(pair.answer.item_ids[0] for pair in described.golden)

    reference = Reference.load(tmp_path / "run")
    users = set()
    for question in draw_questions(SIZES, 40, seed=1):
        basket = [item.encode() for item in question.basket]
        query = reference.vocabulary.query(basket, question.user_id.encode())
        assert (query.unknown_items, len(query.basket)) == (0, len(basket))
        users.add(query.user_row)
    assert 0 not in users
    assert len(users) > 20

    histories = reference.sampler.arrays.histories
    assert np.diff(histories.user_offsets).tolist() == [0] + [2] * 50
    assert (np.diff(histories.times.reshape(-1, 2)) > 0).all()  # oldest first
    assert (histories.times < reference.sampler.now).all()


def test_the_document_gets_a_column_for_each_size(tmp_path: Path) -> None:
    memory = {"all": {"pss": 900.0, "mapped": 400.0}, tables.SAMPLER: {"pss": 300.0, "mapped": 250.0}}
    load = {n: {"rps": 9.0, "p50_ms": 1.234, "p99_ms": 5.0, "cpu_us": 1_400, "errors": 0} for n in ("1", "8")}
    row = SIZES._asdict() | {"release_mib": 2_000, "scorer_mib": 700, "ids_mib": 250, "publish_s": 12.0}
    row |= {"start_s": 4.0, "memory_fresh": memory, "memory": memory, "memory_of_two": memory, "load": load}
    steps = {
        "verify": 3.0,
        "trial": 5.0,
        "load ncf_scorer": 0.5,
        "load candidate_sampler": 1.0,
        "switch": 0.006,
    }
    row |= {"promotion_s": 10.0, "promotion_steps_s": steps}
    document = tmp_path / "performance.md"
    document.write_text("<!-- bench:users_run -->\n<!-- end -->\n<!-- bench:users -->\n<!-- end -->\n")
    machine = {"cores": 2, "cpu": "some CPU"}
    result = {
        "rows": [row, row | {"users": 5_000}],
        "machine": machine,
        "started": "2026-11-30T09:00:00+00:00",
    }
    tables.write(result | {"minutes": 3.0, "busy_cores_before": 0.0}, document)
    text = document.read_text()
    assert "|  | 50 | 5,000 |\n| --- | ---: | ---: |\n" in text
    assert "| samplers | 50 + 250 MiB | 50 + 250 MiB |" in text
    assert "| load | 1.5 s | 1.5 s |\n| switch | 6 ms | 6 ms |" in text
    assert "300 items; baskets of three items, 2 for each user; vectors of 8" in text
