"""The places of a build's outputs in its folder, and the default folder.

That is `artifacts` in the checkout, or in the current folder if cesta is installed from a wheel.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from operations.shipped import ROOT, is_checkout

ARTIFACTS: Final = (ROOT if is_checkout() else Path()) / "artifacts"
ITEMS: Final = "items.json"  # in `data`: names and categories, which the gateway gives out


@dataclass(frozen=True)
class Outputs:
    """The places of a build's outputs in the folder ``root``."""

    root: Path

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def checkpoint(self) -> Path:
        return self.root / "checkpoint.pt"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics.json"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def repository(self) -> Path:
        return self.root / "repository"

    @property
    def scores(self) -> Path:
        return self.root / "scores"

    @property
    def gateway(self) -> Path:
        return self.root / "gateway"
