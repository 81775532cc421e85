"""The places of a build's outputs in its folder, and the default folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

ARTIFACTS: Final = Path(__file__).resolve().parent.parent / "artifacts"
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
    def gateway(self) -> Path:
        return self.root / "gateway"
