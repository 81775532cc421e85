"""A published repository, read: which releases it holds, which is active, what each says of itself."""

from typing import Any

from operations.errors import CestaError
from operations.records import manifest
from operations.records.contract import ENSEMBLE, MODELS, read_config
from operations.releases.store import Repository

CONFIG = "config.pbtxt"


def releases(repository: Repository) -> list[int]:
    """Numbers of the whole releases, ascending: the manifest is the last that a publisher moves in."""
    found = (repository / ENSEMBLE).glob(f"*/{manifest.NAME}")
    return sorted(int(path.parent.name) for path in found if path.parent.name.isdecimal())


def active_release(repository: Repository) -> int | None:
    """The release that the ensemble is pinned to, which the next start serves; None if there is none."""
    config = repository / ENSEMBLE / CONFIG
    if not config.exists():
        return None
    steps = read_config(config).ensemble_scheduling.step
    if not steps or steps[0].model_version < 1:
        raise CestaError(f"{config} pins no release; cesta did not publish it, choose another folder")
    return int(steps[0].model_version)


def version_folders(repository: Repository) -> list[Repository]:
    """The numbered folders of all three models, those of half-published releases included."""
    return [path for model in MODELS for path in (repository / model).glob("*") if path.name.isdecimal()]


def release_folders(repository: Repository, release: int) -> list[Repository]:
    """The three folders of one release, the ensemble's last."""
    return [repository / model / str(release) for model in MODELS]


def read_release(repository: Repository, release: int | None = None) -> dict[str, Any]:
    """Manifest of a release, by default of the active one. Raises CestaError if there is none."""
    number = active_release(repository) if release is None else release
    if number is None:
        raise CestaError(f'no release in {repository}; run "make demo" or "cesta publish" first')
    path = repository / ENSEMBLE / str(number) / manifest.NAME
    if not path.exists():
        listed = ", ".join(map(str, releases(repository))) or "none"
        raise CestaError(f"no release {number} in {repository}: {path} is missing; there is {listed}")
    return manifest.read(path)
