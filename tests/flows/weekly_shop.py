"""A small shop whose receipts arrive in two parts, and the settings of a build in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from export_scripts.build import Promotion, build
from export_scripts.settings import load_settings
from tests.building.shops import make_shop

BASKETS, DAYS = 600, 60
LATE = 80  # baskets: eight days
CHEAP = """
[data]
transactions = "{receipts}"
products = "{products}"

[retrieval]
epochs = 1
dimensions = 8
uniform_negatives = 16

[train]
epochs = 2

[evaluate]
bootstrap = 20
"""


class WeeklyShop:
    """A small shop below ``root``: its receipts arrive in two parts. ``out`` is the folder of its build."""

    def __init__(self, root: Path) -> None:
        self.root, self.out, self.folder = root, root / "artifacts", root / "receipts"
        shop = make_shop(root / "all", np.random.default_rng(1), baskets=BASKETS, days=DAYS)
        lines = pd.read_csv(shop.transactions, dtype=str, keep_default_na=False)
        late = lines["basket_id"].isin(lines["basket_id"].unique()[-LATE:])
        self._early, self._late, self._products = lines[~late], lines[late], shop.products
        self.folder.mkdir()
        self._write(self._early, "week-1.csv")

    def _write(self, lines: pd.DataFrame, name: str) -> None:
        lines.to_csv(self.folder / f".{name}", index=False)
        (self.folder / f".{name}").rename(self.folder / name)

    def build(self) -> None:
        """Make release 1 of the first part of the receipts."""
        settings = load_settings(Path(self.settings()))
        assert build(settings, self.out, Promotion()) == 1

    def next_week(self, at_night: bool = False) -> None:
        """The last baskets arrive; perhaps the shop sells all of them at three in the night."""
        lines = self._late
        if at_night:
            lines = lines.assign(timestamp=lines["timestamp"].str[:10] + "T03:00:00")
        self._write(lines, "week-2.csv")

    def settings(self) -> str:
        """The path of a toml for a build in seconds."""
        path = self.root / "shop.toml"
        text = CHEAP.format(receipts=self.folder, products=self._products)
        path.write_text(text)
        return str(path)
