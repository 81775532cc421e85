"""Old releases unloaded and deleted; never the active one, the one before it, a canary or a newer one."""

from operations.errors import CestaError
from operations.records.contract import ENSEMBLE
from operations.releases import history
from operations.releases.configs import (
    PARTS,
    Served,
    canary_on_disk,
    configs_of,
    write_configs,
)
from operations.releases.model_control import ModelControl
from operations.releases.repository import releases, version_folders
from operations.releases.store import Repository, delete_folder, give_up, locked
from operations.releases.switch import agreed_release

LEAST = 2  # the active release, and the one to roll back to


def retire(repository: Repository, control: ModelControl | None = None, keep: int = LEAST) -> list[int]:
    """Delete releases older than the active one, but for the ``keep`` that were active last; their numbers.

    Raises CestaError if ``keep`` is below LEAST, if nothing is active, or if the server serves another
    release than the repository says.
    """
    if keep < LEAST:
        raise CestaError(f"--keep {keep}: at least {LEAST} stay, the active release and the one before it")
    with locked(repository):
        active = agreed_release(repository, control)
        line = history.line_of_succession(repository)
        canary = canary_on_disk(repository)
        kept = {*line[-keep:], *([canary.release] if canary else [])}
        folders = [path for path in version_folders(repository) if int(path.name) < active]
        found, whole = {int(path.name) for path in folders} - kept, set(releases(repository))
        old = [number for number in sorted(found) if give_up(repository, number, number in whole)]
        if control is not None:
            _unload(control, old)
        if old:
            # What the next start may load beside the active one, before its folder goes.
            served = Served(active, history.previous(repository), *(canary or ()))
            write_configs(repository, configs_of(repository, served))
        for number in old:
            history.append(repository, "retire", number, server=control.address if control else None)
            _delete(repository, number)
    return old


def _unload(control: ModelControl, old: list[int]) -> None:
    for model in PARTS:
        ready = control.ready(model)
        leaving = ready & set(old)
        if leaving:
            control.load_part(model, ready - leaving)
        for number in leaving:
            control.wait_unloaded(model, number)


def _delete(repository: Repository, release: int) -> None:
    """The ensemble's folder first: without its manifest there is no release, whatever else is left of it."""
    for model in (ENSEMBLE, *PARTS):
        delete_folder(repository / model / str(release))
