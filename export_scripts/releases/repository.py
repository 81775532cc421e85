"""A published repository, read: which releases it holds, which is active, what each says of itself."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from export_scripts import manifest
from export_scripts.contract import ENSEMBLE, MODELS, read_config
from export_scripts.errors import CestaError

CONFIG = "config.pbtxt"


def releases(repository: Path) -> list[int]:
    """Numbers of the whole releases, ascending: the manifest is the last that a publisher moves in."""
    found = (repository / ENSEMBLE).glob(f"*/{manifest.NAME}")
    return sorted(int(path.parent.name) for path in found if path.parent.name.isdecimal())


def active_release(repository: Path) -> int | None:
    """The release that the ensemble is pinned to, which the next start serves; None if there is none."""
    config = repository / ENSEMBLE / CONFIG
    if not config.exists():
        return None
    steps = read_config(config).ensemble_scheduling.step
    if not steps or steps[0].model_version < 1:
        raise CestaError(f"{config} pins no release; cesta did not publish it, choose another folder")
    return int(steps[0].model_version)


def version_folders(repository: Path) -> list[Path]:
    """The numbered folders of all three models, those of half-published releases included."""
    return [path for model in MODELS for path in (repository / model).glob("*") if path.name.isdecimal()]


def release_folders(repository: Path, release: int) -> list[Path]:
    """The three folders of one release, the ensemble's last."""
    return [repository / model / str(release) for model in MODELS]


def read_release(repository: Path, release: int | None = None) -> dict[str, Any]:
    """Manifest of a release, by default of the active one. Raises CestaError if there is none."""
    number = active_release(repository) if release is None else release
    if number is None:
        raise CestaError(f'no release in {repository}; run "make demo" or "cesta publish" first')
    path = repository / ENSEMBLE / str(number) / manifest.NAME
    if not path.exists():
        listed = ", ".join(map(str, releases(repository))) or "none"
        raise CestaError(f"no release {number} in {repository}: {path} is missing; there is {listed}")
    return manifest.read(path)


@contextmanager
def locked(repository: Path) -> Iterator[None]:
    """Alone in changing what is active; a second one gets a CestaError. A killed one holds nothing."""
    folder = os.open(repository, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(folder)
        raise CestaError(f"{repository} is being changed by another cesta; wait until it is done") from None
    try:
        yield
    finally:
        os.close(folder)  # and with it the lock
