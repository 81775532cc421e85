"""Which Triton models hold a release.

All versions of a Triton model have one config. Releases of one contract are therefore versions of the same
two models. Releases of another contract have models of their own, such as ``candidate_sampler_1a2b3c4d``.
"""

from operations.errors import CestaError
from operations.records.contract import ENSEMBLE, MODELS, SAMPLER, SCORER, kind_of
from operations.records.manifest import ContractRecord, ReleaseManifest
from operations.releases.models.contracts import ServedContract
from operations.releases.repository import numbers_of, read_release, releases
from operations.releases.stores.store import Repository


def models_of(release: ReleaseManifest) -> dict[str, str]:
    """SAMPLER, SCORER and ENSEMBLE → the model in whose folder the files of a release lie."""
    folders = {name.partition("/")[0] for name in release.files}
    return {model: model for model in MODELS} | {
        kind: folder for folder in folders if (kind := kind_of(folder)) is not None
    }


def choose_models(contract: ContractRecord, repository: Repository) -> dict[str, str]:
    """The models for a new release: the plain names, unless releases of another contract have them."""
    owner, wanted = owner_of(SAMPLER, repository), ServedContract.of(contract)
    suffix = "" if owner is None or ServedContract.of(owner.contract) == wanted else f"_{wanted.digest}"
    return {SAMPLER: f"{SAMPLER}{suffix}", SCORER: f"{SCORER}{suffix}", ENSEMBLE: ENSEMBLE}


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
