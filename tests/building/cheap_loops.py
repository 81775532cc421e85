"""A shop whose receipts arrive in daily files, and stages after etl that train nothing."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from export_scripts import build
from export_scripts.freshness import inputs
from export_scripts.receipts.meta import read_meta
from export_scripts.retrain import retrain
from export_scripts.retraining.journal import Run
from export_scripts.settings import Settings, load_settings
from operations.outputs import Outputs
from operations.releases.stores.store import Repository, open_repository
from tests.building.runs import make_run
from tests.running.scripted_server import Hours, ScriptedServer

MINUTES = 1.0  # thirteen looks


@dataclass
class CheapLoop:
    """`trained` has a line for each stage that ran."""

    root: Path
    changes: dict[str, Any] = field(default_factory=dict)
    hours: Hours = field(default_factory=Hours)
    place: str = ""  # of the repository; by default below the root

    def __post_init__(self) -> None:
        self.out = Outputs(self.root / "out")
        self.repository: Repository = open_repository(self.place or self.root / "repository")
        self.server = ScriptedServer(self.repository)

    @property
    def settings(self) -> Settings:
        shop = {"data.transactions": self.root / "receipts", "retrain.minutes": MINUTES}
        return load_settings(overrides=shop | self.changes)

    def sell(self, day: int, item: str = "milk") -> None:
        """The receipts of one more day arrive."""
        folder = self.root / "receipts"
        folder.mkdir(exist_ok=True)
        at = [f"2024-03-{day:02d}T{hour:02d}:00:00" for hour in range(8, 20)]
        lines = {"basket_id": [f"{day}-{n // 2}" for n in range(12)], "item_id": ["bread", item] * 6}
        pd.DataFrame(lines | {"timestamp": at}).to_csv(folder / f"2024-03-{day:02d}.csv", index=False)

    def run(self, **settings: Any) -> Run:
        """Once around."""
        self.changes = settings
        return retrain(self.settings, self.out.root, self.repository, self.server, self.hours.clock)

    @property
    def trained(self) -> list[str]:
        place = self.root / "trained"
        return place.read_text().split() if place.exists() else []


def replace_training(patch: pytest.MonkeyPatch, loop: CheapLoop) -> None:
    """Have train, evaluate and export write something that depends on the data."""

    def note(stage: str) -> str:
        with (loop.root / "trained").open("a") as file:
            file.write(f"{stage}\n")
        return read_meta(loop.out.data)["fingerprint"]

    def train(settings: Settings, data: Path, target: Path) -> Path:
        target.write_text(note("train"))
        return target

    def evaluate(settings: Settings, data: Path, checkpoint: Path, target: Path, **_: object) -> Path:
        target.write_text(json.dumps({"known": {"n": 9, "hr_at_10": 0.2, "ndcg_at_10": 0.1}}))
        note("evaluate")
        return target

    def export(settings: Settings, data: Path, checkpoint: Path, metrics: Path, target: Path) -> Path:
        fingerprint = note("export")
        shutil.rmtree(target, ignore_errors=True)
        about = {"data": {"fingerprint": fingerprint}, "metrics": json.loads(metrics.read_text())}
        return make_run(target, int(fingerprint[:6], 16), **about)

    class Unread:
        """Reading the code takes longer than everything else here."""

        def digest(self, module: str) -> str:
            return module

    patch.setattr(inputs, "SourceTree", Unread)
    for stage in (train, evaluate, export):
        patch.setattr(build, stage.__name__, stage)


def make_loop_with_news(root: Path, monkeypatch: pytest.MonkeyPatch) -> CheapLoop:
    """Make a shop with release 1 of its first day, and the receipts of the second."""
    loop = CheapLoop(root)
    replace_training(monkeypatch, loop)
    loop.sell(1)
    assert loop.run().release == 1
    loop.sell(2, "eggs")
    return loop
