"""Unloads a version, even one whose load failed.

Triton keeps a failed version on its books, and /v2/health/ready false, until that version has been loaded
once and unloaded again. Loading the others without it does not help, so another release's files stand in.
"""

from operations.errors import CestaError
from operations.records.contract import kind_of
from operations.releases.configs import with_versions
from operations.releases.model_control import READY, UNLOADED, ModelControl
from operations.releases.store import Repository


def unload(control: ModelControl, repository: Repository, model: str, release: int) -> None:
    """Unload ``release`` of a part, so that nothing stays on the server's books; others stay loaded."""
    if control.states(model).get(release) not in (READY, UNLOADED):
        _load_stand_in(control, repository, model, release)
    control.set_versions(model, control.ready(model) - {release})
    control.wait_unloaded(model, release)


def _load_stand_in(control: ModelControl, repository: Repository, model: str, release: int) -> None:
    """Load files that load well under the number of those that do not, which return to their place."""
    ready = control.ready_parts()
    like = _model_to_copy(ready, model)
    config = with_versions(control.config(like), ready.get(model, set()) | {release})
    config.name = model
    folder, other = f"{model}/{release}", f"{like}/{max(ready[like])}"
    with repository.substitute(folder, other, aside=f".failed-{model}-{release}"):
        control.load(config)


def _model_to_copy(ready: dict[str, set[int]], model: str) -> str:
    """The model itself if a version of it is ready, else one that does the same for another contract."""
    for name in (model, *ready):
        if name in ready and kind_of(name) == kind_of(model):
            return name
    raise CestaError(f"no version of {model} is ready; restart the server")
