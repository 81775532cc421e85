"""The finished steps of a training, saved beside its checkpoint: a killed training continues from them.

The folder OUT/training holds these files, each either whole or missing:

made_from.json   data, settings, code and libraries; the steps of a training with others are removed
tower.pt         the retrieval tower, the longest single step
arrays/          the snapshot with its vectors
prior.npy        the fitted prior
epoch.pt         after each epoch: weights, optimizer, state of the random numbers, curve

Candidates are not saved: sampling them again takes no longer than writing and reading their gigabytes.
"""

import io
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import structlog
import torch
from numpy.typing import NDArray

from ensemble.candidate_sampler.arrays import SamplerArrays, load_arrays, save_arrays
from export_scripts.snapshots.retrieval.tower import TrainedTower
from operations.records.atomic import staged_folder, write_file

log = structlog.get_logger()

FOLDER: Final = "training"  # beside the checkpoint
MARKER: Final = "made_from.json"
ARRAYS_MARKER: Final = "histories.times.npy"  # only a folder with this file may be overwritten


class Stateful(Protocol):
    """A torch module, optimizer or schedule."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: dict[str, Any]) -> object: ...


class SavedTraining:
    """The finished steps of one training in ``folder``; those of a different training are removed at once.

    Raises WontOverwrite if ``folder`` was not written by cesta.
    """

    def __init__(self, folder: Path, made_from: Mapping[str, Any]):
        self._folder = folder
        self._tower, self._arrays, self._prior, self._epoch = (
            folder / name for name in ("tower.pt", "arrays", "prior.npy", "epoch.pt")
        )
        key = json.dumps(made_from, sort_keys=True).encode()
        marker = folder / MARKER
        if not (marker.is_file() and marker.read_bytes() == key):
            with staged_folder(folder, marker=MARKER) as empty:
                (empty / MARKER).write_bytes(key)
        elif steps := [p.stem for p in self._steps if p.exists()]:
            log.info("resumed", folder=str(folder), kept=steps, epochs=self._epochs())

    @property
    def _steps(self) -> tuple[Path, ...]:
        return self._tower, self._arrays, self._prior, self._epoch

    def load_or_train_tower(self, train: Callable[[], TrainedTower]) -> TrainedTower:
        """Load the saved tower; if there is none, ``train`` and save it first."""
        if not self._tower.exists():
            content = io.BytesIO()
            torch.save(train().state, content)
            write_file(self._tower, content.getvalue())
        return TrainedTower.load(torch.load(self._tower, weights_only=True))

    def load_or_make_arrays(self, make: Callable[[], SamplerArrays]) -> SamplerArrays:
        """Load the saved arrays, mapped into memory; if there are none, ``make`` and save them first."""
        if not self._arrays.exists():
            with staged_folder(self._arrays, marker=ARRAYS_MARKER) as folder:
                save_arrays(make(), folder)
        return load_arrays(self._arrays)

    def load_or_fit_prior(self, fit: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32]:
        """Load the saved weights of ``fit_prior``; if there are none, ``fit`` and save it first."""
        if not self._prior.exists():
            content = io.BytesIO()
            np.save(content, fit(), allow_pickle=False)
            write_file(self._prior, content.getvalue())
        weights: NDArray[np.float32] = np.load(self._prior, allow_pickle=False)
        return weights

    def save_epoch(
        self, parts: Mapping[str, Stateful], rng: np.random.Generator, curve: list[dict[str, float]]
    ) -> None:
        """Replace the saved epoch by ``parts``, by name, both random number generators, and the curve."""
        content = io.BytesIO()
        state = {name: part.state_dict() for name, part in parts.items()}
        random = {"numpy": json.dumps(rng.bit_generator.state), "torch": torch.get_rng_state()}
        torch.save({"parts": state, "random": random, "curve": curve}, content)
        write_file(self._epoch, content.getvalue())

    def restore_epoch(
        self, parts: Mapping[str, Stateful], rng: np.random.Generator
    ) -> list[dict[str, float]] | None:
        """Restore ``parts`` and the random number generators as the last saved epoch left them.

        Returns the curve up to that epoch, or None if no epoch was saved.
        """
        if (saved := self._read_epoch()) is None:
            return None
        for name, part in parts.items():
            part.load_state_dict(saved["parts"][name])
        rng.bit_generator.state = json.loads(saved["random"]["numpy"])
        torch.set_rng_state(saved["random"]["torch"])
        curve: list[dict[str, float]] = saved["curve"]
        return curve

    def discard(self) -> None:
        """Remove everything, because the checkpoint is written."""
        write_file(self._folder / MARKER, b"")  # first, so that no training uses what a kill may leave
        for path in (self._tower, self._prior, self._epoch):
            path.unlink(missing_ok=True)
        shutil.rmtree(self._arrays, ignore_errors=True)
        shutil.rmtree(self._folder)

    def _read_epoch(self) -> dict[str, Any] | None:
        return torch.load(self._epoch, weights_only=True) if self._epoch.exists() else None

    def _epochs(self) -> int:
        saved = self._read_epoch()
        return len(saved["curve"]) - 1 if saved else 0
