"""The kept answers of a replay: ranks by release and day, so that a killed replay goes on by day."""

import hashlib
import io
import json
from pathlib import Path
from typing import Final, TypedDict

import numpy as np

from export_scripts.quality.metrics import Ranks
from operations.records.atomic import write_file

ABOUT: Final = "about.json"


class About(TypedDict):
    """What a release's making took."""

    cpu_s: float  # of the training


class KeptRelease:
    """The folder of one release of a replay: a file of ranks for each question set that it answered."""

    def __init__(self, folder: Path):
        self.folder = folder

    def has(self, name: str) -> bool:
        """Was this question set answered?"""
        return self._path(name).exists()

    def keep(self, name: str, ranks: Ranks) -> None:
        """Write the ranks of a question set whole or not at all."""
        content = io.BytesIO()
        np.save(content, ranks.astype(np.float32))  # places 0 to 19, or MISSED, which float32 holds
        self.folder.mkdir(parents=True, exist_ok=True)
        write_file(self._path(name), content.getvalue())

    def read(self, name: str) -> Ranks:
        """The ranks of a question set."""
        ranks: Ranks = np.load(self._path(name)).astype(np.float64)
        return ranks

    @property
    def about(self) -> About | None:
        """What its training took; None before its end."""
        path = self.folder / ABOUT
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def tell(self, about: About) -> None:
        """Note that the training has ended."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_file(self.folder / ABOUT, json.dumps(about).encode())

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npy"


def day_name(day: int) -> str:
    """The question set of a day."""
    return f"day-{day:03d}"


def settings_name(start: str, *parts: str) -> str:
    """A folder's name for all that decides the answers, except the code."""
    return f"{start}-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:10]}"
