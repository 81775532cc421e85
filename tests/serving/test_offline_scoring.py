"""`cesta score` and a real server answer alike, except for what the report explains."""

from __future__ import annotations

import csv
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from export_scripts.score import Wanted, score
from export_scripts.scoring.comparison import TIED, UNEXPLAINED
from export_scripts.scoring.results import COMPARISON
from export_scripts.settings import load_settings
from operations.releases.stores.store import open_repository
from tests.running.live import Live
from tests.running.questions import Question, over_http

pytestmark = pytest.mark.triton

USERS = 40


def test_the_report_explains_each_difference_to_the_server(live: Live, tmp_path: Path) -> None:
    """What the server's list lacks of the whole catalog's best 20 is what the report names, and no more."""
    users, file = live.user_ids[:USERS], tmp_path / "users.csv"
    file.write_text("\n".join(["user_id", *users]) + "\n")
    wanted = Wanted(20, users=file, compared=USERS)
    repository, place = open_repository(live.built.repository), tmp_path / "scores"
    manifest = score(load_settings(), repository, str(place), wanted, live.release)
    explained: dict[str, set[str]] = {user: set() for user in users}
    tied: dict[str, set[str]] = {user: set() for user in users}
    with (place / COMPARISON).open(newline="") as text:
        for row in csv.DictReader(text):
            assert row["cause"] != UNEXPLAINED
            (tied if row["cause"] == TIED else explained)[row["id"]].add(row["item_id"])
    whole: dict[str, list[str]] = {user: [] for user in users}
    for path in sorted(place.glob("*/scores.parquet")):
        for row in pq.ParquetFile(path).read(["user_id", "item_id"]).to_pylist():
            whole[row["user_id"]].append(row["item_id"])
    reply = over_http(live, [Question(user_id=user) for user in users])
    for user, served in zip(users, reply.item_ids.tolist(), strict=True):
        assert set(whole[user]) - set(served) - tied[user] == explained[user], user
    assert any(explained.values())  # else the test would show nothing
    assert manifest.comparison
    assert manifest.comparison["questions"] == USERS
