"""Makes a release as it would have been made at a moment: training and export on the receipts before it."""

import hashlib
import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow.parquet as pq

from ensemble.reference import Reference
from export_scripts.engines.local import ThisProcess
from export_scripts.quality.against.comparison import Candidate, as_released
from export_scripts.receipts import meta
from export_scripts.receipts.shop import Shop, load_shop
from export_scripts.scorer.checkpoint import load_checkpoint, load_tower
from export_scripts.settings import Settings
from export_scripts.snapshots import partials
from export_scripts.train import train
from operations.records.contract import read_contract

EARLIER: Final = "earlier.pt"


@dataclass(frozen=True)
class Trained:
    """A model trained on a part of the receipts."""

    shop: Shop  # that part
    candidate: Candidate
    settings: Settings

    def released_before(self, basket: int) -> Reference:
        """The model as it would have been released just before a basket."""
        contract = read_contract()
        return as_released(self.shop, basket, self.candidate, self.settings, contract, ThisProcess())


def train_on(data: Path, end: int, folder: Path, settings: Settings, counts: Path) -> tuple[Trained, float]:
    """Train on the baskets of ``data`` before number ``end``, in ``folder``; the CPU seconds it took.

    Trainings share the partial ``counts``. A killed training goes on where it was, and its seconds before do
    not count then. One that has ended is loaded. A checkpoint EARLIER there is what it goes on from.
    """
    tables, checkpoint = folder / "data", folder / "checkpoint.pt"
    write_part(data, end, tables)
    counts.mkdir(parents=True, exist_ok=True)
    if not (shared := folder / partials.FOLDER).exists():
        shared.symlink_to(counts.resolve())
    begun = time.process_time()
    if not checkpoint.exists():
        earlier = folder / EARLIER
        train(settings, tables, checkpoint, earlier if earlier.exists() else None)
    cpu_s = time.process_time() - begun
    return load_trained(tables, checkpoint, settings), cpu_s


def load_trained(tables: Path, checkpoint: Path, settings: Settings) -> Trained:
    """Load the model of a training."""
    shop = load_shop(tables)
    model, prior = load_checkpoint(checkpoint, shop, settings)
    candidate = Candidate(model, prior, load_tower(checkpoint), checkpoint.parent / partials.FOLDER)
    return Trained(shop, candidate, settings)


def write_part(data: Path, end: int, target: Path) -> None:
    """Write etl's tables with the baskets before number ``end`` only; items and users keep their rows."""
    target.mkdir(parents=True, exist_ok=True)
    baskets = pq.read_table(data / "baskets.parquet").slice(0, end)
    lines = sum(baskets["size"].to_pylist())
    pq.write_table(baskets, target / "baskets.parquet")
    pq.write_table(
        pq.read_table(data / "interactions.parquet").slice(0, lines), target / "interactions.parquet"
    )
    for name in ("catalog.parquet", "users.parquet"):
        shutil.copyfile(data / name, target / name)
    facts = json.loads((data / meta.FILE).read_text(encoding="utf-8"))
    facts["fingerprint"] = hashlib.sha256(f"{facts['fingerprint']} {end}".encode()).hexdigest()
    (target / meta.FILE).write_text(json.dumps(facts), encoding="utf-8")
