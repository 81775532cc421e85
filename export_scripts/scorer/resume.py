"""What a training has finished so far, kept beside its checkpoint, so that a killed one goes on where it was.

OUT/training holds, each whole or not there at all:

made_from.json   data, settings, code and libraries: the state of anything else is thrown away
arrays/          the snapshot with its retrieval tower, the longest single step
prior.npy        the fitted prior
epoch.pt         after each epoch: weights, optimizer, random numbers, curve

Candidates are sampled again: it takes no longer than writing and reading their gigabytes.
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
from operations.records.atomic import staged_folder, write_file

log = structlog.get_logger()

FOLDER: Final = "training"  # beside the checkpoint
MARKER: Final = "made_from.json"
WHOLE: Final = "histories.times.npy"  # tells a folder of arrays from somebody else's


class Stateful(Protocol):
    """A module, an optimizer or a schedule."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: dict[str, Any]) -> Any: ...


class Resume:
    """The state of one training in ``folder``; what was kept of another one is removed on opening.

    Raises WontOverwrite if ``folder`` is somebody else's.
    """

    def __init__(self, folder: Path, made_from: Mapping[str, Any]):
        self._folder = folder
        self._arrays, self._prior, self._epoch = (
            folder / name for name in ("arrays", "prior.npy", "epoch.pt")
        )
        key = json.dumps(made_from, sort_keys=True).encode()
        marker = folder / MARKER
        if not (marker.is_file() and marker.read_bytes() == key):
            with staged_folder(folder, marker=MARKER) as empty:
                (empty / MARKER).write_bytes(key)
        elif found := [p.stem for p in (self._arrays, self._prior, self._epoch) if p.exists()]:
            log.info("resumed", folder=str(folder), kept=found, epochs=self._epochs())

    def arrays(self, work: Callable[[], SamplerArrays]) -> SamplerArrays:
        """The kept arrays, mapped into memory; those that ``work`` makes where there are none."""
        if not self._arrays.exists():
            with staged_folder(self._arrays, marker=WHOLE) as folder:
                save_arrays(work(), folder)
        return load_arrays(self._arrays)

    def prior(self, work: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32]:
        """The kept prior (F,); that of ``work`` where there is none."""
        if not self._prior.exists():
            content = io.BytesIO()
            np.save(content, work(), allow_pickle=False)
            write_file(self._prior, content.getvalue())
        weights: NDArray[np.float32] = np.load(self._prior, allow_pickle=False)
        return weights

    def keep_epoch(
        self, parts: Mapping[str, Stateful], rng: np.random.Generator, curve: list[dict[str, float]]
    ) -> None:
        """Replace the state of the epoch before: ``parts`` by name, both random numbers, the curve so far."""
        content = io.BytesIO()
        state = {name: part.state_dict() for name, part in parts.items()}
        drawn = {"numpy": json.dumps(rng.bit_generator.state), "torch": torch.get_rng_state()}
        torch.save({"parts": state, "random": drawn, "curve": curve}, content)
        write_file(self._epoch, content.getvalue())

    def last_epoch(
        self, parts: Mapping[str, Stateful], rng: np.random.Generator
    ) -> list[dict[str, float]] | None:
        """Put ``parts`` and random numbers where the last epoch left them; its curve, or None without one."""
        if (saved := self._saved()) is None:
            return None
        for name, part in parts.items():
            part.load_state_dict(saved["parts"][name])
        rng.bit_generator.state = json.loads(saved["random"]["numpy"])
        torch.set_rng_state(saved["random"]["torch"])
        curve: list[dict[str, float]] = saved["curve"]
        return curve

    def discard(self) -> None:
        """Remove everything: the checkpoint is written."""
        write_file(
            self._folder / MARKER, b""
        )  # first: whatever a kill leaves of the rest, nobody believes it
        for path in (self._prior, self._epoch):
            path.unlink(missing_ok=True)
        shutil.rmtree(self._arrays, ignore_errors=True)
        shutil.rmtree(self._folder)

    def _saved(self) -> dict[str, Any] | None:
        return torch.load(self._epoch, weights_only=True) if self._epoch.exists() else None

    def _epochs(self) -> int:
        saved = self._saved()
        return len(saved["curve"]) - 1 if saved else 0
