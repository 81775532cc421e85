"""Where a build leaves things below its folder, and that folder by default."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

ARTIFACTS: Final = Path(__file__).resolve().parent.parent / "artifacts"
ITEMS: Final = "items.json"  # in `data`: names and categories, which the gateway gives out


@dataclass(frozen=True)
class Outputs:
    """Where a build leaves things below its folder."""

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
