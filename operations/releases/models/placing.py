"""Which Triton models hold a release.

All versions of a Triton model have one config. Releases of one contract are therefore versions of the same
models. Releases of another contract have models of their own, such as ``candidate_sampler_1a2b3c4d``. The
ensembles have one name each: only one release at a time answers by it.
"""

from operations.errors import CestaError
from operations.records.contract import (
    ENSEMBLE,
    MODELS,
    MORE_ENSEMBLES,
    MORE_PARTS,
    SAMPLER,
    SCORER,
    holds_releases,
    kind_of,
)
from operations.records.manifest import ContractRecord, ReleaseManifest
from operations.releases.models.contracts import ServedContract
from operations.releases.repository import numbers_of, read_release, releases
from operations.releases.stores.store import Repository


def models_of(release: ReleaseManifest) -> dict[str, str]:
    """Each part and ensemble of a release → the model in whose folder its files lie."""
    folders = {name.partition("/")[0] for name in release.files}
    return {model: model for model in MODELS} | {
        kind_of(folder) or folder: folder for folder in sorted(folders) if holds_releases(folder)
    }


def parts_of(release: ReleaseManifest) -> dict[str, str]:
    """Each part of a release → its model, in the order of loading: what is asked last is ready first."""
    models = models_of(release)
    return {part: models[part] for part in (SCORER, SAMPLER, *MORE_PARTS) if part in models}


def ensembles_of(release: ReleaseManifest) -> list[str]:
    """The ensembles that chain the parts of a release, ENSEMBLE first."""
    models = models_of(release)
    return [ensemble for ensemble in (ENSEMBLE, *MORE_ENSEMBLES) if ensemble in models]


def choose_models(contract: ContractRecord, repository: Repository) -> dict[str, str]:
    """The models for a new release: the plain names, unless releases of another contract have them."""
    owner, wanted = owner_of(SAMPLER, repository), ServedContract.of(contract)
    suffix = "" if owner is None or ServedContract.of(owner.contract) == wanted else f"_{wanted.digest}"
    parts = (SAMPLER, SCORER, *(contract.parts or {}))
    ensembles = (ENSEMBLE, *(contract.ensembles or {}))
    return {part: f"{part}{suffix}" for part in parts} | {ensemble: ensemble for ensemble in ensembles}


def owner_of(model: str, repository: Repository) -> ReleaseManifest | None:
    """The oldest readable release that a model holds: its contract is that of all."""
    for number in sorted(numbers_of(model, repository) & set(releases(repository))):
        try:
            release = read_release(repository, number)
        except CestaError:
            continue  # it cannot be served, so it needs no config
        if model in models_of(release).values():
            return release
    return None
