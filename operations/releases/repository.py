"""Reads a published repository: its releases, the active one, and their manifests."""

from typing import Final

from operations.errors import CestaError
from operations.records import manifest
from operations.records.contract import ENSEMBLE, MORE_PARTS, SAMPLER, SCORER, kind_of, read_config
from operations.records.manifest import ReleaseManifest
from operations.records.place import Place
from operations.releases.stores.store import Repository
from operations.shipped import command

CONFIG: Final = "config.pbtxt"


def releases(repository: Repository) -> list[int]:
    """Numbers of the complete releases, ascending. Publishing moves the manifest in last."""
    manifests = (repository / ENSEMBLE).glob(f"*/{manifest.NAME}")
    return sorted(int(path.parent.name) for path in manifests if path.parent.name.isdecimal())


def active_release(repository: Repository) -> int | None:
    """The release that the ensemble's config pins, which the next start serves; None if there is none."""
    config = repository / ENSEMBLE / CONFIG
    if not config.exists():
        return None
    steps = read_config(config).ensemble_scheduling.step
    if not steps or steps[0].model_version < 1:
        raise CestaError(f"{config} pins no release; cesta did not publish it, choose another folder")
    return int(steps[0].model_version)


def part_models(repository: Repository) -> list[str]:
    """The models that hold parts of releases, whatever their contract, in the order of loading."""
    names = [place.name for place in (repository / "").glob("*")]
    kinds = (SCORER, SAMPLER, *MORE_PARTS)
    return [name for kind in kinds for name in sorted(names) if kind_of(name) == kind]


def numbers_of(model: str, repository: Repository) -> set[int]:
    """Numbers of a model's version folders, those of incomplete releases included."""
    return {int(path.name) for path in (repository / model).glob("*") if path.name.isdecimal()}


def version_numbers(repository: Repository) -> set[int]:
    """Numbers of all models' version folders, those of incomplete releases included."""
    return {
        number for model in (ENSEMBLE, *part_models(repository)) for number in numbers_of(model, repository)
    }


def manifest_place(repository: Repository, release: int) -> Place:
    """The place of a release's manifest."""
    return repository / ENSEMBLE / str(release) / manifest.NAME


def require_active(repository: Repository) -> int:
    """The active release. Raises CestaError if there is none."""
    release = active_release(repository)
    if release is None:
        raise CestaError(f'no release in {repository}; run "{command("demo")}" or "cesta publish" first')
    return release


def read_release(repository: Repository, release: int | None = None) -> ReleaseManifest:
    """The manifest of a release, by default of the active one. Raises CestaError if there is none."""
    number = require_active(repository) if release is None else release
    path = manifest_place(repository, number)
    if not path.exists():
        listed = ", ".join(map(str, releases(repository))) or "none"
        raise CestaError(f"no release {number} in {repository}: {path} is missing; there is {listed}")
    return ReleaseManifest.read(path)
