"""A slice of the Complete Journey as a shop of its own: real receipts, and a release in seconds."""

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from export_scripts import complete_journey
from export_scripts.receipts.shop import Shop, load_shop
from export_scripts.settings import Settings, load_settings
from operations.outputs import Outputs
from operations.releases.repository import require_active
from operations.releases.stores.store import open_repository

TABLES, ARTIFACTS, STATE = "tables", "artifacts", "state"  # folders of a slice; the state holds its keys

EVERY = 10  # one household in so many, by its number: about 250, of every size
DAYS = 240  # the last so many of the year; the splits need about 110 of them

# Cheaper, never different in kind: every source, feature and tower is there, only worse trained.
CHEAP: dict[str, Any] = {
    "splits": {"training_days": 28, "training_questions": 0, "validation_days": 14, "test_days": 14},
    "retrieval": {"epochs": 2, "batch_size": 1024, "uniform_negatives": 256, "dimensions": 16},
    "train": {"epochs": 1, "validation_queries": 300},
    "evaluate": {"queries": 300, "full_catalog": 50, "bootstrap": 50},
}


@dataclass(frozen=True)
class Slice:
    """The paths of the two tables; their columns have the shop's own names."""

    transactions: Path
    products: Path

    def settings(self, **tables: Any) -> Settings:
        """The shop's columns and drop list, cheap training, and `tables` over both."""
        merged = {"data": {"transactions": self.transactions, "products": self.products}}
        for layer in (complete_journey.OVERLAY, CHEAP, tables):
            merged = {
                name: merged.get(name, {}) | layer.get(name, {}) for name in merged.keys() | layer.keys()
            }
        return load_settings(overrides=merged)


@dataclass(frozen=True)
class Built(Outputs):
    """The outputs of `build` below `root`, and what it was made from."""

    release: int
    settings: Settings = field(repr=False)
    shop: Shop = field(repr=False)  # a failing test would print all of it


def build_slice(folder: Path) -> Built:
    """Cut a slice and build its release below `folder`: about 12 s on two cores."""
    from export_scripts.build import build  # not above: it needs torch, and `open_slice` does not

    build(write_slice(folder / TABLES).settings(), folder / ARTIFACTS)
    return open_slice(folder)


def open_slice(folder: Path) -> Built:
    """Open what `build_slice` built, in this process or in another."""
    out = Outputs(folder / ARTIFACTS)
    release = require_active(open_repository(out.repository))
    return Built(out.root, release, _tables(folder / TABLES).settings(), load_shop(out.data))


def write_slice(folder: Path) -> Slice:
    """Cut `EVERY`-th household's last `DAYS` days out of the year and write them into `folder`."""
    transactions, products = complete_journey.tables()
    lines = pd.read_parquet(transactions)
    since = lines["transaction_timestamp"].max().normalize() - pd.Timedelta(days=DAYS)
    cut = lines[(lines["household_id"] % EVERY == 0) & (lines["transaction_timestamp"] >= since)]
    folder.mkdir(parents=True, exist_ok=True)
    cut.to_parquet(folder / "transactions.parquet", index=False)
    listed = pd.read_parquet(products)
    listed[listed["product_id"].isin(cut["product_id"])].to_parquet(folder / "products.parquet", index=False)
    return _tables(folder)


def _tables(folder: Path) -> Slice:
    return Slice(folder / "transactions.parquet", folder / "products.parquet")


if __name__ == "__main__":  # python -m tests.building.slices FOLDER: for tests without torch, see conftest.py
    os.environ["XDG_STATE_HOME"] = str(Path(sys.argv[1]) / STATE)
    build_slice(Path(sys.argv[1]))
