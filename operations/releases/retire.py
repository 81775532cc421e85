"""Unloads and deletes old releases; never the active one, the previous one, a canary or a newer one."""

import contextlib
from typing import Final

from operations.errors import CestaError
from operations.records.contract import ENSEMBLE, MODELS, MORE_ENSEMBLES
from operations.releases import history
from operations.releases.history import Action
from operations.releases.mirror.local_files import files_read_by, local_files
from operations.releases.model_control import ModelControl
from operations.releases.models.configs import (
    Served,
    canary_on_disk,
    configs_of,
    write_configs,
)
from operations.releases.repository import numbers_of, part_models, releases, version_numbers
from operations.releases.signatures.intact import check_loaded
from operations.releases.stores.listed_bucket import listed
from operations.releases.stores.store import Repository
from operations.releases.switch import agreed_release

LEAST: Final = 2  # the active release, and the one to roll back to


def retire(repository: Repository, control: ModelControl | None = None, keep: int = LEAST) -> list[int]:
    """Delete releases older than the active one, except the ``keep`` that were active last; their numbers.

    Raises CestaError if ``keep`` is below LEAST, if nothing is active, or if the server serves another
    release than the repository says.
    """
    if keep < LEAST:
        raise CestaError(f"--keep {keep}: at least {LEAST} stay, the active release and the one before it")
    repository = listed(repository)
    with repository.lock():
        active = agreed_release(repository, control)
        canary = canary_on_disk(repository)
        staying = {*history.line_of_succession(repository)[-keep:], *([canary.release] if canary else [])}
        older = {number for number in version_numbers(repository) if number < active} - staying
        complete = set(releases(repository))
        retired = [n for n in sorted(older) if n in complete or repository.stop_publisher(n)]
        if control is not None:
            with contextlib.closing(local_files(repository)) as local:
                check_loaded(files_read_by(control, local), control, *retired)
            _unload(control, retired)
        if retired:
            # First the configs that the next start reads, then the folders.
            served = Served(active, history.previous(repository), *(canary or ()))
            write_configs(repository, configs_of(repository, served))
        for number in retired:
            server = control.address if control else None
            history.append(repository, Action.RETIRE, number, server=server)
            _delete(repository, number)
    return retired


def _unload(control: ModelControl, retired: list[int]) -> None:
    for model, ready in control.ready_parts().items():
        leaving = ready & set(retired)
        if leaving:
            control.set_versions(model, ready - leaving)
        for number in leaving:
            control.wait_unloaded(model, number)


def _delete(repository: Repository, release: int) -> None:
    """Delete the ensemble's folder first: without its manifest there is no release, whatever is left.

    The models of a contract go with its last release.
    """
    for ensemble in (ENSEMBLE, *MORE_ENSEMBLES):
        repository.delete_folder(f"{ensemble}/{release}")
    for model in part_models(repository):
        repository.delete_folder(f"{model}/{release}")
        if model not in MODELS and not numbers_of(model, repository):
            repository.delete_folder(model)
